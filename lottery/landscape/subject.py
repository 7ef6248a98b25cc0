"""The subject of an analysis, which an entry of the catalogue `analyses` is given, and the measurement it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from lottery.landscape.surface import Statistics, Surface
from lottery.pruning.mask import Mask
from lottery.seed import generator
from lottery.values import PARTS, Part

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lottery.pruning.scoring import Weights
    from lottery.training.objective import Batch


@dataclass(frozen=True, eq=False)
class State:
    """A state of a network that is looked at.

    Attributes:
        name: Which one it is, in words: `dense`, `ticket`, `reinit`, `dense at 100it`.
        key: Key of the job that it comes from.
        weights: Its tensors by name, in the method's form; those of pruned weights are never read.
        mask: Its survivors; None for a dense network.
        step: Step of its training.
    """

    name: str
    key: str
    weights: Weights
    mask: Mask | None = None
    step: int = 0

    def masked(self) -> Weights:
        """Return its tensors by name with each pruned weight 0, as a mask that leaves more reads them."""
        return self.weights if self.mask is None else self.mask.apply(self.weights)


def union(masks: Iterable[Mask | None]) -> Mask | None:
    """Return the mask of the weights that survive in any of these masks; None where one is None, a dense network."""
    found: dict[str, Tensor] = {}
    for mask in masks:
        if mask is None:
            return None
        found = {name: mask[name] | found[name] if name in found else mask[name] for name in mask}
    return Mask(found)


@dataclass(frozen=True, eq=False)
class Subject:
    """What an analysis looks at: one state, two or three, or those along a training, and the data of their seed.

    Attributes:
        states: The states, as many as the entry's trait `looks_at` says, those of a training in the order of steps.
        seed: Seed of the data, and of all that the analysis draws.
        network: Makes a network with weights that mean nothing, on the device, to load a state into.
        initial: Makes the network of this seed at initialization, on the device.
        loss: The training loss, the mean over a batch.
        examples: Yields batches of n examples of a part (all where None) in a fixed order, unchanged.
        densest: The mask that all states lie within; None where a dense network is among them.
        check: Called again and again in work that takes long; raises where the run is told to stop.
    """

    states: Sequence[State]
    seed: int
    network: Callable[[], nn.Module]
    initial: Callable[[], nn.Module]
    loss: nn.Module
    examples: Callable[[Part, int | None], Iterator[Batch]]
    densest: Mask | None = None
    check: Callable[[], None] = lambda: None

    def surface(
        self,
        mask: Mask | None,
        examples: int | None = None,
        *,
        statistics: Statistics = "running",
        dtype: torch.dtype = torch.float32,
        parts: Sequence[Part] | None = None,
    ) -> Surface:
        """Return the surface over the survivors of a mask, of so many examples of each part.

        Args:
            mask: The survivors; None for all weights.
            examples: Number of examples of each part; None for all.
            statistics: What normalizations divide by.
            dtype: Precision to compute in.
            parts: The parts that loss and error are measured on; None for all that have examples.
        """
        return Surface(
            self.network().to(dtype),
            lambda part: self.examples(part, examples),
            mask,
            loss=self.loss,
            statistics=statistics,
            parts=PARTS if parts is None else parts,
            check=self.check,
        )

    def generator(self, purpose: str, index: int = 0) -> torch.Generator:
        """Return the stream of random numbers of this seed for a purpose of the analysis."""
        return generator(self.seed, f"analysis {purpose}", index)


@dataclass(frozen=True)
class Measurement:
    """The result of an analysis.

    Attributes:
        values: Numbers by name, one row of a table; a name's unit is in the entry's trait `units`. They may be NaN or
            infinite, which is kept and shown as such.
        profile: Rows of numbers and words by name for pictures: points of a line or grid, eigenvalues, layers.
    """

    values: Mapping[str, float]
    profile: Sequence[Mapping[str, float | str]] = field(default_factory=tuple)
