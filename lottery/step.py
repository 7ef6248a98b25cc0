"""What one training step is for this model, optimizer, precision and device: the one place that speed work changes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[[Tensor, Tensor], Tensor]


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """bf16 for the operations that keep their accuracy in it; nothing for fp32 and tf32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def build_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    precision: str,
    clip: float | None,
    label_smoothing: float,
    device: torch.device,
) -> Step:
    """The function (inputs, labels) -> mean loss before the step, a 0-d tensor on the device; nothing waits for it."""
    parameters = [p for p in model.parameters() if p.requires_grad]

    def step(x: Tensor, y: Tensor) -> Tensor:
        def closure() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with autocast(precision, device):
                loss = functional.cross_entropy(model(x), y, label_smoothing=label_smoothing)
            loss.backward()  # type: ignore[no-untyped-call]
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            return loss

        loss = optimizer.step(closure)  # type: ignore[arg-type]
        assert isinstance(loss, Tensor)
        return loss.detach()

    return step
