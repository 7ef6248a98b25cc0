"""The optimizer that a recipe names inside another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lottery.errors import UsageError
from lottery.registry import optimizers

if TYPE_CHECKING:
    from lottery.values import Component


def nested(component: Component, holder: nn.Module, *, lr: float, inside: str) -> torch.optim.Optimizer:
    """Return the optimizer over the holder's parameters, at the outer one's `lr` if it names none of its own.

    Raises:
        UsageError: It needs more than the gradients it finds (trait `nests=False`).
    """
    entry = optimizers[component.name]
    if not entry.traits.nests:
        raise UsageError(
            f"train.optimizer.optimizer: {component.name} cannot work inside {inside}: it evaluates the loss itself; "
            "write one that steps by its gradient, such as momentum or adamw"
        )
    optimizer = entry.make(holder, **{"lr": lr, **component.args})
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer
