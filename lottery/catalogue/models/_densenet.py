"""The network behind `densenet`. Shapes: images (n, channels, height, width)."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from lottery.catalogue.models._layers import activation as make_activation
from lottery.catalogue.models._layers import conv, weight_normed
from lottery.catalogue.models._layers import norm as make_norm

BOTTLENECK = 4  # channels between its two convolutions, in multiples of the growth


class DenseNet(nn.Sequential):
    """conv, three dense blocks of `layers` layers with a transition after the first two, average, output."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        layers: int,
        first: int,
        growth: int,
        bottleneck: bool,
        compression: float,
        norm: str,
        activation: str,
        dropout: float,
    ):
        parts: OrderedDict[str, nn.Module] = OrderedDict(conv=conv(shape[0], first, 3, 1, norm))
        channels = first
        for block in (1, 2, 3):
            dense: OrderedDict[str, nn.Module] = OrderedDict()
            for i in range(1, layers + 1):
                dense[f"layer{i}"] = DenseLayer(channels, growth, bottleneck, norm, activation, dropout)
                channels += growth
            parts[f"block{block}"] = nn.Sequential(dense)
            if block < 3:
                kept = max(1, int(channels * compression))
                parts[f"transition{block}"] = _transition(channels, kept, norm, activation, dropout)
                channels = kept
        parts["norm"] = make_norm(norm, channels, True)
        parts["activation"] = make_activation(activation)
        parts["average"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["output"] = nn.Linear(channels, classes)
        super().__init__(parts)
        weight_normed(self, norm)


class DenseLayer(nn.Module):
    """A layer that puts `growth` more channels behind its input, computed from it."""

    def __init__(self, n_in: int, growth: int, bottleneck: bool, norm: str, activation: str, dropout: float):
        super().__init__()
        widths = [n_in, BOTTLENECK * growth, growth] if bottleneck else [n_in, growth]
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            last = i == len(widths) - 1
            self.add_module(f"norm{i}", make_norm(norm, before, True))
            self.add_module(f"conv{i}", conv(before, after, 3 if last else 1, 1, norm))
        self.activation, self.dropout = make_activation(activation), _dropout(dropout)
        self.depth = len(widths) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Return the input with the new channels behind it."""
        y = x
        for i in range(1, self.depth + 1):
            y = self.dropout(getattr(self, f"conv{i}")(self.activation(getattr(self, f"norm{i}")(y))))
        return torch.cat([x, y], 1)


def _transition(n_in: int, n_out: int, norm: str, activation: str, dropout: float) -> nn.Module:
    """Return normalization, activation, 1x1 convolution, and averages of 2x2 positions."""
    steps: OrderedDict[str, nn.Module] = OrderedDict(
        norm=make_norm(norm, n_in, True),
        activation=make_activation(activation),
        conv=conv(n_in, n_out, 1, 1, norm),
        dropout=_dropout(dropout),
        pool=nn.AvgPool2d(2),
    )
    return nn.Sequential(steps)


def _dropout(rate: float) -> nn.Module:
    return nn.Dropout(rate) if rate else nn.Identity()
