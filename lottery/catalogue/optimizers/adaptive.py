"""Optimizers with a step size of its own for each weight, as torch.optim and pytorch_optimizer keep them.

`weight_decay` is an L2 penalty that is added to the gradient, as in Adam, for all of them but `adamw`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.optimizers.first_order import Fraction, NonNegative, Positive, fused
from lottery.registry import optimizers

if TYPE_CHECKING:
    import torch
    from torch import nn

Betas = tuple[Fraction, Fraction]


@optimizers.register("adagrad", source="Duchi, Hazan & Singer 2011", rates=(1e-3, 1e-1))
def adagrad(
    model: nn.Module,
    *,
    lr: Positive = 1e-2,
    lr_decay: NonNegative = 0.0,
    initial_accumulator: NonNegative = 0.0,
    eps: Positive = 1e-10,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adagrad: G += g^2; w -= lr g / (sqrt(G) + eps) (torch.optim.Adagrad).

    `initial_accumulator` is G before the first step. `lr_decay`, which is not in the paper, divides the rate by
    1 + lr_decay (t - 1).
    """
    import torch

    return torch.optim.Adagrad(
        model.parameters(),
        lr=lr,
        lr_decay=lr_decay,
        initial_accumulator_value=initial_accumulator,
        eps=eps,
        weight_decay=weight_decay,
        **fused(model, "cpu"),  # torch 2.11 has no fused kernel of it for CUDA
    )


