"""Fully connected networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.activations import ActivationName
from lottery.catalogue.models._keys import Dropout, Widths, scaling
from lottery.catalogue.normalizations import NormName
from lottery.registry import models

if TYPE_CHECKING:
    from torch import nn


@models.register(
    "lenet",
    source="LeCun et al. 1998; Frankle & Carbin 2019",
    scaled=scaling("widths"),
    chain=lambda arguments: True,
)
def lenet(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    widths: Widths = (300, 100),
    norm: NormName = "none",
    activation: ActivationName = "relu",
    dropout: Dropout = 0.0,
) -> nn.Module:
    """Fully connected: layers fc1, fc2, ... of the given widths and output."""
    from lottery.catalogue.models._perceptron import Perceptron

    return Perceptron(input_shape, classes, widths, norm, activation, dropout, residual=False)


@models.register(
    "mlp",
    source="Greydanus & Kobak 2024",
    scaled=scaling("widths"),
    chain=lambda arguments: not arguments["residual"],
)
def mlp(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    widths: Widths = (500, 500),
    norm: NormName = "none",
    activation: ActivationName = "relu",
    dropout: Dropout = 0.0,
    residual: bool = False,
) -> nn.Module:
    """Fully connected 500-500; with `residual`, hidden layers from the second on add their input, as for MNIST-1D."""
    from lottery.catalogue.models._perceptron import Perceptron

    return Perceptron(input_shape, classes, widths, norm, activation, dropout, residual=residual)
