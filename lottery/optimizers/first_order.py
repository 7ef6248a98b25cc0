"""First-order optimizers that torch.optim keeps."""

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


def _fused(model: nn.Module) -> dict[str, Any]:
    """torch's fused kernels where it has them: one pass over the weights for each step."""
    parameters = list(model.parameters())
    supported = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return {"fused": True} if supported else {}


@optimizers.register("sgd", source="Robbins & Monro 1951")
def sgd(model: nn.Module, *, lr: Positive, weight_decay: NonNegative = 0.0) -> torch.optim.Optimizer:
    """Stochastic gradient descent without momentum (torch.optim.SGD)."""
    import torch

    return torch.optim.SGD(model.parameters(), lr=lr, weight_decay=weight_decay, **_fused(model))


@optimizers.register("momentum", source="Polyak 1964")
def momentum(
    model: nn.Module, *, lr: Positive, momentum: Fraction = 0.9, weight_decay: NonNegative = 0.0
) -> torch.optim.Optimizer:
    """SGD with heavy-ball momentum, v = beta v + g; w -= lr v (torch.optim.SGD)."""
    import torch

    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, **_fused(model))


@optimizers.register("nesterov", source="Nesterov 1983; Sutskever et al. 2013")
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
        model.parameters(), lr=lr, momentum=momentum, nesterov=True, weight_decay=weight_decay, **_fused(model)
    )


@optimizers.register("adam", source="Kingma & Ba 2015")
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

    return torch.optim.Adam(model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **_fused(model))
