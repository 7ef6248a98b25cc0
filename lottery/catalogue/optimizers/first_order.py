"""Gradient descent with and without momentum, and Adam, of torch.optim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def fused(model: nn.Module, *devices: str) -> dict[str, Any]:
    """Return the option for torch's fused kernels where it has them: one pass over the weights for each step.

    `devices` are the types of device with such a kernel: cpu and cuda where none is named.
    """
    supported = all(p.device.type in (devices or ("cpu", "cuda")) and p.is_floating_point() for p in model.parameters())
    return {"fused": True} if supported else {}


@optimizers.register(
    "gd",
    source="Cauchy 1847",
    rates=(1e-2, 1.0),
    refuses={"batch_size": "its gradient is that of the whole training set; write `batch_size: all`"},
)
def gd(model: nn.Module, *, lr: Positive, weight_decay: NonNegative = 0.0) -> torch.optim.Optimizer:
    """Gradient descent: each step takes the gradient of the mean loss over the whole training set (torch.optim.SGD).

    `weight_decay` is an L2 penalty, added to the gradient.
    """
    import torch

    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay, **fused(model))


@optimizers.register("sgd", source="Robbins & Monro 1951", rates=(1e-3, 1.0))
def sgd(model: nn.Module, *, lr: Positive, weight_decay: NonNegative = 0.0) -> torch.optim.Optimizer:
    """Stochastic gradient descent without momentum (torch.optim.SGD)."""
    import torch

    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay, **fused(model))


@optimizers.register("momentum", source="Polyak 1964", rates=(1e-3, 0.3))
def momentum(
    model: nn.Module, *, lr: Positive, momentum: Fraction = 0.9, weight_decay: NonNegative = 0.0
) -> torch.optim.Optimizer:
    """SGD with heavy-ball momentum, v = beta v + g; w -= lr v (torch.optim.SGD)."""
    import torch

    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, **fused(model))


@optimizers.register("nesterov", source="Nesterov 1983; Sutskever et al. 2013", rates=(1e-3, 0.3))
def nesterov(
    model: nn.Module,
    *,
    lr: Positive,
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.9,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum in the g + beta v form (torch.optim.SGD)."""
    import torch

    return torch.optim.SGD(
        model.parameters(), lr=lr, momentum=momentum, nesterov=True, weight_decay=weight_decay, **fused(model)
    )


@optimizers.register("adam", source="Kingma & Ba 2015", rates=(1e-4, 1e-2))
def adam(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam; `weight_decay` is the L2 penalty of the paper's objective (torch.optim.Adam)."""
    import torch

    return torch.optim.Adam(model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **fused(model))
