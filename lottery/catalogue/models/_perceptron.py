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
            self.add_module(f"after{i}", _alone(after) or nn.Sequential(*after))
            n_in = width
        self.output = nn.Linear(n_in, classes)
        self._hidden = tuple((f"fc{i}", f"after{i}") for i in range(1, self.depth + 1))
        weight_normed(self, norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        modules, first = self._modules, True
        for layer, after in self._hidden:  # by name, so that a layer replaced from outside is the one that is used
            y: Tensor = modules[after](modules[layer](x))  # type: ignore[misc]
            x, first = (x + y if self.residual and not first else y), False
        logits: Tensor = modules["output"](x)  # type: ignore[misc]
        return logits


def _alone(parts: Sequence[nn.Module]) -> nn.Module | None:
    """Return the one part that does something, which is called in half the time; None where names of weights count."""
    if any(part.state_dict() for part in parts):
        return None
    working = [part for part in parts if not isinstance(part, nn.Identity)] or [nn.Identity()]
    return working[0] if len(working) == 1 else None
