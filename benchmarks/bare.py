"""The bare loop that the framework is measured against: plain PyTorch, data in memory, no framework."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
    """What anybody writes."""
    optimizer.zero_grad()
    loss = functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, *, steps: int, batch_size: int
) -> None:
    """`steps` steps over float inputs that are normalized beforehand, in a new order at each pass."""
    done = 0
    while done < steps:
        order = torch.randperm(len(x))
        for indices in order.split(batch_size):
            step(model, optimizer, x[indices], y[indices])
            done += 1
            if done == steps:
                return


def lenet() -> nn.Module:
    """LeNet-300-100."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
