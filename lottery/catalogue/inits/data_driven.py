"""Initializations that look at a batch: its activations (LSUV), or no more of it than its shape (MetaInit)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.registry import inits

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@inits.register("lsuv", source="Mishkin & Matas 2016", batch=True)
def lsuv(
    model: nn.Module,
    generator: torch.Generator,
    batch: tuple[Tensor, Tensor],
    *,
    tolerance: Positive = 0.1,
    tries: Count = 10,
) -> None:
    """Orthonormal weights, then layer by layer W / sqrt(Var(output)) on the batch until |Var - 1| < `tolerance`.

    At most `tries` times a layer. The variance is over all outputs of a layer on all examples. Dropout is off and
    batch normalization uses its fresh running statistics. Under spectral normalization nothing can be scaled.

    Raises:
        UsageError: The outputs of a layer are constant on the batch, or not finite.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw
    from lottery.catalogue.inits._lsuv import unit_variance

    draw(model, lambda weight, _: nn.init.orthogonal_(weight, generator=generator))
    unit_variance(model, batch[0], tolerance, tries)


@inits.register("metainit", source="Dauphin & Schoenholz 2019", batch=True)
def metainit(
    model: nn.Module,
    generator: torch.Generator,
    batch: tuple[Tensor, Tensor],
    *,
    steps: Count = 500,
    lr: Positive = 0.1,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    epsilon: Positive = 1e-5,
) -> None:
    """Variance 2 / fan_in, then the norm of each weight tuned so that a gradient step changes the gradient least.

    Minimizes the mean over parameters of |(g - Hg) / (g + sign(g) epsilon) - 1|, the gradient quotient, with g and H
    the gradient and Hessian of the loss: sign descent with momentum on the norms. As in the paper, inputs are standard
    normal in the shape of the batch and labels random, drawn anew at each of `steps`, in evaluation mode; targets of a
    regression are standard normal. Costs three backward passes a step.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw
    from lottery.catalogue.inits._metainit import tune_norms

    draw(model, lambda weight, _: nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator))
    tune_norms(model, generator, batch, steps=steps, lr=lr, momentum=momentum, epsilon=epsilon)
