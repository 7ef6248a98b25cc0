"""The network of `wide_and_deep`, in a module of its own since it needs torch to be defined."""

from __future__ import annotations

import math

from torch import Tensor, nn


class WideAndDeep(nn.Module):
    """A linear model and a fully connected network side by side."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, width: int):
        super().__init__()
        inputs = math.prod(input_shape)
        self.wide = nn.Linear(inputs, classes)
        self.fc1 = nn.Linear(inputs, width)
        self.fc2 = nn.Linear(width, width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (n, ...) to scores (n, classes)."""
        x = x.flatten(1)
        deep = self.fc2(self.fc1(x).relu()).relu()
        return self.wide(x) + self.output(deep)
