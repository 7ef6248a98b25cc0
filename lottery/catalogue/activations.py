"""Activations: to add one, write `f() -> nn.Module` here, decorated with `@activations.register(name, source=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from lottery.registry import activations

if TYPE_CHECKING:
    from torch import nn


ActivationName = Annotated[str, AfterValidator(activations.known)]


@activations.register("relu", source="Nair & Hinton 2010")
def relu() -> nn.Module:
    """Rectified linear unit, max(0, x)."""
    from torch import nn

    return nn.ReLU()


@activations.register("leaky_relu", source="Maas, Hannun & Ng 2013")
def leaky_relu() -> nn.Module:
    """Leaky rectified linear unit: x for x > 0, else 0.01 x."""
    from torch import nn

    return nn.LeakyReLU()


@activations.register("tanh", source="LeCun et al. 1998")
def tanh() -> nn.Module:
    """Hyperbolic tangent."""
    from torch import nn

    return nn.Tanh()


@activations.register("sigmoid", source="Rumelhart, Hinton & Williams 1986")
def sigmoid() -> nn.Module:
    """Logistic function, 1 / (1 + exp(-x))."""
    from torch import nn

    return nn.Sigmoid()


@activations.register("softplus", source="Dugas et al. 2001")
def softplus() -> nn.Module:
    """Softplus, log(1 + exp(x)): a smooth ReLU."""
    from torch import nn

    return nn.Softplus()


@activations.register("elu", source="Clevert, Unterthiner & Hochreiter 2016")
def elu() -> nn.Module:
    """Exponential linear unit: x for x > 0, else exp(x) - 1."""
    from torch import nn

    return nn.ELU()


@activations.register("silu", source="Hendrycks & Gimpel 2016; Elfwing et al. 2018")
def silu() -> nn.Module:
    """Sigmoid linear unit, x sigmoid(x)."""
    from torch import nn

    return nn.SiLU()


@activations.register("gelu", source="Hendrycks & Gimpel 2016")
def gelu() -> nn.Module:
    """Gaussian error linear unit, x Phi(x), with Phi the normal distribution function."""
    from torch import nn

    return nn.GELU()
