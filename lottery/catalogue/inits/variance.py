"""Initializations that are a distribution and a variance, the same formula for each layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lottery.registry import inits

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Positive = Annotated[float, Field(gt=0)]
Norms = Literal["ones", "uniform"]


@inits.register("glorot_normal", source="Glorot & Bengio 2010")
def glorot_normal(model: nn.Module, generator: torch.Generator) -> None:
    """Normal, variance 2 / (fan_in + fan_out)."""
    from torch import nn

    from lottery.catalogue.inits._draw import draw

    draw(model, lambda weight, _: nn.init.xavier_normal_(weight, generator=generator))


@inits.register("glorot_uniform", source="Glorot & Bengio 2010")
def glorot_uniform(model: nn.Module, generator: torch.Generator) -> None:
    """Uniform within sqrt(6 / (fan_in + fan_out)), variance 2 / (fan_in + fan_out)."""
    from torch import nn

    from lottery.catalogue.inits._draw import draw

    draw(model, lambda weight, _: nn.init.xavier_uniform_(weight, generator=generator))


@inits.register("kaiming_normal", source="He et al. 2015")
def kaiming_normal(
    model: nn.Module,
    generator: torch.Generator,
    *,
    fan: Literal["fan_in", "fan_out"] = "fan_in",
    norms: Norms = "ones",
) -> None:
    """Normal, variance 2 / fan: the gain of ReLU.

    With `norms: uniform` the weights of normalizations are drawn as well, uniformly from [0, 1), where they are 1
    else; biases stay 0: what OpenLTH does with batch normalization (`batchnorm_init`) in its residual networks.
    """
    from torch import nn

    from lottery.catalogue.inits._draw import draw, uniform_norms

    draw(model, lambda w, _: nn.init.kaiming_normal_(w, mode=fan, nonlinearity="relu", generator=generator))
    if norms == "uniform":
        uniform_norms(model, generator)


@inits.register("kaiming_uniform", source="He et al. 2015")
def kaiming_uniform(
    model: nn.Module,
    generator: torch.Generator,
    *,
    fan: Literal["fan_in", "fan_out"] = "fan_in",
    norms: Norms = "ones",
) -> None:
    """Uniform within sqrt(6 / fan), variance 2 / fan: the gain of ReLU. `norms` as in `kaiming_normal`."""
    from torch import nn

    from lottery.catalogue.inits._draw import draw, uniform_norms

    draw(model, lambda w, _: nn.init.kaiming_uniform_(w, mode=fan, nonlinearity="relu", generator=generator))
    if norms == "uniform":
        uniform_norms(model, generator)


@inits.register("lecun_normal", source="LeCun et al. 1998")
def lecun_normal(model: nn.Module, generator: torch.Generator) -> None:
    """Normal, variance 1 / fan_in."""
    from torch import nn

    from lottery.catalogue.inits._draw import draw

    draw(model, lambda weight, _: nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=generator))


@inits.register("lecun_uniform", source="LeCun et al. 1998")
def lecun_uniform(model: nn.Module, generator: torch.Generator) -> None:
    """Uniform within sqrt(3 / fan_in), variance 1 / fan_in."""
    from torch import nn

    from lottery.catalogue.inits._draw import draw

    draw(model, lambda weight, _: nn.init.kaiming_uniform_(weight, nonlinearity="linear", generator=generator))


@inits.register("geometric_mean", source="Glorot & Bengio 2010, with the geometric mean of the fans")
def geometric_mean(model: nn.Module, generator: torch.Generator, *, c: Positive = 2.0) -> None:
    """Normal, variance c / sqrt(fan_in * fan_out); c = 2 is the gain of ReLU."""
    from lottery.catalogue.inits._draw import normal

    normal(model, generator, lambda fan_in, fan_out: c / math.sqrt(fan_in * fan_out))


@inits.register("naive", source="folklore")
def naive(model: nn.Module, generator: torch.Generator, *, std: Positive = 0.01) -> None:
    """Normal with one fixed standard deviation for all layers, whatever their size."""
    from lottery.catalogue.inits._draw import normal

    normal(model, generator, lambda fan_in, fan_out: std**2)


@inits.register("torch", source="PyTorch's reset_parameters")
def torch_default(model: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's own default: weights and biases uniform within 1 / sqrt(fan_in)."""
    from torch import nn

    from lottery.catalogue.inits._draw import draw, fans

    def bias(values: Tensor, weight: Tensor) -> None:
        bound = 1 / math.sqrt(fans(weight)[0])
        nn.init.uniform_(values, -bound, bound, generator=generator)

    draw(model, lambda weight, _: nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator), bias)
