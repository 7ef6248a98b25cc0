"""What one training step is for this model, optimizer, precision and device: the one place that speed work changes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lottery.objective import Objective

Step = Callable[[Tensor, Tensor], Tensor]


def build_step(objective: Objective, optimizer: torch.optim.Optimizer) -> Step:
    """The function (inputs, targets) -> mean loss before the step, a 0-d tensor on the device; nothing waits for it."""
    if hasattr(optimizer, "objective"):
        optimizer.objective = objective

    def step(x: Tensor, y: Tensor) -> Tensor:
        objective.x, objective.y = x, y
        loss = optimizer.step(objective.closure)  # type: ignore[arg-type]
        assert isinstance(loss, Tensor)
        return loss.detach()

    return step
