"""Provably accelerated and quasi-hyperbolic momentum, as pytorch_optimizer keeps them.

`weight_decay` is an L2 penalty that is added to the gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from lottery.catalogue.optimizers.first_order import Fraction, NonNegative, Positive
from lottery.errors import UsageError
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn

Discount = Annotated[float, Field(ge=0, le=1)]


def _distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(values)) < len(values):
        raise ValueError("each value may be given once")
    return values


@optimizers.register("accsgd", source="Kidambi et al. 2018; Jain et al. 2018", rates=(1e-3, 0.3))
def accsgd(
    model: nn.Module,
    *,
    lr: Positive,
    kappa: Annotated[float, Field(ge=1)] = 1000.0,
    xi: Annotated[float, Field(ge=1)] = 10.0,
    constant: Annotated[float, Field(gt=0, lt=1)] = 0.7,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Accelerated SGD: weights between a short step and a running average of long ones (pytorch_optimizer.AccSGD).

    `lr` is the short step, lr kappa / constant the long one, `xi` the statistical advantage, 1 to sqrt(kappa). The
    average is of weights, not of gradients: a step with a rate of 0 still moves the weights towards it.

    Raises:
        UsageError: `xi` is above sqrt(`kappa`).
    """
    from pytorch_optimizer import AccSGD

    if xi**2 > kappa:
        raise UsageError(f"accsgd: xi {xi:g} is above sqrt(kappa) = {kappa**0.5:g}; lower xi or raise kappa")
    return AccSGD(model.parameters(), lr=lr, kappa=kappa, xi=xi, constant=constant, weight_decay=weight_decay)


@optimizers.register("qhm", source="Ma & Yarats 2019", rates=(1e-2, 3.0))
def qhm(
    model: nn.Module,
    *,
    lr: Positive,
    momentum: Fraction = 0.999,
    nu: Discount = 0.7,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Quasi-hyperbolic momentum: w -= lr ((1 - nu) g + nu v), v the running mean of g (pytorch_optimizer.QHM).

    v is a mean, not a sum: a rate for heavy-ball momentum 0.9 corresponds to ten times as much here. momentum and nu
    are what the paper recommends; the class has 0 and 1.
    """
    from pytorch_optimizer import QHM

    # foreach: the class's default is a loop over the parameters, slow on a GPU
    return QHM(model.parameters(), lr=lr, momentum=momentum, nu=nu, weight_decay=weight_decay, foreach=None)


@optimizers.register("qhadam", source="Ma & Yarats 2019", rates=(1e-4, 1e-2))
def qhadam(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: tuple[Fraction, Fraction] = (0.995, 0.999),
    nus: tuple[Discount, Discount] = (0.7, 1.0),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam with each moment mixed with the gradient's own, by `nus` (pytorch_optimizer.QHAdam).

    betas and nus are what the paper recommends; the class has (0.9, 0.999) and (1, 1), which is Adam. The class keeps
    the bias corrections in float32 whatever the weights are.
    """
    from pytorch_optimizer import QHAdam

    return QHAdam(model.parameters(), lr=lr, betas=betas, nus=nus, eps=eps, weight_decay=weight_decay)


@optimizers.register("aggmo", source="Lucas et al. 2019", rates=(1e-3, 0.3))
def aggmo(
    model: nn.Module,
    *,
    lr: Positive,
    betas: Annotated[tuple[Fraction, ...], Field(min_length=2), AfterValidator(_distinct)] = (0.0, 0.9, 0.99),
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Aggregated momentum: the mean step of several heavy balls, one for each of `betas` (pytorch_optimizer.AggMo)."""
    from pytorch_optimizer import AggMo

    # the class takes any number of betas, its annotation two or three
    return AggMo(model.parameters(), lr=lr, betas=betas, weight_decay=weight_decay)  # type: ignore[arg-type]
