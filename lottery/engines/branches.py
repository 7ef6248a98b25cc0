"""Networks of any kind side by side: a step of each is a branch of one recording.

A branch is done on a stream of its own, so that a GPU which one small network leaves idle computes several at once. The
operations of a branch are those of its network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from lottery.engines.cuda_graph import Recorder, capturable
from lottery.engines.stacked import Member
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective


class Branches:
    """The steps of several networks as one step.

    Weights and state of the optimizers stay where they are.

    Args:
        members: The trainings, of which `unsupported` finds nothing wrong.
        recorder: Records the step; it says how calls are done side by side.

    Attributes:
        objective: Its closure trains all members, each on its part of the batch.
        optimizer: The optimizers of all as one.
        losses: The losses of the last step, (K,).
    """

    def __init__(self, members: Sequence[Member], recorder: Recorder):
        self._members = members
        self.losses = torch.zeros(len(members), device=members[0].objective.parameters[0].device)
        self.objective = _EachObjective(members, recorder, self.losses)
        self.optimizer = _Optimizers(members)

    def take_rates(self) -> None:
        """Do nothing: the rates are where they are."""

    def load(self, place: int) -> bool:
        """Look where the state of one member's optimizer is now, and return True: it may be elsewhere."""
        self.optimizer.state.update(self._members[place].optimizer.state)
        return True

    def flush(self, place: int) -> None:
        """Do nothing: the state is where it is."""


class _EachObjective(Objective):
    """The batches of several networks, (K, n, ...); its closure trains each on its own."""

    def __init__(self, members: Sequence[Member], recorder: Recorder, losses: Tensor):
        first = members[0].objective
        super().__init__(first.model, first.loss, lambda: iter(()), steps_per_epoch=1, precision=first.precision)
        self._steps = [DenseEngine(member.objective, member.optimizer).step for member in members]
        self._recorder, self._losses = recorder, losses

    def closure(self) -> Tensor:
        """Train each member one step, and return the sum of their losses before it."""
        self._recorder.side_by_side([partial(self._train, place) for place in range(len(self._steps))])
        return self._losses.sum()

    def _train(self, place: int) -> None:
        self._losses[place].copy_(self._steps[place](self.x[place], self.y[place]))


class _Optimizers(torch.optim.Optimizer):
    """The optimizers of all members as one, whose step is what its closure does.

    Its groups are theirs, the same objects: a learning rate that is written here is the one that they read.
    """

    def __init__(self, members: Sequence[Member]):
        super().__init__([group for member in members for group in member.optimizer.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call the closure."""
        assert closure is not None
        return closure()


def unsupported(members: Sequence[Member]) -> str | None:
    """Return why no recording can be made of these trainings side by side, in words; None where one can."""
    for member in members:
        if not capturable(member.optimizer):
            return "records steps of optimizers only that can be replayed, see train.engine: graph"
        if any(isinstance(module, _DropoutNd) and module.p > 0 for module in member.objective.model.modules()):
            return "trains networks without dropout only: all would draw from one generator"
    return None
