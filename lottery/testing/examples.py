"""A small data set and a small network, on which entries are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lottery.training.objective import Batch

COUNT, BATCH = 64, 16


@dataclass(frozen=True)
class Examples:
    """64 random examples.

    Attributes:
        shape: Shape of one, without the batch.
        classes: Number of classes.
        data: Folder of data sets.
    """

    shape: tuple[int, ...]
    classes: int
    data: Path

    def all(self) -> Batch:
        """Return inputs and classes: the same at each call."""
        draws = torch.Generator().manual_seed(3)
        x = torch.randn(COUNT, *self.shape, generator=draws)
        return x, torch.randint(self.classes, (COUNT,), generator=draws)

    def batches(self) -> Iterator[Batch]:
        """Yield them in batches of 16."""
        x, y = self.all()
        for first in range(0, COUNT, BATCH):
            yield x[first : first + BATCH], y[first : first + BATCH]

    def network(self, seed: int = 0) -> nn.Sequential:
        """Return a linear layer, a batch normalization and a second linear layer."""
        inputs = torch.Size(self.shape).numel()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Flatten(), nn.Linear(inputs, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, self.classes)
            )


@contextmanager
def generator_untouched(noted: Callable[[str], None]) -> Iterator[None]:
    """Call `noted` with what is wrong where the `with` block draws from torch's process-wide generator."""
    before = torch.get_rng_state()
    yield
    if not torch.equal(before, torch.get_rng_state()):
        noted("draws from torch's process-wide generator; draw from the generator that it is given")
        torch.set_rng_state(before)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return True for the same names with the same bits."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def copied(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors in memory of their own."""
    return {name: value.detach().clone() for name, value in values.items()}
