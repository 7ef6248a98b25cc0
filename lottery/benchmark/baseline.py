"""The bare loop that the framework is measured against: plain PyTorch, data in memory, no framework."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lottery.training.objective import autocast

Split = tuple[Tensor, Tensor]
EVALUATED_AT_ONCE = 500


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, precision: str = "fp32") -> Tensor:
    """Train one step as anybody writes it, and return the loss, a 0-d tensor; for `bf16` under autocast."""
    optimizer.zero_grad()
    with autocast(precision, x.device):
        loss = functional.cross_entropy(model(x), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    training: Split,
    held_out: Split | None = None,
    *,
    steps: int,
    batch_size: int,
    evaluate_every: int = 0,
) -> None:
    """Train on float inputs that are normalized beforehand, in a new order at each pass.

    Args:
        model: The network.
        optimizer: Its optimizer.
        training: Inputs and classes to train on.
        held_out: Inputs and classes whose loss and accuracy are measured, before the first step and on the way.
        steps: Number of steps.
        batch_size: Examples in a batch.
        evaluate_every: Steps between two measurements.
    """
    x, y = training
    if held_out is not None:
        evaluate(model, held_out)
    done = 0
    while done < steps:
        for indices in torch.split(torch.randperm(len(x), device=x.device), batch_size):
            step(model, optimizer, x[indices], y[indices])
            done += 1
            if held_out is not None and done % evaluate_every == 0:
                evaluate(model, held_out)
            if done == steps:
                return


@torch.no_grad()
def evaluate(model: nn.Module, split: Split) -> tuple[float, float]:
    """Return mean loss, in nats, and accuracy."""
    model.eval()
    loss, correct = 0.0, 0
    for x, y in zip(*(torch.split(part, EVALUATED_AT_ONCE) for part in split), strict=True):
        scores = model(x)
        loss += functional.cross_entropy(scores, y, reduction="sum").item()
        correct += int((scores.argmax(1) == y).sum())
    model.train()
    return loss / len(split[1]), correct / len(split[1])


def lenet() -> nn.Module:
    """Return a LeNet-300-100."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
