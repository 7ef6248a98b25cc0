"""Parts that initializations share: the walk over the layers, and what becomes of biases and normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lottery.catalogue.normalizations._switchable import Switchable
from lottery.network.build import set_weight
from lottery.network.weights import PRUNABLE, weight_parameter

NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, Switchable)


def draw(
    model: nn.Module,
    fill: Callable[[Tensor, nn.Module], object],
    bias: Callable[[Tensor, Tensor], object] | None = None,
) -> None:
    """Set each linear and convolutional weight to what `fill(weight, layer)` makes of a tensor of its shape, in place.

    `bias(values, weight)` fills the biases, which are zero without it. Normalizations start afresh.
    """
    for module in model.modules():
        if isinstance(module, PRUNABLE):
            weight = torch.empty_like(weight_parameter(module)[1], requires_grad=False)
            fill(weight, module)
            set_weight(module, weight)
            if module.bias is not None and bias is not None:
                bias(module.bias, weight)
            elif module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, NORMS):
            module.reset_parameters()


def uniform_norms(model: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of all batch, group, instance and layer normalizations uniformly from [0, 1); biases 0.

    In place and after all else, so that what is drawn before stays as it is.
    """
    for module in model.modules():
        if isinstance(module, NORMS) and module.weight is not None:
            assert isinstance(module.weight, Tensor) and isinstance(module.bias, Tensor)
            nn.init.uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)


def normal(model: nn.Module, generator: torch.Generator, variance: Callable[[int, int], float]) -> None:
    """Draw weights normal with mean 0 and the variance that `variance(fan_in, fan_out)` gives, in place."""

    def fill(weight: Tensor, layer: nn.Module) -> None:
        nn.init.normal_(weight, 0, math.sqrt(variance(*fans(weight))), generator=generator)

    draw(model, fill)


def fans(weight: Tensor) -> tuple[int, int]:
    """Return the number of inputs and of outputs that a unit is connected with; positions of a kernel count each."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    return fan_in, fan_out
