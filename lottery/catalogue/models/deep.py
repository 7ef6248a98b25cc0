"""Networks to study depth by: linear ones, plain ones without shortcuts, and highways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from lottery.catalogue.activations import ActivationName
from lottery.catalogue.models._keys import Width, image_shape, scaling
from lottery.catalogue.normalizations import NormName
from lottery.registry import models

if TYPE_CHECKING:
    from torch import nn


def _of_blocks(depth: int) -> int:
    if depth % 6 != 2:
        raise ValueError(f"depth is 6n + 2: 8, 14, 20, 26, ..., not {depth}")
    return depth


@models.register("deep_linear", source="Saxe et al. 2014", scaled=scaling("width"))
def deep_linear(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: Width = 100,
    depth: Annotated[int, Field(ge=1)] = 2,
    norm: NormName = "none",
) -> nn.Module:
    """A product of `depth` matrices without activations and biases: fc1, fc2, ... of `width` units, output.

    Of depth 2 and fed with identity, as by the data set matrix_factorization, it is matrix factorization: the outputs
    are (output.weight fc1.weight)^T, of rank `width` at most. Of depth 1 it is linear
    regression. With a normalization of activations, which acts on the hidden layers, it is no longer linear.
    """
    from lottery.catalogue.models._deep import DeepLinear

    return DeepLinear(input_shape, classes, width, depth, norm)


@models.register("plain", source="He et al. 2016", scaled=scaling("width"))
def plain(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Field(ge=8), AfterValidator(_of_blocks)] = 20,
    norm: NormName = "batch",
    activation: ActivationName = "relu",
    width: Width = 16,
) -> nn.Module:
    """The paper's plain network for small images: the ResNet of the same `depth`, 6n + 2, without its shortcuts.

    Layers have the names of the ResNet's; stages of `width`, 2 and 4 times as many channels.
    """
    from lottery.catalogue.models._convolution import ResNet

    shape, blocks = image_shape(input_shape, 4, norm), (depth - 2) // 6
    return ResNet(shape, classes, blocks, norm, activation, width, shortcut="none")


@models.register("highway", source="Srivastava et al. 2015", scaled=scaling("width"), gates=True)
def highway(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    width: Width = 50,
    depth: Annotated[int, Field(ge=2)] = 10,
    gate_bias: Annotated[float, Field(le=0)] = -2.0,
    norm: NormName = "none",
    activation: ActivationName = "relu",
) -> nn.Module:
    """Fully connected: fc1, then highway layers y = T(x) H(x) + (1 - T(x)) x up to `depth` hidden layers, output.

    H is fc2, fc3, ... with normalization and activation; T is the sigmoid of gate2, gate3, ... plus `gate_bias`.
    That is a constant added to a bias that is learned: an init that makes biases zero leaves gates that carry, and
    weight decay draws them back to it. Gates are prunable layers like the others.
    """
    from lottery.catalogue.models._deep import Highway

    return Highway(input_shape, classes, width, depth, gate_bias, norm, activation)
