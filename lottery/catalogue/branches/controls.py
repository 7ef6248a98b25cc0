"""Controls that train as the recipe does: other weights, another mask, another optimizer or other data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from lottery.plan.origins import ABOVE, DENSE, at_the_point, in_any_mode, in_the_mode
from lottery.registry import branches, criteria
from lottery.values import Component

if TYPE_CHECKING:
    import torch

    from lottery.pruning.mask import Mask
    from lottery.pruning.scoring import Weights
    from lottery.pruning.start import Level, Start

Positive = Annotated[float, Field(gt=0)]
Kept = Literal["mode", "rewound"]  # weights as the mode of rewinding has them, or those of the rewind point
BISECTIONS = 20  # widths are whole numbers: a finer factor gives the same network


@branches.register(
    "reinit",
    source="Frankle & Carbin 2019",
    claim="initialization",
    own_trunk=True,
    origins={"": in_any_mode("drawn anew", "the ticket's")},
)
def reinit(level: Level, generator: torch.Generator) -> Start:
    """Random reinitialization: the ticket's mask on newly drawn weights, trained from step 0.

    With a rewind step k > 0 the control trains the full length, k steps more than the ticket.
    """
    return anew(level, level.mask, level.fresh(generator))


def of_the_mask(mask: str) -> dict[str, Any]:
    """Return the origins of a control that has another mask than the ticket, by its key `weights`."""
    return {"mode": in_the_mode(mask, DENSE), "rewound": at_the_point(mask)}


@branches.register(
    "shuffle",
    source="Frankle & Carbin 2019; Su et al. 2020",
    claim="mask",
    origins=of_the_mask("the ticket's, permuted"),
)
def shuffle(
    level: Level,
    generator: torch.Generator,
    *,
    scope: Literal["layer", "global"] = "layer",
    weights: Kept = "mode",
) -> Start:
    """The ticket's mask permuted within each layer, or over all layers together, on weights of the dense network.

    Over all layers means over all that are pruned: one with rate 0, or without a density where these are given, keeps
    its mask. The weights are those of the rewind point; in the modes `lr` and `finetune` the trained ones, and training
    goes on as the mode has it. With `weights: rewound` it trains from the rewind point in any mode.
    """
    import torch

    from lottery.pruning.mask import Mask

    mask = level.mask
    if scope == "layer":
        moved = {
            n: b.flatten()[torch.randperm(b.numel(), generator=generator)].reshape(b.shape) for n, b in mask.items()
        }
    else:
        names, shapes = level.pruning.shrinks(mask), mask.shapes()
        bits = torch.cat([mask[name].flatten() for name in names])
        parts = torch.split(bits[torch.randperm(len(bits), generator=generator)], [mask.sizes()[n] for n in names])
        moved = dict(mask) | {n: part.reshape(shapes[n]) for n, part in zip(names, parts, strict=True)}
    return under(level, Mask(moved), weights)


@branches.register(
    "random",
    source="Frankle & Carbin 2019; Greydanus & Kobak 2024",
    claim="mask",
    origins={"fresh": in_any_mode("drawn anew", "random"), **of_the_mask("random")},
)
def random(
    level: Level, generator: torch.Generator, *, weights: Literal["fresh", "rewound", "mode"] = "fresh"
) -> Start:
    """A random mask with the ticket's layer densities, on newly drawn weights: sparse training from scratch.

    With `weights: rewound` or `weights: mode` the mask is random but the weights are the dense network's own, which is
    `shuffle` with another draw.
    """
    from lottery.pruning.mask import Mask, keep_top
    from lottery.pruning.scoring import Context

    mask = level.mask
    dense = Mask.dense(mask)
    scores = criteria["random"].make(mask, Context(generator))
    chosen = keep_top(scores, dense, mask.alive())
    return anew(level, chosen, level.fresh(generator)) if weights == "fresh" else under(level, chosen, weights)


@branches.register(
    "one_shot",
    source="Frankle & Carbin 2019, section 4",
    claim="iteration",
    criterion=True,
    once=True,
    origins={"": in_the_mode("pruned once from the dense network", DENSE)},
)
def one_shot(level: Level, generator: torch.Generator) -> Start:
    """The trained dense network pruned once, by the recipe's criterion, to the ticket's count of weights; then rewound.

    The count is the ticket's in each layer, or over all layers together where the recipe prunes globally. In the modes
    `lr` and `finetune` the trained weights are kept, and training goes on as the mode has it. At level 1 it is the
    ticket itself, and left out of the plan, unless the criterion draws its scores.
    """
    from lottery.pruning.iterative import select
    from lottery.pruning.mask import Mask

    names = level.pruning.takes_part(level.mask)
    alive = {name: count for name, count in level.mask.alive().items() if name in names}
    target = sum(alive.values()) if level.pruning.scope == "global" else alive
    mask = select(level.dense, Mask.dense(level.mask), names, target, level.criterion(generator), level.rounds)
    return under(level, mask, "mode")


@branches.register(
    "retrain",
    source="survey: tickets under other optimizers",
    changes=("optimizer", "schedule", "warmup"),
    origins={"": in_the_mode("the ticket's", ABOVE, state="fresh")},
)
def retrain(
    level: Level, generator: torch.Generator, *, optimizer: Component, schedule: Component | None = None
) -> Start:
    """The ticket trained with another optimizer, and another schedule where one is given, from fresh state."""
    start = level.start
    spec = replace(start.spec, optimizer=optimizer)
    if schedule is not None:
        spec = replace(spec, schedule=schedule, warmup=None)
    return replace(start, spec=spec, optimizer_state=None)


@branches.register(
    "same_sign",
    source="Zhou et al. 2019",
    claim="signs",
    own_trunk=True,
    origins={"": in_any_mode("drawn anew with the original signs", "the ticket's")},
)
def same_sign(level: Level, generator: torch.Generator) -> Start:
    """The ticket's mask on newly drawn weights that have the sign of the original ones, trained from step 0.

    The original weights are those at the rewind point; biases and normalizations are newly drawn too.
    """
    original, drawn = level.rewound.weights, level.fresh(generator)
    signed = {name: drawn[name].abs() * sign_of(original[name]) for name in level.mask}
    return anew(level, level.mask, {**drawn, **signed})


@branches.register(
    "constant",
    source="Zhou et al. 2019",
    claim="magnitudes",
    own_trunk=True,
    origins={"": in_any_mode("one absolute value a layer, original signs", "the ticket's")},
)
def constant(level: Level, generator: torch.Generator, *, magnitude: Positive = 1.0) -> Start:
    """The ticket with only the sign of each weight left, trained from step 0.

    All weights of a layer have one absolute value: the standard deviation of its weights at the rewind point, pruned
    ones too, times `magnitude`. Biases and normalizations are those of the rewind point.
    """
    return anew(level, level.mask, signed_constant(level, magnitude))


@branches.register(
    "noise",
    source="Frankle, Schwab & Morcos 2020",
    origins={"": in_the_mode("the ticket's", ABOVE, change=", with noise added")},
)
def noise(level: Level, generator: torch.Generator, *, scale: Positive = 1.0) -> Start:
    """The ticket where its own training starts, with Gaussian noise added to its surviving weights.

    The noise has `scale` times the standard deviation of the layer's weights in the dense network, pruned ones too: at
    the rewind point, or at the end of training in the modes `lr` and `finetune`, whose tickets start from trained
    weights.
    """
    import torch

    start = level.start
    spread = level.rewound.weights if level.mode == "weights" else level.dense
    weights = dict(start.weights)
    for name, bits in level.mask.items():
        drawn = torch.randn(bits.shape, generator=generator) * bits
        weights[name] = weights[name] + scale * spread[name].std(correction=0) * drawn
    return replace(start, weights=weights)


@branches.register(
    "transplant",
    source="survey: masks of another seed",
    partner=True,
    claim="mask",
    origins=of_the_mask("that of the next seed's ticket"),
)
def transplant(level: Level, generator: torch.Generator, *, weights: Kept = "mode") -> Start:
    """The mask that another seed's ticket of this level has, on weights of this seed's dense network.

    Which weights these are, and how training goes on from them, is as in `shuffle`.
    """
    return under(level, level.partner.mask, weights)


@branches.register(
    "other_data",
    source="Morcos et al. 2019",
    changes=("data", "fingerprint", "steps", "own_steps", "evaluation_grid"),  # epochs of other data are other steps
    origins={"": in_the_mode("the ticket's", ABOVE, state="fresh", steps="T - k of the other data")},
)
def other_data(level: Level, generator: torch.Generator, *, dataset: Component) -> Start:
    """The ticket trained on another data set of the same shapes, from fresh optimizer state.

    Lengths in epochs, the rewind point's too, are passes over the other data.
    """
    return replace(level.start, dataset=dataset, optimizer_state=None)


@branches.register(
    "small_dense",
    source="Zhu & Gupta 2017; Liu et al. 2019",
    scales=True,
    claim="capacity",
    changes=("model",),
    origins={"": in_any_mode("drawn anew, of a narrower network", "none")},
)
def small_dense(level: Level, generator: torch.Generator) -> Start:
    """A dense network of equal size: the recipe's model with all widths scaled by one factor, trained from step 0.

    Of all factors from 0 to 1 the one whose network's number of parameters is nearest to that of the ticket, its
    surviving weights and all that cannot be pruned; the smaller network among equals.
    """
    from lottery.network.build import prunable
    from lottery.network.layout import state_of
    from lottery.pruning.mask import Mask

    pruned = sum(level.mask.sizes().values()) - sum(level.mask.alive().values())
    model = _nearest(level, _size(level, level.model) - pruned)
    network = level.network(model, generator)
    dense = Mask.dense(prunable(network))
    return replace(anew(level, dense, state_of(network)), model=model)


@branches.register(
    "longer_dense",
    source="survey: equal cost",
    longer=True,
    changes=("steps", "own_steps", "evaluation_grid"),
    origins={"": in_any_mode("initial", "none", "from step 0, drawn out", steps="n T")},
)
def longer_dense(level: Level, generator: torch.Generator) -> Start:
    """The dense network from its initialization, for as many steps as all trainings that found the ticket together.

    These are the dense network's, those of the levels above, and the ticket's own; the trials of a learning rate are
    not among them, since dense networks need theirs as well. Schedule and evaluation grid are drawn out with the
    training: at step s of n times T the rate is the recipe's at step floor(s / n), and the early-stop step is chosen
    from as many as in a training of T steps.
    """
    start = level.initial
    return replace(start, spec=replace(start.spec, stretch=level.searched))


def sign_of(weight: torch.Tensor) -> torch.Tensor:
    """Return 1 or -1 by the weight's sign, of its shape; 1 for a zero, so that no weight is lost."""
    import torch

    return torch.where(weight < 0, -1.0, 1.0)


