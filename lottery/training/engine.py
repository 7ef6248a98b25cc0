"""The engines that compute the training steps of a network: the one place that speed work changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from lottery.errors import UsageError
from lottery.training.objective import Objective, autocast


class Engine(Protocol):
    """Computes training steps, and outputs between them.

    It may hold weights and optimizer state in a form of its own: between `load` and `flush` those of the model and its
    optimizer mean nothing.

    Attributes:
        threads: Number of threads that it has; None where it is that of the machine.
    """

    threads: int | None

    @property
    def name(self) -> str:
        """Name of the engine in what is recorded of a training."""

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train one step on this batch, and return the mean loss before it, a 0-d tensor on the device.

        Nothing waits for it. The next step may write its loss into the same tensor.
        """

    def outputs(self, x: Tensor) -> Tensor:
        """Return what the network in evaluation mode computes of this batch, float32."""

    def load(self) -> None:
        """Take weights and optimizer state from the model and its optimizer, where they were changed from outside."""

    def flush(self) -> None:
        """Put weights and optimizer state back into the model and its optimizer."""


@runtime_checkable
class JointEngine(Engine, Protocol):
    """An engine whose steps are done together with those of other trainings.

    A batch is handed in, then all steps are done, and `step` returns what came out for this training.
    """

    def hand_in(self, x: Tensor, y: Tensor) -> None:
        """Hand in the batch of the next step."""


class DenseEngine:
    """Computes with torch's own operations on the weights where they are, pruned ones too."""

    name = "dense"

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer):
        self._objective, self._optimizer = objective, optimizer
        self.threads: int | None = None
        if hasattr(optimizer, "objective"):
            optimizer.objective = objective

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train one step on this batch, and return the mean loss before it, a 0-d tensor on the device."""
        self._objective.x, self._objective.y = x, y
        loss = self._optimizer.step(self._objective.closure)  # type: ignore[arg-type]
        if not isinstance(loss, Tensor):  # of an optimizer of the user's
            kind = type(self._optimizer)
            raise UsageError(
                f"optimizer {kind.__module__}.{kind.__qualname__}: its step(closure) returns {type(loss).__name__}; it "
                "has to return the loss that the closure returned"
            )
        return loss.detach() if loss.requires_grad else loss

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the gradient of a step on this batch, leave the weights, and return the mean loss, a 0-d tensor."""
        self._objective.x, self._objective.y = x, y
        return self._objective.closure()

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        """Return what the network in evaluation mode computes of this batch, float32."""
        with autocast(self._objective.precision, x.device):
            outputs: Tensor = self._objective.model(x)
        return outputs.float()

    def load(self) -> None:
        """Do nothing: the weights are where they are."""

    def flush(self) -> None:
        """Do nothing: the weights are where they are."""


class OneDnnEngine(DenseEngine):
    """The dense engine on a CPU, its float32 matrix products by oneDNN where torch has it for this processor.

    That is what torch's precision `bf16` asks for, which may also round them to bfloat16: see `onednn_is_exact`.
    """

    name = "onednn"

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Train one step on this batch, and return the mean loss before it, a 0-d tensor."""
        with _by_onednn():
            return super().step(x, y)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the gradient of a step on this batch; see `DenseEngine`."""
        with _by_onednn():
            return super().gradient(x, y)

    def outputs(self, x: Tensor) -> Tensor:
        """Return what the network in evaluation mode computes of this batch, float32."""
        with _by_onednn():
            return super().outputs(x)


@cache
def onednn_is_exact() -> bool:
    """Return True if oneDNN's products are about as exact as those of the default library.

    Their largest distance from the products in double precision is compared, within four times. On processors with
    instructions for bfloat16 they are not.
    """
    draws = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 512, generator=draws), torch.randn(512, 64, generator=draws)
    right = a.double() @ b.double()
    errors = [(a @ b - right).abs().max()]
    with _by_onednn():
        errors.append((a @ b - right).abs().max())
    return bool(errors[1] <= 4 * errors[0])


@contextmanager
def _by_onednn() -> Iterator[None]:
    """Have torch compute float32 matrix products by oneDNN while the `with` block runs."""
    products = cast(Any, torch.backends.mkldnn).matmul
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before
