"""The optimizer of `signum`, in a module of its own since it needs torch to be defined."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Signum(torch.optim.Optimizer):
    """Steps by the sign of an average of gradients. All that the next step depends on is in `state`."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Take one step; return the loss before it, which the closure computes together with the gradients."""
        with torch.enable_grad():
            loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state: dict[str, Any] = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.add_(average.sign(), alpha=-group["lr"])  # lr: as the schedule has just set it
        return loss
