"""Initializations: `f(model, generator)` draws each linear and convolutional weight anew, in the order of the modules.

Biases become zero, normalizations start at weight 1, bias 0 and fresh statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from lottery.registry import inits

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@inits.register("glorot_normal", source="Glorot & Bengio 2010")
def glorot_normal(model: nn.Module, generator: torch.Generator) -> None:
    """Normal, variance 2 / (fan_in + fan_out)."""
    from torch import nn

    _draw(model, lambda weight: nn.init.xavier_normal_(weight, generator=generator))


@inits.register("glorot_uniform", source="Glorot & Bengio 2010")
def glorot_uniform(model: nn.Module, generator: torch.Generator) -> None:
    """Uniform within sqrt(6 / (fan_in + fan_out)), variance 2 / (fan_in + fan_out)."""
    from torch import nn

    _draw(model, lambda weight: nn.init.xavier_uniform_(weight, generator=generator))


@inits.register("kaiming_normal", source="He et al. 2015")
def kaiming_normal(
    model: nn.Module, generator: torch.Generator, *, fan: Literal["fan_in", "fan_out"] = "fan_in"
) -> None:
    """Normal, variance 2 / fan: the gain of ReLU."""
    from torch import nn

    _draw(model, lambda weight: nn.init.kaiming_normal_(weight, mode=fan, nonlinearity="relu", generator=generator))


@inits.register("kaiming_uniform", source="He et al. 2015")
def kaiming_uniform(
    model: nn.Module, generator: torch.Generator, *, fan: Literal["fan_in", "fan_out"] = "fan_in"
) -> None:
    """Uniform within sqrt(6 / fan), variance 2 / fan: the gain of ReLU."""
    from torch import nn

    _draw(model, lambda weight: nn.init.kaiming_uniform_(weight, mode=fan, nonlinearity="relu", generator=generator))


@inits.register("lecun_normal", source="LeCun et al. 1998")
def lecun_normal(model: nn.Module, generator: torch.Generator) -> None:
    """Normal, variance 1 / fan_in."""
    from torch import nn

    _draw(model, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator))


@inits.register("torch", source="PyTorch's reset_parameters")
def torch_default(model: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own default: weights and biases uniform within 1 / sqrt(fan_in)."""
    from torch import nn

    def bias(weight: Tensor, values: Tensor) -> None:
        bound = 1 / math.sqrt(nn.init._calculate_fan_in_and_fan_out(weight)[0])
        nn.init.uniform_(values, -bound, bound, generator=generator)

    _draw(model, lambda weight: nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator), bias)


def _draw(
    model: nn.Module, draw: Callable[[Tensor], object], bias: Callable[[Tensor, Tensor], None] | None = None
) -> None:
    from torch import nn

    from lottery.build import PRUNABLE

    for module in model.modules():
        if isinstance(module, PRUNABLE):
            draw(module.weight)
            if module.bias is not None and bias is not None:
                bias(module.weight, module.bias)
            elif module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)):
            module.reset_parameters()
