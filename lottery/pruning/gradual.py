"""Gradual pruning: a few weights at a time in the course of one training (Zhu & Gupta 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lottery.pruning.amounts import Counts, between, like_target
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Criterion, Weights


@dataclass(frozen=True)
class Gradual:
    """Schedule of gradual pruning: the pruned share grows as 1 - (1 - x)^3, x the part of the way from start to end.

    Attributes:
        start: Step after which pruning begins.
        end: Step after which `target` is reached.
        every: Steps between two prunings.
        target: Weights to keep in the end, of each layer or over all of `names`.
        names: Layers that are pruned.
        criterion: Gives for a step the criterion that scores the weights after it.
    """

    start: int
    end: int
    every: int
    target: Counts
    names: Sequence[str]
    criterion: Callable[[int], Criterion]

    def due(self, step: int) -> bool:
        """Return True if weights are pruned after this step."""
        inside = self.start < step < self.end and (step - self.start) % self.every == 0
        return inside or step == self.end

    def mask(self, step: int, weights: Weights, mask: Mask) -> Mask:
        """Return the mask from this step on; `mask` held until now, `weights` are those after the step."""
        scores = self.criterion(step)(weights, mask.of(self.names))
        left = (1 - (step - self.start) / (self.end - self.start)) ** 3
        sizes = like_target(self.target, mask.sizes(), self.names)
        return keep_top(scores, mask, between(sizes, self.target, lambda a, b: b + round((a - b) * left)))
