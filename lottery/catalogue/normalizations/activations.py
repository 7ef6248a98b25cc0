"""Normalizations of activations: `f(channels, spatial) -> nn.Module` for feature maps (spatial) or feature vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lottery.registry import normalizations

if TYPE_CHECKING:
    from torch import nn


@normalizations.register("none", source="-", running=False)
def none(channels: int, spatial: bool) -> nn.Module:
    """No normalization."""
    from torch import nn

    return nn.Identity()


@normalizations.register("batch", source="Ioffe & Szegedy 2015", running=True)
def batch(channels: int, spatial: bool) -> nn.Module:
    """Batch normalization, with running statistics in evaluation mode."""
    from torch import nn

    return nn.BatchNorm2d(channels) if spatial else nn.BatchNorm1d(channels)


@normalizations.register("layer", source="Ba, Kiros & Hinton 2016", running=False)
def layer(channels: int, spatial: bool) -> nn.Module:
    """Layer normalization over channels and positions, with a weight and bias for each channel."""
    from torch import nn

    return nn.GroupNorm(1, channels)


@normalizations.register("instance", source="Ulyanov, Vedaldi & Lempitsky 2016", running=False)
def instance(channels: int, spatial: bool) -> nn.Module:
    """Instance normalization: each channel of each image over its positions; feature vectors have none and stay."""
    from torch import nn

    return nn.InstanceNorm2d(channels, affine=True) if spatial else nn.Identity()


@normalizations.register("group", source="Wu & He 2018", running=False)
def group(channels: int, spatial: bool) -> nn.Module:
    """Group normalization in 32 groups, or the most that divide 32 and the channels."""
    from torch import nn

    return nn.GroupNorm(math.gcd(32, channels), channels)


@normalizations.register("switchable", source="Luo et al. 2019", running=True)
def switchable(channels: int, spatial: bool) -> nn.Module:
    """A learned softmax mix of instance, layer and batch statistics, with weights of its own for mean and variance.

    Feature vectors have no positions: layer and batch statistics remain. Running batch statistics in evaluation mode,
    averaged as batch normalization does it (0.1 of the new, unbiased variance).
    """
    from lottery.catalogue.normalizations._switchable import Switchable

    return Switchable(channels, spatial)