def signed_constant(level: Level, magnitude: float) -> Weights:
    """Return the rewound weights, each prunable one replaced by its sign times its layer's standard deviation."""
    original = level.rewound.weights
    constants = {name: sign_of(original[name]) * original[name].std(correction=0) * magnitude for name in level.mask}
    return {**original, **constants}


def under(level: Level, mask: Mask, weights: Kept) -> Start:
    """Return the start of dense weights under another mask: at the rewind point, or as the mode of rewinding has them.

    Never those of a pruned network: where another mask lets a pruned weight live it would start as 0.
    """
    from lottery.pruning.iterative import rewind

    if weights == "rewound" or level.mode == "weights":
        return rewind(level.rewound, {}, mask, "weights")
    return rewind(level.rewound, level.dense, mask, level.mode)


def anew(level: Level, mask: Mask, weights: Weights) -> Start:
    """Return a start from step 0 with weights that no optimizer has seen."""
    start = level.rewound
    return replace(start, weights=weights, mask=mask, spec=replace(start.spec, first=0), optimizer_state=None)


def _size(level: Level, model: Component) -> int:
    """Return the number of parameters of a model; its weights are drawn and thrown away."""
    import torch

    return sum(p.numel() for p in level.network(model, torch.Generator().manual_seed(0)).parameters())


def _nearest(level: Level, wanted: int) -> Component:
    """Return the model scaled by bisection so that its number of parameters is nearest to the one wanted."""
    from lottery.registry import models

    entry = models[level.model.name]
    assert entry.traits.scaled is not None  # the recipe has been checked for it
    low, high = 0.0, 1.0
    sizes: dict[str, tuple[int, Component]] = {}
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        model = Component(entry.name, entry.traits.scaled(entry.all_arguments(level.model.args), middle))
        shown = str(model.as_dict())
        if shown not in sizes:
            sizes[shown] = (_size(level, model), model)
        if sizes[shown][0] <= wanted:
            low = middle
        else:
            high = middle
    return min(sizes.values(), key=lambda found: (abs(found[0] - wanted), found[0]))[1]
