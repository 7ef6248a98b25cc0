"""Residual networks that need no normalization: for the init `fixup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.catalogue.activations import ActivationName
from lottery.catalogue.models._keys import Width, image_shape, scaling
from lottery.catalogue.models.convolutional import RESNET_BLOCKS
from lottery.catalogue.normalizations import NormName
from lottery.registry import models

if TYPE_CHECKING:
    from torch import nn


def _register(name: str, blocks: int) -> None:
    def fixup_resnet(
        input_shape: tuple[int, ...],
        classes: int,
        *,
        norm: NormName = "none",
        activation: ActivationName = "relu",
        width: Width = 16,
    ) -> nn.Module:
        from lottery.catalogue.models._fixup import FixupResNet

        return FixupResNet(image_shape(input_shape, 4, norm), classes, blocks, norm, activation, width)

    fixup_resnet.__doc__ = (
        f"{name.replace('resnet', 'ResNet-')} for small images, without normalization: for `init: fixup`.\n\n"
        "A scalar bias, at first 0, before each convolution, activation and linear layer but the first convolution, a\n"
        "scalar multiplier, at first 1, after each branch; shortcuts subsampled and padded with zero channels. The\n"
        "authors train these scalars at a tenth of the learning rate; here all parameters have one. A `norm` other\n"
        "than none acts on the outputs of convolutions, or on the weights."
    )
    models.register(f"fixup_{name}", source="Zhang, Dauphin & Ma 2019", scaled=scaling("width"))(fixup_resnet)


for _name, _blocks in RESNET_BLOCKS.items():
    _register(_name, _blocks)
