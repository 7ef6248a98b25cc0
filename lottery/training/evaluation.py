"""Measures of a network's outputs over the batches of a split: loss, accuracy and what is asked for beside."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lottery.distributed.group import Group


class Classes:
    """Cross-entropy and accuracy over the batches of a split, with the measures that are asked for.

    `balanced_accuracy` is the mean over the classes that occur in the split of the share of their examples that is
    recognized (Brodersen et al. 2010). `top5` is the share of examples whose class is among the five with the highest
    scores; of equal scores that of the lower class is the higher, as it is for accuracy, which is top 1. A score that
    is no number is never recognized, and higher than all others.

    Args:
        device: Where the outputs are.
        classes: Number of classes.
        measures: Names of what is measured beside loss and accuracy.
    """

    def __init__(self, device: torch.device, classes: int, measures: Sequence[str] = ()):
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._count = 0
        self._measures = measures
        self._recognized, self._occurring = torch.zeros(2, classes, dtype=torch.int64, device=device)
        self._among_five = torch.zeros((), dtype=torch.int64, device=device)
        self._each: list[Tensor] = []

    def add(self, scores: Tensor, y: Tensor) -> None:
        """Take in a batch: scores (n, classes) and classes (n,)."""
        self._loss += functional.cross_entropy(scores, y, reduction="sum").double()
        correct = scores.argmax(1) == y
        self._correct += correct.sum()
        self._each.append(correct)
        self._count += len(y)
        if "balanced_accuracy" in self._measures:
            self._occurring.index_add_(0, y, torch.ones_like(y))
            self._recognized.index_add_(0, y, correct.long())
        if "top5" in self._measures:
            self._among_five += (_rank(scores, y) < 5).sum()

    def reduce(self, group: Group) -> None:
        """Take in what the other ranks have seen of the split, each its own examples, in the order of ranks."""
        if group.size == 1:
            return
        counts = [self._correct, self._among_five, self._correct.new_tensor(self._count)]
        tallies = [self._loss[None], torch.stack(counts), self._recognized, self._occurring]
        flat = group.sum(torch.cat([tally.double() for tally in tallies]))  # in float64 counts are exact
        loss, (correct, among_five, count), recognized, occurring = torch.split(flat, [len(tally) for tally in tallies])
        self._loss, self._count = loss[0], int(count)
        self._correct, self._among_five = correct.long(), among_five.long()
        self._recognized, self._occurring = recognized.long(), occurring.long()
        own = torch.cat([each.to(torch.uint8) for each in self._each]) if self._each else self._correct.new_empty(0)
        self._each = [group.gather(own.to(torch.uint8)).bool()]

    def result(self) -> dict[str, float]:
        """Return the measures by name, means over all examples: the loss in nats, the others as fractions."""
        found = {"loss": self._loss.item() / self._count, "accuracy": self._correct.item() / self._count}
        if "balanced_accuracy" in self._measures:
            each = zip(self._recognized.tolist(), self._occurring.tolist(), strict=True)
            found["balanced_accuracy"] = statistics.fmean(right / count for right, count in each if count)
        if "top5" in self._measures:
            found["top5"] = self._among_five.item() / self._count
        return found

    def correct(self) -> Tensor:
        """Return a bool (n,) for each example, in the order in which they came, on the CPU: True if recognized."""
        return torch.cat(self._each).cpu()


def _rank(scores: Tensor, y: Tensor) -> Tensor:
    """Return how many classes come before that of each example, int64 (n,).

    They are those with a higher score, or an equal one and a lower number.
    """
    own = scores.gather(1, y[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < y[:, None]
    return (~(scores <= own) | ((scores == own) & lower)).sum(1)


class Squares:
    """Mean squared error and r2, the part of the targets' variance that is explained, over the batches of a split."""

    def __init__(self, device: torch.device):
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)  # of squared errors, of y, of y squared
        self._count = 0

    def add(self, outputs: Tensor, y: Tensor) -> None:
        """Take in a batch: outputs and targets (n, targets)."""
        errors, y = (outputs - y).double(), y.double()
        self._sums += torch.stack([errors.square().sum(), y.sum(), y.square().sum()])
        self._count += y.numel()

    def reduce(self, group: Group) -> None:
        """Take in what the other ranks have seen of the split, each its own examples."""
        if group.size > 1:
            *_, count = flat = group.sum(torch.cat([self._sums, self._sums.new_tensor([self._count])]))
            self._sums, self._count = flat[:-1], int(count)

    def result(self) -> dict[str, float]:
        """Return the measures by name; r2 is 0 where the targets do not vary."""
        error, total, squares = (float(value) for value in self._sums)
        variation = squares - total**2 / self._count
        return {"loss": error / self._count, "r2": 1 - error / variation if variation > 0 else 0.0}
