"""The method itself: from a trained level of the trunk to the starting point of the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lottery.pruning.amounts import Counts, Pruning, between, geometric_mean, like_target
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Criterion, Weights
from lottery.pruning.start import Level, Start

if TYPE_CHECKING:
    from torch import Tensor


def next_start(
    level: Level, pruning: Pruning, criterion: Criterion, mode: str, *, when: str = "trained", rounds: int = 1
) -> Start:
    """Prune the trained weights, then rewind: weights, learning rate only, or neither (fine-tuning).

    With `when` "init" the weights at the rewind point are pruned instead (pruning at initialization). Renda, Frankle
    & Carbin 2020. The optimizer is fresh, but for weight rewinding past step 0, which puts back the optimizer's state
    of that step as well.
    """
    # each is read when it is needed and let go at once: together they would be two copies of a large network
    mask = prune(level.trained if when == "trained" else level.rewound.weights, level.mask, pruning, criterion, rounds)
    return rewind(level.rewound, {} if mode == "weights" else level.trained, mask, mode)


def prune(weights: Weights, mask: Mask, pruning: Pruning, criterion: Criterion, rounds: int) -> Mask:
    """The mask that a criterion leaves, scored anew in each of `rounds`, with exponentially falling counts between
    (Tanaka et al. 2020).
    """
    return select(weights, mask, pruning.takes_part(mask), pruning.keep(mask), criterion, rounds)


def select(
    weights: Weights, mask: Mask, names: Sequence[str], target: Counts, criterion: Criterion, rounds: int
) -> Mask:
    """The mask that a criterion leaves of `mask`, with the `target` counts of the layers `names`; see `prune`."""
    kept, alive = mask, like_target(target, mask.alive(), names)
    for done in range(1, rounds + 1):
        keep = target if done == rounds else between(alive, target, partial(geometric_mean, share=done / rounds))
        kept = keep_top(criterion(under(weights, kept), kept.of(names)), kept, keep)
    assert kept <= mask  # masks only shrink
    return kept


def under(weights: Weights, mask: Mask) -> Weights:
    """The state with its pruned weights zero; a layer where they are is not copied."""
    return {
        name: _under(value, mask[name].to(value.device)) if name in mask else value for name, value in weights.items()
    }


def _under(weight: Tensor, alive: Tensor) -> Tensor:
    return weight * alive if weight[~alive].any() else weight


def rewind(rewound: Start, trained: Weights, mask: Mask, mode: str) -> Start:
    """Where training starts under `mask`: at the `rewound` point, or with `trained` weights and a fresh optimizer."""
    if mode == "weights":
        return replace(rewound, mask=mask)
    return Start(trained, mask, replace(rewound.spec, last_rate=mode == "finetune", goes_on=True))
