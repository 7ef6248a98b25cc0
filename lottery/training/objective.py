"""The training loss of a network, as a step, an optimizer and a criterion ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import Tensor, nn

from lottery.distributed.share import parts_of

Batch = tuple[Tensor, Tensor]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of bf16, for the operations that keep their accuracy in it; for fp32 and tf32 an empty one."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def loss_of(*, regression: bool, label_smoothing: float = 0.0) -> nn.Module:
    """Return the mean squared error for targets that are numbers, else the cross-entropy."""
    return nn.MSELoss() if regression else nn.CrossEntropyLoss(label_smoothing=label_smoothing)


class Objective:
    """The mean training loss and its gradient: on the batch of a step, and on the whole training set.

    An optimizer that needs more than a closure has an attribute `objective`, which the trainer sets before the first
    step; `x` and `y` are the batch of the current step. Gradients are left in `.grad`, already masked where the network
    is.

    Args:
        model: The network.
        loss: The mean over a batch of outputs and targets.
        whole: Makes the batches of one pass over the training set, not augmented.
        steps_per_epoch: Number of steps in a pass.
        precision: `train.precision` of the recipe.
        clip: Largest norm of a gradient; None for any.
        accumulate: Number of parts in which a batch goes through the network.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        whole: Callable[[], Iterator[Batch]],
        *,
        steps_per_epoch: int,
        precision: str = "fp32",
        clip: float | None = None,
        accumulate: int = 1,
    ):
        self.model, self.loss, self.steps_per_epoch = model, loss, steps_per_epoch
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._batches, self.precision, self.clip, self.accumulate = whole, precision, clip, accumulate
        self.x = self.y = torch.empty(0)

    def value(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, a 0-d tensor that can be differentiated."""
        if self.precision != "bf16":
            value: Tensor = self.loss(self.model(x), y)
            return value
        with autocast(self.precision, x.device):
            loss: Tensor = self.loss(self.model(x), y)
        return loss

    def closure(self) -> Tensor:
        """Compute gradients of the batch's mean loss, clipped where the recipe says so, and return the loss, detached.

        With `accumulate` above 1 the batch goes through the network in so many parts, of at least two examples, each
        weighted by its size; batch normalization then sees the statistics of each part.
        """
        self._forget()
        with torch.enable_grad():
            parts = parts_of(len(self.y), self.accumulate)
            if parts == 1:
                whole = self.value(self.x, self.y)
                whole.backward()  # type: ignore[no-untyped-call]
                loss = whole.detach()
            else:
                loss = self._in_parts(parts)
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        return loss

    def _in_parts(self, parts: int) -> Tensor:
        """Add up the gradients of so many parts of the batch, and return its mean loss, detached."""
        losses = []
        for x, y in zip(self.x.tensor_split(parts), self.y.tensor_split(parts), strict=True):
            part = self.value(x, y) * (len(y) / len(self.y))
            part.backward()  # type: ignore[no-untyped-call]
            losses.append(part.detach())
        return reduce(torch.add, losses)

    @torch.enable_grad()
    def whole(self) -> Tensor:
        """Compute gradients of the mean loss over the whole training set, and return the loss, detached.

        Examples are not augmented and gradients not clipped. Statistics of normalizations are those of each part;
        running ones stay as they were.
        """
        self._forget()
        buffers = {name: value.clone() for name, value in self.model.named_buffers()}
        total, count = torch.zeros((), device=self.parameters[0].device), 0
        for x, y in without_a_last_one_alone(self._batches()):
            part = self.value(x, y) * len(y)
            part.backward()  # type: ignore[no-untyped-call]
            total, count = total + part.detach(), count + len(y)
        with torch.no_grad():
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= count
            for name, value in self.model.named_buffers():
                value.copy_(buffers[name])
        return total / count

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def without_a_last_one_alone(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches, a last one of a single example joined to the one before.

    Batch normalization takes no single examples.
    """
    held: Batch | None = None
    for x, y in batches:
        if held is not None and len(y) == 1:
            held = torch.cat([held[0], x]), torch.cat([held[1], y])
            continue
        if held is not None:
            yield held
        held = x, y
    if held is not None:
        yield held