@optimizers.register("adadelta", source="Zeiler 2012", rates=(0.1, 10.0))
def adadelta(
    model: nn.Module,
    *,
    lr: Positive = 1.0,
    rho: Fraction = 0.95,
    eps: Positive = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adadelta: steps of RMS(earlier steps) / RMS(gradients) times the gradient (torch.optim.Adadelta).

    The paper has no learning rate: 1 is its method. Its rho is 0.95; torch's default is 0.9.
    """
    import torch

    return torch.optim.Adadelta(model.parameters(), lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)


@optimizers.register("rmsprop", source="Tieleman & Hinton 2012; Graves 2013 (centered)", rates=(1e-4, 1e-2))
def rmsprop(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    alpha: Fraction = 0.9,
    eps: Positive = 1e-8,
    momentum: Fraction = 0.0,
    centered: bool = False,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """RMSprop: the gradient over the root of its running mean square (torch.optim.RMSprop).

    alpha is 0.9 as in the lecture; torch's defaults are alpha 0.99 and lr 0.01. `centered` takes the variance in place
    of the mean square.
    """
    import torch

    return torch.optim.RMSprop(
        model.parameters(),
        lr=lr,
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
    )


@optimizers.register("amsgrad", source="Reddi, Kale & Kumar 2018", rates=(1e-4, 1e-2))
def amsgrad(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam over the largest second moments so far (torch.optim.Adam with amsgrad).

    torch corrects both moments for their bias, the second one after the maximum is taken; the paper corrects none.
    """
    import torch

    return torch.optim.Adam(
        model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=True, **fused(model)
    )


@optimizers.register("nadam", source="Dozat 2016", rates=(1e-4, 1e-2))
def nadam(
    model: nn.Module,
    *,
    lr: Positive = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    momentum_decay: NonNegative = 4e-3,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam with Nesterov momentum (torch.optim.NAdam).

    The momentum of step t is mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2). As torch has it, the running mean of the
    gradients keeps beta1, and mu(t) only weighs it against the gradient; the paper's mean takes mu(t) too.
    """
    import torch

    return torch.optim.NAdam(
        model.parameters(), lr=lr, betas=betas, eps=eps, momentum_decay=momentum_decay, weight_decay=weight_decay
    )


@optimizers.register("radam", source="Liu et al. 2020", rates=(3e-4, 3e-2))
def radam(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Rectified Adam: momentum alone until the variance of the step size is bounded (torch.optim.RAdam).

    torch, like the authors' code, rectifies where the length of the moving average is above 5; the paper says 4.
    """
    import torch

    # foreach: on a CPU at least twice as fast as the loop that is the class's default
    return torch.optim.RAdam(model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=True)


@optimizers.register("adamax", source="Kingma & Ba 2015, section 7.1", rates=(2e-4, 2e-2))
def adamax(
    model: nn.Module,
    *,
    lr: Positive = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam over a decaying maximum norm, u = max(beta2 u, abs(g) + eps) (torch.optim.Adamax).

    The paper has no eps.
    """
    import torch

    return torch.optim.Adamax(model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


@optimizers.register("adamw", source="Loshchilov & Hutter 2019", rates=(1e-4, 1e-2))
def adamw(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 1e-2,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay, w -= lr weight_decay w beside each step (torch.optim.AdamW).

    torch scales the decay by the learning rate; the paper by the schedule's multiplier alone, so its weight decay is
    ours times lr.
    """
    import torch

    return torch.optim.AdamW(model.parameters(), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **fused(model))


@optimizers.register("yogi", source="Zaheer et al. 2018", rates=(1e-3, 1e-1))
def yogi(
    model: nn.Module,
    *,
    lr: Positive = 1e-2,
    betas: Betas = (0.9, 0.999),
    eps: Positive = 1e-3,
    initial_accumulator: NonNegative = 1e-6,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam whose second moment v moves by (1 - beta2) g^2 at most, towards g^2 (pytorch_optimizer.Yogi).

    The class differs from the paper: both moments are corrected for bias, and the first one starts at
    `initial_accumulator` as the second does, so that a weight without gradient moves a little. Its own weight decay is
    decoupled by default; this one is coupled.
    """
    from pytorch_optimizer import Yogi

    return Yogi(
        model.parameters(),
        lr=lr,
        betas=betas,
        eps=eps,
        initial_accumulator=initial_accumulator,
        weight_decay=weight_decay,
        weight_decouple=False,
    )


@optimizers.register("padam", source="Chen et al. 2020", rates=(1e-2, 1.0))
def padam(
    model: nn.Module,
    *,
    lr: Positive = 0.1,
    betas: Betas = (0.9, 0.999),
    partial: Annotated[float, Field(gt=0, le=0.5)] = 0.125,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam with the second moment to the power `partial` in place of 1/2 (pytorch_optimizer.PAdam).

    `partial` is the paper's 1/8; the class has 1/4. The class is the partially adaptive Adam: the paper's algorithm
    takes the largest second moments so far, as amsgrad does. The bias correction of the second moment keeps the power
    1/2, as in the authors' code.
    """
    from pytorch_optimizer import PAdam

    return PAdam(
        model.parameters(),
        lr=lr,
        betas=betas,
        partial=partial,
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=False,
    )


@optimizers.register("adabound", source="Luo et al. 2019", rates=(1e-4, 1e-2))
def adabound(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    final_lr: Positive = 0.1,
    betas: Betas = (0.9, 0.999),
    gamma: Positive = 1e-3,
    eps: Positive = 1e-8,
    amsbound: bool = False,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam with step sizes clipped to a band that closes around `final_lr` (pytorch_optimizer.AdaBound).

    A schedule scales the band as it scales lr. `gamma` is how fast the band closes, `amsbound` takes the largest second
    moments so far. As in the authors' code, moments are corrected for bias and steps are not divided by sqrt(t), unlike
    in the paper's algorithm. The class's own weight decay is decoupled by default; this one is coupled.
    """
    from pytorch_optimizer import AdaBound

    return AdaBound(
        model.parameters(),
        lr=lr,
        final_lr=final_lr,
        betas=betas,
        gamma=gamma,
        eps=eps,
        ams_bound=amsbound,
        weight_decay=weight_decay,
        weight_decouple=False,
    )


@optimizers.register("adamod", source="Ding et al. 2019", rates=(3e-4, 3e-2))
def adamod(
    model: nn.Module,
    *,
    lr: Positive = 1e-3,
    betas: Betas = (0.9, 0.999),
    beta3: Fraction = 0.999,
    eps: Positive = 1e-8,
    weight_decay: NonNegative = 0.0,
) -> torch.optim.Optimizer:
    """Adam with step sizes bounded by their own running mean (pytorch_optimizer.AdaMod).

    The mean starts at 0, which warms the training up over about 1 / (1 - beta3) steps, and remembers the rates of a
    schedule. betas and beta3 are the paper's; the class has (0.9, 0.99, 0.9999). As in the authors' code, what is
    bounded includes both bias corrections; in the paper the first moment's stands outside. The class's own weight decay
    is decoupled by default; this one is coupled.
    """
    from pytorch_optimizer import AdaMod

    return AdaMod(
        model.parameters(),
        lr=lr,
        betas=(*betas, beta3),
        eps=eps,
        weight_decay=weight_decay,
        weight_decouple=False,
    )
