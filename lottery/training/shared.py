"""Steps of a training on several ranks: each computes its share of the batch, and gradients are reduced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lottery.distributed.batch_norm import alone, average_statistics
from lottery.distributed.group import Group
from lottery.distributed.share import Share
from lottery.distributed.survivors import Survivors
from lottery.training.engine import DenseEngine
from lottery.training.objective import Batch, Objective, autocast
from lottery.training.running_statistics import running_statistics

# Running statistics are equal on all ranks by themselves; later versions of torch have another name for this option.
_OPTIONS = inspect.signature(DistributedDataParallel.__init__).parameters
_NO_SYNC_OF_BUFFERS: Any = {
    "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers": False
}


class SharedObjective(Objective):
    """The mean training loss of a batch that several ranks have a share of each, and its gradient.

    `x` and `y` are this rank's share. Loss and gradient are those of the whole batch, equal on all ranks to the bit.

    Args:
        model: The network; hooks that mask it sit on itself.
        loss: The mean over a batch of outputs and targets.
        whole: Makes the batches of one pass over the training set, the same on each rank.
        group: The ranks.
        share: The part that this rank has of each batch.
        options: Those of `Objective`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        whole: Callable[[], Iterator[Batch]],
        *,
        group: Group,
        share: Share,
        **options: Any,
    ):
        super().__init__(model, loss, whole, **options)
        self._group, self.share = group, share
        self.batch = 0  # examples in the batch of all ranks, which the trainer sets before each step
        # Unused parameters are looked for, not because there must be any: torch else puts gradients into another order
        # after the first step, in which more than two ranks add up otherwise than after a restart.
        self.parallel = DistributedDataParallel(
            model, process_group=group.handle, find_unused_parameters=True, **_NO_SYNC_OF_BUFFERS
        )
        self.hook = Survivors(group)
        self.parallel.register_comm_hook(None, self.hook.reduce)

    @torch.enable_grad()
    def closure(self) -> Tensor:
        """Compute gradients of the batch's mean loss, clipped where the recipe says so, and return the loss, detached.

        The ranks' gradients are averaged once, with the last part of the batch.
        """
        self._forget()
        total = torch.zeros((), dtype=torch.float64, device=self._group.device)
        counts = self.share.counts(self.batch)
        last = len(counts) - 1
        for part, (x, y) in enumerate(zip(torch.split(self.x, counts), torch.split(self.y, counts), strict=True)):
            with self.parallel.no_sync() if part < last else nullcontext():
                loss = self._shared_value(x, y) * (len(y) / self.batch)
                (loss * self._group.size).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        return self._group.sum(total).to(loss.dtype)

    def whole(self) -> Tensor:
        """Compute gradients of the mean loss over the whole training set, and return the loss, detached.

        Each rank makes the whole pass as one process does, and nothing is reduced.
        """
        with alone(self.model):
            return super().whole()

    def _shared_value(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of this rank's examples, whose gradients are reduced."""
        with autocast(self.precision, x.device):
            loss: Tensor = self.loss(self.parallel(x), y)
        return loss


class LocalStatisticsEngine(DenseEngine):
    """The dense engine on one of several ranks, each of which normalizes by the statistics of its own share.

    Running statistics are the means over ranks after each step.
    """

    def __init__(self, objective: SharedObjective, optimizer: torch.optim.Optimizer, group: Group):
        super().__init__(objective, optimizer)
        self._statistics, self._group = running_statistics(objective.model), group

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train one step on this rank's share, and return the mean loss of the whole batch before it."""
        loss = super().step(x, y)
        average_statistics(self._statistics, self._group)
        return loss
