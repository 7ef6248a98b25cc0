"""Pruning in the course of a training, a few weights at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.pruning.amounts import Counts, between, like_target
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Criterion, Weights

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Gradual:
    """Pruning in the course of a training, from step `start` to `end`, every so many steps, to `target` in the end.

    `names` are the layers pruned; `criterion(step)` scores the weights after that step.
    Zhu & Gupta 2017: what is pruned grows with 1 - (1 - x)^3, x the part of the way.
    """

    start: int
    end: int
    every: int
    target: Counts
    names: Sequence[str]
    criterion: Callable[[int], Criterion]

    def due(self, step: int) -> bool:
        """Whether weights are pruned after this step."""
        inside = self.start < step < self.end and (step - self.start) % self.every == 0
        return inside or step == self.end

    def mask(self, step: int, weights: Weights, mask: Mask) -> Mask:
        """The mask from this step on, where `mask` held until now."""
        scores = self.criterion(step)(weights, mask.of(self.names))
        left = (1 - (step - self.start) / (self.end - self.start)) ** 3
        sizes = like_target(self.target, mask.sizes(), self.names)
        return keep_top(scores, mask, between(sizes, self.target, lambda a, b: b + round((a - b) * left)))
