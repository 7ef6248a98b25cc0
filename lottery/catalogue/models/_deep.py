"""The networks behind `deep_linear` and `highway`."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from lottery.catalogue.models._layers import activation as make_activation
from lottery.catalogue.models._layers import norm as make_norm
from lottery.catalogue.models._layers import weight_normed


class DeepLinear(nn.Sequential):
    """fc1, fc2, ..., output without biases; a normalization after each but the last. Flattens its input."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, width: int, depth: int, norm: str):
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        n_in = math.prod(input_shape)
        for i in range(1, depth):
            layers[f"fc{i}"] = nn.Linear(n_in, width, bias=False)
            layers[f"norm{i}"] = make_norm(norm, width, False)
            n_in = width
        layers["output"] = nn.Linear(n_in, classes, bias=False)
        super().__init__(layers)
        weight_normed(self, norm)


class Highway(nn.Module):
    """fc1, then `depth` - 1 highway layers of fc2, gate2, fc3, gate3, ..., and output. Flattens its input."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: int,
        width: int,
        depth: int,
        gate_bias: float,
        norm: str,
        activation: str,
    ):
        super().__init__()
        self.depth, self.gate_bias = depth, gate_bias
        n_in = math.prod(input_shape)
        for i in range(1, depth + 1):
            self.add_module(f"fc{i}", nn.Linear(n_in, width))
            self.add_module(f"after{i}", nn.Sequential(make_norm(norm, width, False), make_activation(activation)))
            if i > 1:
                self.add_module(f"gate{i}", nn.Linear(width, width))
            n_in = width
        self.output = nn.Linear(width, classes)
        weight_normed(self, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, (n, classes)."""
        x = x.flatten(1)
        for i in range(1, self.depth + 1):  # by name, so that a layer replaced from outside is the one that is used
            y: Tensor = getattr(self, f"after{i}")(getattr(self, f"fc{i}")(x))
            if i > 1:
                opened = torch.sigmoid(getattr(self, f"gate{i}")(x) + self.gate_bias)
                y = opened * y + (1 - opened) * x
            x = y
        logits: Tensor = self.output(x)
        return logits
