"""The trainings that one process has begun, stepped together whenever all of them have handed in a batch."""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from lottery.engines.cuda_graph import CudaGraphs, Recorder
from lottery.engines.lockstep import Lockstep, Member, MemberEngine, kind_of, unsupported
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.training.engine import DenseEngine, Engine
from lottery.training.objective import Objective


class Cohort:
    """Trains in lockstep what belongs together: members of one kind, with batches of one size.

    Who has ended, or diverged, hands in nothing more, and the others go on without it.

    Args:
        device: Where the networks are; on a GPU steps are recorded and replayed.
        size: Number of trainings to be begun together.

    Attributes:
        size: That number.
    """

    def __init__(self, device: torch.device, size: int):
        self.size = size
        self._recorder: Recorder | None = CudaGraphs(device) if device.type == "cuda" else None
        self._handed: dict[CohortEngine, tuple[Tensor, Tensor]] = {}
        self._locksteps: dict[tuple[CohortEngine, ...], Lockstep] = {}
        self._sharing, self._seconds, self._told = 0, 0.0, time.monotonic()

    @property
    def name(self) -> str:
        """Name of the engine of a training that has not stepped yet."""
        return "lockstep" if self._recorder is None else "lockstep, graph"

    def share_time(self, sharing: int) -> None:
        """Share out the time from now on among so many trainings; with 0, none of it counts."""
        self._seconds = self.now()
        self._sharing, self._told = sharing, time.monotonic()

    def now(self) -> float:
        """Return the seconds that have been shared out to each: of one second among four trainings a quarter."""
        return self._seconds + ((time.monotonic() - self._told) / self._sharing if self._sharing else 0.0)

    def refuse(self, objective: Objective, optimizer: torch.optim.Optimizer) -> None:
        """Refuse networks and optimizers that cannot be trained in lockstep.

        Raises:
            UsageError: They cannot; the message says why.
        """
        why = unsupported([Member(objective, optimizer, Mask({}))], self._recorder)
        if why is not None:
            raise UsageError(f"--lockstep {self.size}: {why}; leave it out")

    def engine(self, objective: Objective, optimizer: torch.optim.Optimizer, mask: Mask | None) -> Engine:
        """Return the engine of a training that joins; the dense one where it has to go by itself.

        That is where its mask changes on the way (None), and where its network, that of a control, is another one.
        """
        if mask is None or unsupported([Member(objective, optimizer, mask)], self._recorder) is not None:
            return DenseEngine(objective, optimizer)
        return CohortEngine(self, Member(objective, optimizer, mask))

    def hand_in(self, engine: CohortEngine, x: Tensor, y: Tensor) -> None:
        """Take the batch of a member for the next step."""
        self._handed[engine] = (x, y)

    def step(self) -> None:
        """Do the steps of all members that have handed in a batch."""
        groups: dict[Hashable, list[CohortEngine]] = {}
        for engine, (x, y) in self._handed.items():
            groups.setdefault((kind_of(engine.member), x.shape, y.shape), []).append(engine)
        used = {}
        for together in map(tuple, groups.values()):
            xs, ys = zip(*(self._handed[engine] for engine in together), strict=True)
            used[together] = lockstep = self._locksteps.get(together) or self._begun(together)
            for engine, loss in zip(together, lockstep.step(torch.stack(xs), torch.stack(ys)), strict=True):
                engine.loss = loss
        self._locksteps = used  # the networks of those that have ended are kept no longer
        self._handed.clear()

    def _begun(self, together: Sequence[CohortEngine]) -> Lockstep:
        """Return a lockstep of these members, to which they bring their state from those that they were in."""
        for engine in together:
            engine.flush()
        lockstep = Lockstep([engine.member for engine in together], self._recorder)
        for engine, joined in zip(together, lockstep.engines, strict=True):
            engine.joined = joined
        return lockstep


class CohortEngine:
    """The `JointEngine` of one member.

    Attributes:
        member: Its network, optimizer and mask.
        joined: The engine that it has in a lockstep; None before the first step.
        loss: The loss of the step that was done for it.
        threads: None: a cohort has the threads of the machine.
    """

    def __init__(self, cohort: Cohort, member: Member):
        self._cohort, self.member = cohort, member
        self.joined: MemberEngine | None = None
        self.loss: Tensor | None = None
        self.threads: int | None = None

    @property
    def name(self) -> str:
        """Name of the engine in what is recorded of a training."""
        return self._cohort.name if self.joined is None else self.joined.name

    def hand_in(self, x: Tensor, y: Tensor) -> None:
        """Hand in the batch of the next step."""
        self._cohort.hand_in(self, x, y)

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of the batch that was handed in, before the step that the cohort has done."""
        assert self.loss is not None, "the cohort has not stepped"
        loss, self.loss = self.loss, None
        return loss

    def outputs(self, x: Tensor) -> Tensor:
        """Return what the network in evaluation mode computes of this batch, float32."""
        return DenseEngine(self.member.objective, self.member.optimizer).outputs(x)

    def load(self) -> None:
        """Take the optimizer's state from the optimizer; before the first step it is where it is."""
        if self.joined is not None:
            self.joined.load()

    def flush(self) -> None:
        """Put the optimizer's state into the optimizer."""
        if self.joined is not None:
            self.joined.flush()
