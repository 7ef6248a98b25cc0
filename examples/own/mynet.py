"""A network of one's own: `plugins: [mynet]` in study.yaml, which lies beside this file, brings it in."""

import math

import torch
from torch import Tensor, nn

from lottery.registry import models


class MyNet(nn.Module):
    """Two hidden layers, the second of which sees the input as well."""

    def __init__(self, inputs: int, classes: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(inputs, width)
        self.fc2 = nn.Linear(inputs + width, width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map examples (n, ...) to scores (n, classes)."""
        x = x.flatten(1)
        hidden = self.fc1(x).relu()
        return self.output(self.fc2(torch.cat([x, hidden], dim=1)).relu())


@models.register("mynet", source="me")
def mynet(input_shape: tuple[int, ...], classes: int, *, width: int = 64) -> nn.Module:
    """Two hidden layers of `width` units, the second of which sees the input as well."""
    return MyNet(math.prod(input_shape), classes, width)
