"""Densely connected convolutional networks for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.activations import ActivationName
from lottery.catalogue.models._keys import Dropout, Width, image_shape, scaling
from lottery.catalogue.normalizations import NormName
from lottery.errors import UsageError
from lottery.registry import models

if TYPE_CHECKING:
    from torch import nn


@models.register("densenet", source="Huang et al. 2017", scaled=scaling("growth"))
def densenet(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Field(ge=7)] = 40,
    growth: Width = 12,
    bottleneck: bool = False,
    compression: Annotated[float, Field(gt=0, le=1)] = 1.0,
    norm: NormName = "batch",
    activation: ActivationName = "relu",
    dropout: Dropout = 0.0,
) -> nn.Module:
    """DenseNet-40-12 for small images, or the one of another `depth` and `growth`: three dense blocks.

    In a block each layer normalizes, activates and convolves all that came before and adds `growth` channels; with
    `bottleneck` behind a 1x1 convolution to 4 times as many (depth 6n + 4, else 3n + 4). Transitions keep the part
    `compression` of the channels. DenseNet-BC-100-12 is {depth: 100, bottleneck: true, compression: 0.5}. The first
    layer has 16 channels, in DenseNet-BC twice `growth`. The paper's `dropout` is 0.2 where data is not augmented.
    Layers: conv, block1.layer1.conv1, ..., transition1.conv, ..., output.
    """
    from lottery.catalogue.models._densenet import DenseNet

    layers, rest = divmod(depth - 4, 6 if bottleneck else 3)
    if rest or not layers:
        form = "6n + 4 with bottleneck: 10, 16, 22" if bottleneck else "3n + 4: 7, 10, 13"
        raise UsageError(f"model.depth: densenet has depth {form}, ..., not {depth}")
    first = 2 * growth if bottleneck and compression < 1 else 16
    shape = image_shape(input_shape, 4, norm)
    return DenseNet(shape, classes, layers, first, growth, bottleneck, compression, norm, activation, dropout)
