"""Initializations with a structure beyond a variance: orthogonal ones, the critical line, and Fixup."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.activations import ActivationName
from lottery.catalogue.inits.variance import Norms
from lottery.errors import UsageError
from lottery.registry import inits

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Positive = Annotated[float, Field(gt=0)]


@inits.register("orthogonal", source="Saxe et al. 2014")
def orthogonal(model: nn.Module, generator: torch.Generator, *, gain: Positive = 1.0, norms: Norms = "ones") -> None:
    """Gain * Q with orthonormal rows, or columns where there are fewer; kernels as matrices (outputs, inputs x size).

    Uniform over such matrices (torch.nn.init.orthogonal_). sqrt(2) is the gain of ReLU. `norms` as in
    `kaiming_normal`.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw, uniform_norms

    draw(model, lambda weight, _: nn.init.orthogonal_(weight, gain, generator=generator))
    if norms == "uniform":
        uniform_norms(model, generator)


@inits.register("delta_orthogonal", source="Xiao et al. 2018", zeros=True)
def delta_orthogonal(model: nn.Module, generator: torch.Generator, *, gain: Positive = 1.0) -> None:
    """Kernels zero but for the centre tap, which is gain * Q as in `orthogonal`; linear layers orthogonal.

    Norms are kept where there are as many outputs as inputs or more. Of a grouped convolution, each group by itself.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw

    def fill(weight: Tensor, layer: nn.Module) -> None:
        weight.zero_()
        tap = weight
        for size in weight.shape[2:]:
            tap = tap.select(2, size // 2)
        for group in tap.chunk(getattr(layer, "groups", 1)):
            group.copy_(nn.init.orthogonal_(group.new_empty(group.shape), gain, generator=generator))

    draw(model, fill)


@inits.register("mean_field", source="Poole et al. 2016; Schoenholz et al. 2017")
def mean_field(
    model: nn.Module,
    generator: torch.Generator,
    *,
    activation: ActivationName = "relu",
    bias_var: Annotated[float, Field(ge=0)] = 0.0,
) -> None:
    """Normal, variance s_w^2 / fan_in, on the critical line between order and chaos for a net of this activation.

    Critical is chi = s_w^2 E[phi'(sqrt(q) z)^2] = 1 at the fixed point q = s_w^2 E[phi(sqrt(q) z)^2] + s_b^2 with
    s_b^2 = `bias_var`, the variance of the normal biases; z is standard normal. ReLU: s_w^2 = 2, `bias_var` 0; tanh
    with `bias_var` 0: s_w^2 = 1, q = 0. To be given the model's own activation.

    Raises:
        UsageError: No s_w is critical, such as for ReLU with biases.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw, fans
    from lottery.catalogue.inits._mean_field import critical

    weight_var, _ = critical(activation, bias_var)

    def fill(weight: Tensor, layer: nn.Module) -> None:
        nn.init.normal_(weight, 0, math.sqrt(weight_var / fans(weight)[0]), generator=generator)

    def bias(values: Tensor, weight: Tensor) -> None:
        nn.init.normal_(values, 0, math.sqrt(bias_var), generator=generator)

    draw(model, fill, bias if bias_var else None)


@inits.register("fixup", source="Zhang, Dauphin & Ma 2019", zeros=True)
def fixup(model: nn.Module, generator: torch.Generator) -> None:
    """For residual nets without normalization: each branch starts at 0, so that each block is its shortcut.

    In each of L blocks with a branch of m layers, all but the last are normal with variance 2 / fan_in, times
    L^(-1/(2m-2)); the last and the classifier, the last layer of the model, are 0. Other layers have variance
    2 / fan_in. A block is a module with a list `branch` of its layers; its multipliers (1) and scalar biases (0) are
    the model's.

    Raises:
        UsageError: The model has no such blocks, or a normalization of weights, which has no direction for a layer of
            zeros.
    """
    from torch import nn
    from torch.nn.utils.parametrize import is_parametrized

    from lottery.catalogue.inits._draw import draw
    from lottery.network.weights import PRUNABLE

    found = [getattr(module, "branch", None) for module in model.modules()]
    blocks = [branch for branch in found if isinstance(branch, list)]
    if not blocks:
        raise UsageError("init fixup: the model has no residual blocks made for it; use a model with Fixup blocks")
    if any(is_parametrized(module) for module in model.modules()):
        raise UsageError("init fixup: it starts layers at zero, which no normalization of weights can; use norm: none")
    classifier = [module for module in model.modules() if isinstance(module, PRUNABLE)][-1]
    factors = {id(layer): len(blocks) ** (-1 / (2 * len(branch) - 2)) for branch in blocks for layer in branch[:-1]}
    zeros = {id(branch[-1]) for branch in blocks} | {id(classifier)}

    def fill(weight: Tensor, layer: nn.Module) -> None:
        if id(layer) in zeros:
            weight.zero_()
        else:
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator).mul_(factors.get(id(layer), 1.0))

    draw(model, fill)
