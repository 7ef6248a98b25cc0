"""The fully connected network behind `lenet` and `mlp`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from lottery.catalogue.models._layers import activation as make_activation
from lottery.catalogue.models._layers import norm as make_norm
from lottery.catalogue.models._layers import weight_normed
from lottery.errors import UsageError


class Perceptron(nn.Module):
    """Hidden layers `fc1`, ... each with normalization, activation and dropout, and `output`. Flattens its input."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        classes: int,
        widths: Sequence[int],
        norm: str,
        activation: str,
        dropout: float,
        residual: bool,
    ):
        super().__init__()
        if residual and len(set(widths)) > 1:
            raise UsageError(f"model.residual: hidden layers must have one width to be added, not {list(widths)}")
        self.residual = residual
        self.depth = len(widths)
        n_in = math.prod(input_shape)
        for i, width in enumerate(widths, start=1):
            after = [make_norm(norm, width, False), make_activation(activation)]
            after += [nn.Dropout(dropout)] if dropout else []
            self.add_module(f"fc{i}", nn.Linear(n_in, width))
            self.add_module(f"after{i}", nn.Sequential(*after))
            n_in = width
        self.output = nn.Linear(n_in, classes)
        weight_normed(self, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for i in range(1, self.depth + 1):  # by name, so that a layer replaced from outside is the one that is used
            y: Tensor = getattr(self, f"after{i}")(getattr(self, f"fc{i}")(x))
            x = x + y if self.residual and i > 1 else y
        logits: Tensor = self.output(x)
        return logits
