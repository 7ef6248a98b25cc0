"""Iterative magnitude pruning with rewinding: train, score, select, rewind.

Source: Frankle & Carbin 2019; Frankle et al. 2020. One level, from a trained network to where the next training starts:

1. Train. `Level.trained` are the weights at the end of a training (`lottery.training.trainer`).
2. Score. A criterion of the catalogue gives each surviving weight a score (`lottery.catalogue.criteria`).
3. Select. `keep_top` keeps the highest scores; `lottery.pruning.amounts` says how many.
4. Rewind. The surviving weights go back to the rewind point; `lottery.pruning.masking` holds the others at zero while
   the next level trains.

Each level is a job of its own (`lottery.runner.execute`), so that a killed run goes on where it was and recipes share
the levels that they have in common.
"""

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
    """Return where the next level's training starts: score the weights of a level, select, rewind.

    The optimizer is fresh. Only weight rewinding past step 0 restores its state (Renda, Frankle & Carbin 2020).

    Args:
        level: The finished level above.
        pruning: How much of which layer goes.
        criterion: Scores the weights.
        mode: What is rewound: `weights`, the learning rate only (`lr`), or nothing (`finetune`).
        when: `trained` prunes the weights at the end of training; `init` those at the rewind point (pruning at
            initialization).
        rounds: Number of times the weights are scored anew on the way to the level's density.
    """
    # each is read when it is needed and let go at once: together they would be two copies of a large network
    mask = prune(level.trained if when == "trained" else level.rewound.weights, level.mask, pruning, criterion, rounds)
    return rewind(level.rewound, {} if mode == "weights" else level.trained, mask, mode)


def prune(weights: Weights, mask: Mask, pruning: Pruning, criterion: Criterion, rounds: int) -> Mask:
    """Return the mask that remains of `mask` when its layers are pruned by the amounts of `pruning`; see `select`."""
    return select(weights, mask, pruning.takes_part(mask), pruning.keep(mask), criterion, rounds)


def select(
    weights: Weights, mask: Mask, names: Sequence[str], target: Counts, criterion: Criterion, rounds: int
) -> Mask:
    """Score the surviving weights and keep the highest, in `rounds`, with exponentially falling counts between them.

    Several rounds score what is left anew each time (Tanaka et al. 2020).

    Args:
        weights: The state to score; its pruned weights count as 0 whatever they are.
        mask: The weights that survive so far.
        names: Layers that are pruned; the others keep their masks.
        target: Weights to keep in the end, of each layer or over all of `names`.
        criterion: Scores the layers in the mask that it is given.
        rounds: Number of times the weights are scored.

    Returns:
        A mask within `mask`.
    """
    kept, alive = mask, like_target(target, mask.alive(), names)
    for done in range(1, rounds + 1):
        keep = target if done == rounds else between(alive, target, partial(geometric_mean, share=done / rounds))
        kept = keep_top(criterion(zero_pruned(weights, kept), kept.of(names)), kept, keep)
    assert kept <= mask  # masks only shrink
    return kept


def rewind(rewound: Start, trained: Weights, mask: Mask, mode: str) -> Start:
    """Return where training starts under `mask`: at the rewind point, or with trained weights and a fresh optimizer.

    Args:
        rewound: The dense network at the rewind point, with its optimizer's state.
        trained: Weights at the end of the level above; not looked at where the mode is `weights`.
        mask: The mask to train with.
        mode: `weights`, `lr` or `finetune`.
    """
    if mode == "weights":
        return replace(rewound, mask=mask)
    return Start(trained, mask, replace(rewound.spec, last_rate=mode == "finetune", goes_on=True))


def zero_pruned(weights: Weights, mask: Mask) -> Weights:
    """Return the state with its pruned weights 0; a layer in which they are already is not copied."""
    return {
        name: _zero_pruned(value, mask[name].to(value.device)) if name in mask else value
        for name, value in weights.items()
    }


def _zero_pruned(weight: Tensor, alive: Tensor) -> Tensor:
    return weight * alive if weight[~alive].any() else weight
