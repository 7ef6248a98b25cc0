"""Branches off the trunk: each turns a finished level into the starting point of one more training, a control."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from lottery.registry import branches, criteria
from lottery.spec import Component

if TYPE_CHECKING:
    import torch

    from lottery.trunk import Level, Start


@branches.register("reinit", source="Frankle & Carbin 2019")
def reinit(level: Level, generator: torch.Generator) -> Start:
    """Random reinitialization: the ticket's mask on newly drawn weights, trained from step 0.

    With a rewind step k > 0 the control trains the full length, k steps more than the ticket."""
    start = level.start
    spec = replace(start.spec, first=0, last_rate=False)
    return replace(start, weights=level.fresh(generator), spec=spec, optimizer_state=None)


@branches.register("shuffle", source="Frankle & Carbin 2019; Su et al. 2020")
def shuffle(level: Level, generator: torch.Generator, *, scope: Literal["layer", "global"] = "layer") -> Start:
    """The ticket's mask permuted within each layer, or over all layers together; weights are the ticket's own."""
    import torch

    from lottery.mask import Mask

    mask = level.mask
    if scope == "layer":
        moved = {
            n: b.flatten()[torch.randperm(b.numel(), generator=generator)].reshape(b.shape) for n, b in mask.items()
        }
    else:
        bits = torch.cat([b.flatten() for b in mask.values()])
        parts = torch.split(bits[torch.randperm(len(bits), generator=generator)], list(mask.sizes().values()))
        moved = {n: part.reshape(mask[n].shape) for n, part in zip(mask, parts, strict=True)}
    return replace(level.start, weights=level.rewound.weights, mask=Mask(moved))


@branches.register("random", source="Frankle & Carbin 2019; Greydanus & Kobak 2024")
def random(level: Level, generator: torch.Generator, *, weights: Literal["fresh", "rewound"] = "fresh") -> Start:
    """A random mask with the ticket's layer densities, on newly drawn weights: sparse training from scratch.

    With `weights: rewound` the mask is random but the weights are the dense network's own at the rewind step, which
    is `shuffle` with another draw."""
    from lottery.criteria import Context
    from lottery.mask import Mask, keep_top

    mask = level.mask
    dense = Mask.dense(mask)
    scores = criteria["random"].make(mask, Context(generator))
    chosen = keep_top(scores, dense, mask.alive())
    start = replace(level.start, weights=level.rewound.weights, mask=chosen)
    if weights == "rewound":
        return start
    spec = replace(start.spec, first=0, last_rate=False)
    return replace(start, weights=level.fresh(generator), spec=spec, optimizer_state=None)


@branches.register("one_shot", source="Frankle & Carbin 2019, section 4")
def one_shot(level: Level, generator: torch.Generator) -> Start:
    """Magnitude pruning of the trained dense network in one shot, to the ticket's count of weights, then rewound.

    The count is the ticket's in each layer, or over all layers together where the recipe prunes globally."""
    from lottery.criteria import Context
    from lottery.mask import Mask, keep_top

    names = level.pruning.takes_part(level.mask)
    scores = criteria["magnitude"].make({name: level.dense[name] for name in names}, Context(generator))
    alive = {name: count for name, count in level.mask.alive().items() if name in names}
    mask = keep_top(scores, Mask.dense(level.mask), sum(alive.values()) if level.pruning.scope == "global" else alive)
    return replace(level.rewound, mask=mask)


@branches.register("retrain", source="survey: tickets under other optimizers")
def retrain(
    level: Level, generator: torch.Generator, *, optimizer: Component, schedule: Component | None = None
) -> Start:
    """The ticket trained with another optimizer, and another schedule where one is given, from fresh state."""
    start = level.start
    spec = replace(start.spec, optimizer=optimizer)
    if schedule is not None:
        spec = replace(spec, schedule=schedule, warmup=0)
    return replace(start, spec=spec, optimizer_state=None)
