"""Supermasks: the accuracy of a mask alone, on weights that are never trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.catalogue.branches.controls import Positive, sign_of, signed_constant
from lottery.plan.origins import REWOUND, UNTRAINED, in_any_mode
from lottery.registry import branches
from lottery.values import Component

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from lottery.pruning.scoring import Weights
    from lottery.pruning.start import Level, Start

Frozen = Literal["rewound", "constant"]
WEIGHTS = {"rewound": REWOUND, "constant": "one absolute value a layer, original signs"}  # by the key `weights`
Draws = Annotated[int, Field(strict=True, ge=1, le=100)]
FROZEN = {option: in_any_mode(f"{weights}, frozen", "learned") for option, weights in WEIGHTS.items()}


@branches.register(
    "supermask",
    source="Zhou et al. 2019",
    changes=("steps", "own_steps"),
    mask_alone=True,
    origins={option: in_any_mode(each, "the ticket's", UNTRAINED, "none", "0") for option, each in WEIGHTS.items()},
)
def supermask(
    level: Level, generator: torch.Generator, *, weights: Frozen = "rewound", magnitude: Positive = 1.0
) -> Start:
    """The ticket measured as it is, without a step of training.

    With `weights: constant` each weight is its sign times the standard deviation of its layer, times `magnitude`.
    """
    start = level.rewound
    spec = replace(start.spec, untrained=True)
    return replace(start, weights=_frozen(level, weights, magnitude), mask=level.mask, spec=spec, optimizer_state=None)


@branches.register(
    "learned_supermask",
    source="Zhou et al. 2019, section 5",
    changes=("optimizer", "learning_rate", "tuning"),
    origins=FROZEN,
    learned=True,
    mask_alone=True,
)
def learned_supermask(
    level: Level,
    generator: torch.Generator,
    *,
    weights: Frozen = "rewound",
    magnitude: Positive = 1.0,
    evaluate: Literal["sampled", "rounded"] = "sampled",
    draws: Draws = 1,
    rescale: bool = False,
    optimizer: Component | None = None,
) -> Start:
    """A mask learned by gradient descent on frozen weights: each weight is there with a probability that is trained.

    The scores start at 0, probability 1/2, and are trained by the recipe's optimizer or the one given: the authors
    take momentum with learning rates of about 100. They evaluate masks that are drawn; here `sampled` is one draw for
    the whole training, so that its curve and its density are those of one mask at each step, and `rounded` keeps what
    has a probability above 1/2. With `draws` losses, accuracies and density are the means over so many masks, each
    drawn once for the whole training; the authors take ten. With `rescale` the weights kept are multiplied by the
    layer's number of weights over that of those kept, in training as in evaluation (dynamic weight rescaling). Biases
    and normalizations are frozen as well; density is what the mask ends with, not the ticket's.
    """
    import torch

    def draw() -> dict[str, Tensor]:
        return {name: torch.rand(bits.shape, generator=generator) for name, bits in level.mask.items()}

    drawn = [draw() for _ in range(draws)]

    def make(name: str, weight: Tensor) -> nn.Module:
        from lottery.catalogue.branches._learned import Bernoulli

        if evaluate == "rounded":
            return Bernoulli(torch.full(weight.shape, 0.5), rescale=rescale)
        first, *others = (each[name] for each in drawn)
        return Bernoulli(first, others, rescale=rescale)

    return _molded(level, _frozen(level, weights, magnitude), make, optimizer)


@branches.register(
    "edge_popup",
    source="Ramanujan et al. 2020",
    changes=("optimizer", "learning_rate", "tuning"),
    origins={**FROZEN, "kaiming_constant": in_any_mode("signs times sqrt(2 / fan_in), frozen", "learned")},
    mask_alone=True,
    learned=True,
)
def edge_popup(
    level: Level,
    generator: torch.Generator,
    *,
    weights: Frozen | Literal["kaiming_constant"] = "rewound",
    scaled: bool = False,
    magnitude: Positive = 1.0,
    optimizer: Component | None = None,
) -> Start:
    """A mask of the ticket's layer densities learned on frozen weights: the largest absolute scores pop up.

    The scores are trained by the recipe's optimizer or the one given. Biases and normalizations are frozen as well.
    With `weights: kaiming_constant` each weight is its sign times sqrt(2 / fan_in), the authors' signed Kaiming
    constant, times `magnitude`. With `scaled` weights are divided by sqrt(k), k the layer's density, as in their scaled
    variants: what a unit sums up has the variance that it would have with all weights, which are normal with variance
    2 / (k fan_in) under the init kaiming_normal.
    """
    from lottery.catalogue.branches._learned import EdgePopup, kaiming_scores

    counts, sizes = level.mask.alive(), level.mask.sizes()
    scores = {name: kaiming_scores(bits, generator) for name, bits in level.mask.items()}
    constant = weights == "kaiming_constant"
    frozen = _kaiming_constant(level, magnitude) if constant else _frozen(level, weights, magnitude)
    if scaled:
        scales = {name: (sizes[name] / max(1, counts[name])) ** 0.5 for name in sizes}
        frozen = {name: value * scales[name] if name in scales else value for name, value in frozen.items()}
    return _molded(level, frozen, lambda name, weight: EdgePopup(scores[name].clone(), counts[name]), optimizer)


def _kaiming_constant(level: Level, magnitude: float) -> Weights:
    """Return the rewound weights, each prunable one replaced by its sign times sqrt(2 / fan_in)."""
    from torch import nn

    original = level.rewound.weights
    sizes = {name: (2 / nn.init._calculate_fan_in_and_fan_out(original[name])[0]) ** 0.5 for name in level.mask}
    return {**original, **{name: sign_of(original[name]) * size * magnitude for name, size in sizes.items()}}


def _frozen(level: Level, weights: str, magnitude: float) -> Weights:
    return level.rewound.weights if weights == "rewound" else signed_constant(level, magnitude)


def _molded(
    level: Level, weights: Weights, make: Callable[[str, Tensor], nn.Module], optimizer: Component | None
) -> Start:
    """Return a full training, from step 0, of the scores that `make` puts on each layer."""
    from lottery.catalogue.branches._learned import learn_masks
    from lottery.pruning.mask import Mask

    start = level.rewound
    spec = replace(start.spec, first=0, optimizer=optimizer or start.spec.optimizer)
    return replace(
        start,
        weights=weights,
        mask=Mask.dense(level.mask),
        spec=spec,
        optimizer_state=None,
        mold=lambda model: learn_masks(model, make),
    )
