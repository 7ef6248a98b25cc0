"""The lengths that a recipe names, in optimizer steps of one training."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from lottery.values import Component, Duration

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe


@dataclass(frozen=True)
class Timeline:
    """One training in optimizer steps, counted from the initialization of the network.

    Attributes:
        first: Step at which it starts.
        stop: Step at which it ends: `total`, the rewind point that is asked for, or `first` where nothing is trained.
        total: Step at which its learning-rate schedule ends.
        evaluate_every: Steps between two evaluations; a fraction where the training is drawn out.
        steps_per_epoch: Batches in one pass over its training examples, the last and smaller one included.
        batch_size: Examples in a batch.
    """

    first: int
    stop: int
    total: int
    evaluate_every: int | Fraction
    steps_per_epoch: int
    batch_size: int

    def steps(self, length: Duration) -> int:
        """Return a length of the recipe in steps of this training, not drawn out."""
        return length.steps(self.steps_per_epoch)


def make_timeline(
    recipe: Recipe,
    optimizer: Component,
    examples: int,
    *,
    first: Duration | None = None,
    stop: Duration | None = None,
    stretch: Fraction | int = 1,
    untrained: bool = False,
) -> Timeline:
    """Resolve a recipe's lengths for a training with this optimizer on so many training examples.

    Without options it is the training of the dense network.

    Args:
        recipe: The recipe.
        optimizer: The optimizer, whose argument `batch_size` goes before the recipe's.
        examples: Number of training examples, which `all` as a batch size stands for.
        first: Where it starts, if not at step 0.
        stop: Where it stops, if not at its end.
        stretch: How many times as long as the recipe says it is; it ends with a whole step.
        untrained: Whether the network is measured as it is, without a step.
    """
    size = optimizer.args.get("batch_size", recipe.train.batch_size)
    batch_size = examples if size == "all" else int(size)
    per_epoch = -(-examples // batch_size)
    start = first.steps(per_epoch) if first is not None else 0
    total = int(recipe.train.length.steps(per_epoch) * stretch)
    end = total if stop is None else stop.steps(per_epoch)
    every = recipe.train.evaluate_every.steps(per_epoch) * stretch
    return Timeline(start, start if untrained else end, total, every, per_epoch, batch_size)
