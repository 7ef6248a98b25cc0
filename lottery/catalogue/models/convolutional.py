"""Convolutional networks for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lottery.catalogue.activations import ActivationName
from lottery.catalogue.models._keys import Dropout, Width, Widths, image_shape, scaling
from lottery.catalogue.normalizations import NormName
from lottery.registry import models

if TYPE_CHECKING:
    from torch import nn

CONV_BLOCKS = {"conv2": (64,), "conv4": (64, 128), "conv6": (64, 128, 256)}  # two convolutions and a pool each
VGG_BLOCKS = {  # channels and number of convolutions between pools
    "vgg11": ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2)),
    "vgg13": ((64, 2), (128, 2), (256, 2), (512, 2), (512, 2)),
    "vgg16": ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)),
    "vgg19": ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)),
}
RESNET_BLOCKS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}  # in each of 3 stages


def _register_conv(name: str, channels: Sequence[int]) -> None:
    def conv(
        input_shape: tuple[int, ...],
        classes: int,
        *,
        norm: NormName = "none",
        activation: ActivationName = "relu",
        width: Width = 64,
        hidden: Width = 256,
    ) -> nn.Module:
        from lottery.catalogue.models._convolution import Conv

        widths = [max(1, n * width // 64) for n in channels]
        return Conv(image_shape(input_shape, 2 ** len(channels)), classes, widths, norm, activation, hidden)

    conv.__doc__ = (
        f"{2 * len(channels)} convolutions 3x3, a pool after each two, then 256-256-output, for small images.\n\n"
        "`width` is the number of channels of the first block, `hidden` that of units of each hidden linear layer."
    )
    models.register(name, source="Frankle & Carbin 2019; Simonyan & Zisserman 2015", scaled=scaling("width", "hidden"))(
        conv
    )


def _register_vgg(name: str, blocks: Sequence[tuple[int, int]]) -> None:
    def vgg(
        input_shape: tuple[int, ...],
        classes: int,
        *,
        norm: NormName = "batch",
        activation: ActivationName = "relu",
        dropout: Dropout = 0.0,
        width: Width = 64,
    ) -> nn.Module:
        from lottery.catalogue.models._convolution import Vgg

        widths = [(max(1, n * width // 64), count) for n, count in blocks]
        # no pool after the last block, which is averaged over all positions
        return Vgg(image_shape(input_shape, 2 ** (len(blocks) - 1), norm), classes, widths, norm, activation, dropout)

    vgg.__doc__ = (
        f"VGG-{name[3:]} for small images: averaged features and one linear layer, as in OpenLTH.\n\n"
        "`width` is the number of channels of the first block."
    )
    models.register(name, source="Simonyan & Zisserman 2015; Frankle et al. 2020", scaled=scaling("width"))(vgg)


def _register_resnet(name: str, blocks: int) -> None:
    def resnet(
        input_shape: tuple[int, ...],
        classes: int,
        *,
        norm: NormName = "batch",
        activation: ActivationName = "relu",
        width: Width = 16,
        shortcut: Literal["conv", "pad"] = "conv",
    ) -> nn.Module:
        from lottery.catalogue.models._convolution import ResNet

        return ResNet(image_shape(input_shape, 4, norm), classes, blocks, norm, activation, width, shortcut)

    resnet.__doc__ = (
        f"ResNet-{name[6:]} for small images, stages of `width`, 2 and 4 times as many channels.\n\n"
        "Where the shape changes, the shortcut is a 1x1 convolution with normalization (`conv`, as in OpenLTH and\n"
        "Frankle et al. 2020) or subsampled and padded with zero channels (`pad`, option A of the paper)."
    )
    models.register(name, source="He et al. 2016", scaled=scaling("width"))(resnet)


for _name, _channels in CONV_BLOCKS.items():
    _register_conv(_name, _channels)
for _name, _blocks in VGG_BLOCKS.items():
    _register_vgg(_name, _blocks)
for _name, _count in RESNET_BLOCKS.items():
    _register_resnet(_name, _count)


@models.register("lenet5", source="LeCun et al. 1998; Evci et al. 2022", scaled=scaling("channels", "widths"))
def lenet5(
    input_shape: tuple[int, ...],
    classes: int,
    *,
    norm: NormName = "none",
    activation: ActivationName = "relu",
    channels: Widths = (6, 16),
    widths: Widths = (120, 84),
) -> nn.Module:
    """Convolutional LeNet-5: conv1, conv2, ... of 5x5 without padding, a pool after each, then fc1, fc2, ..., output.

    `channels` are those of the convolutions, `widths` those of the hidden fully connected layers. Pools take the
    maximum, and the output is linear.
    """
    from lottery.catalogue.models._convolution import LeNet5

    least = 1  # position after the last pool
    for _ in channels:
        least = 2 * least + 4
    return LeNet5(image_shape(input_shape, least, norm), classes, channels, widths, norm, activation)
