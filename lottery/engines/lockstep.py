"""Trainings in lockstep: several networks are trained a step of all of them at a time.

A small network leaves most of a GPU idle, and its step takes as long as the host needs to launch its kernels. Seeds,
weights, masks, batches and learning rates of the networks may differ; the size of the batches is the same:

    members = [Member(objective, optimizer, mask), ...]     # a network each, on the device; its mask held by `masked`
    lockstep = Lockstep(members)                            # on a GPU: Lockstep(members, CudaGraphs(device))
    losses = lockstep.step(x, y)                            # x (K, n, *input_shape), y (K, n); losses (K,)
    for engine in lockstep.engines:
        engine.flush()                                      # the optimizer of each member has its state again

Fully connected networks of one shape are trained as one (`stacked`), on any device: each has the results that dense
steps would give it alone, within rounding. Other networks are trained side by side in one recording (`branches`), each
by the same operations as alone. Either way pruned weights are exactly 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lottery.engines import branches, stacked
from lottery.engines.cuda_graph import GraphEngine, Recorder, capturable
from lottery.engines.stacked import Member
from lottery.errors import UsageError
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective

__all__ = ["Lockstep", "Member", "MemberEngine"]


class Together(Protocol):
    """Members as one objective and one optimizer, as an engine steps them."""

    @property
    def objective(self) -> Objective:
        """The objective of all; a batch of it is one of each member."""

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of all."""

    @property
    def losses(self) -> Tensor:
        """The losses of the last step, (K,)."""

    def take_rates(self) -> None:
        """Take the learning rates from the members' optimizers."""

    def load(self, place: int) -> bool:
        """Take the state of one member's optimizer from there, and return True if it lies elsewhere than before."""

    def flush(self, place: int) -> None:
        """Put the state of one member's optimizer there."""


class Lockstep:
    """Trains several networks, a step of all of them at a time.

    Args:
        members: The trainings.
        recorder: Records a step that is replayed, on a GPU `cuda_graph.CudaGraphs`; None for one operation at a time.

    Attributes:
        engines: The engine of each member: its outputs, and the way to put its state from and to its optimizer.

    Raises:
        UsageError: They cannot be trained in lockstep, see `unsupported`.
    """

    def __init__(self, members: Sequence[Member], recorder: Recorder | None = None):
        self._members = list(members)
        self._together = _together(self._members, recorder)
        step = (self._together.objective, self._together.optimizer)
        self._engine = DenseEngine(*step) if recorder is None else GraphEngine(*step, recorder)
        self.engines = [MemberEngine(self, place) for place in range(len(members))]
        for engine in self.engines:
            engine.load()

    @property
    def name(self) -> str:
        """Name of the engine in what is recorded of a training."""
        return "lockstep" if self._engine.name == "dense" else f"lockstep, {self._engine.name}"

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train each member one step on its batch.

        Args:
            x: Inputs of the batches, (K, n, *input_shape).
            y: Their targets, (K, n).

        Returns:
            The mean loss of each batch before the step, (K,) on the device; the next step writes its own there.
        """
        self._together.take_rates()
        self._engine.step(x, y)
        return self._together.losses

    def outputs(self, place: int, x: Tensor) -> Tensor:
        """Return what the network of one member computes of a batch in evaluation mode, float32."""
        member = self._members[place]
        return DenseEngine(member.objective, member.optimizer).outputs(x)

    def load(self, place: int) -> None:
        """Take the state of one member's optimizer from there."""
        if self._together.load(place):
            self._engine.load()

    def flush(self, place: int) -> None:
        """Put the state of one member's optimizer there."""
        self._together.flush(place)


class MemberEngine:
    """The `Engine` of one member; its steps are those of all members."""

    def __init__(self, lockstep: Lockstep, place: int):
        self._lockstep, self._place = lockstep, place

    @property
    def name(self) -> str:
        """Name of the engine in what is recorded of a training."""
        return self._lockstep.name

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train one step on this batch, where there is no other member; return the mean loss before it."""
        assert len(self._lockstep.engines) == 1, "members of a lockstep are stepped together"
        return self._lockstep.step(x[None], y[None])[0]

    def outputs(self, x: Tensor) -> Tensor:
        """Return what the network in evaluation mode computes of this batch, float32."""
        return self._lockstep.outputs(self._place, x)

    def load(self) -> None:
        """Take the optimizer's state from the optimizer; the weights are where they are."""
        self._lockstep.load(self._place)

    def flush(self) -> None:
        """Put the optimizer's state back into the optimizer."""
        self._lockstep.flush(self._place)


def unsupported(members: Sequence[Member], recorder: Recorder | None) -> str | None:
    """Return why these trainings cannot be done in lockstep, in words; None where they can."""
    why = stacked.unsupported(members)
    if why is None and (recorder is None or all(capturable(member.optimizer) for member in members)):
        return None
    return why if recorder is None else branches.unsupported(members)


def kind_of(member: Member) -> Hashable:
    """Return what members must have in common to be trained in lockstep."""
    return stacked.kind_of(member) if stacked.unsupported([member]) is None else None


def _together(members: Sequence[Member], recorder: Recorder | None) -> Together:
    """Return the members as one.

    Raises:
        UsageError: They cannot be trained so; the message says why.
    """
    why = unsupported(members, recorder)
    if why is not None:
        raise UsageError(f"lockstep {why}")
    if recorder is None or stacked.unsupported(members) is None:
        return stacked.Stacked(members)
    return branches.Branches(members, recorder)
