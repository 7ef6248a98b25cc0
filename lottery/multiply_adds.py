"""How many multiply-adds a network takes: for one example, layer by layer, and for the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from lottery import registry
from lottery.build import on_device
from lottery.layout import EXAMPLES, Layout, traced
from lottery.spec import Component
from lottery.tracing import Traced

STEP = 3  # forward passes that one pass of a training step costs: the backward pass is taken for two


def per_layer(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-adds of each prunable weight in the forward pass of one example, by the names of `prunable`.

    Those of all products with the weight while examples pass the model in evaluation mode. Each weight of a
    convolution is used once for each position of its output (transposed: of its input), those that padding reaches
    included, and each of a recurrent layer once for each place of a sequence, so every layer's count is a multiple of
    its number of weights. Biases, normalizations, activations, pooling and products of activations (attention) are
    left out. All count 0 where the model's code cannot be followed."""
    layout = Layout.of(model)
    found = traced(model, input_shape, partial(on_device, model, "meta")) or Traced()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    counts = {}
    for name, place in layout.weights.items():
        weight = parameters[place.parameter]
        first, last = place.rows or (0, len(weight))
        row = weight[0].numel()
        counts[name] = found.multiply_adds(names[id(weight)], first * row, last * row) // EXAMPLES
    return counts


def surviving(counts: Mapping[str, int], metrics: Mapping[str, Any]) -> int:
    """The multiply-adds of a network's surviving weights alone, by the `alive` and `sizes` of its metrics."""
    return sum(count // metrics["sizes"][name] * metrics["alive"][name] for name, count in counts.items())


def passes(optimizer: Component) -> float | None:
    """Forward and backward passes over a step's examples that this optimizer makes in a step, on average.

    None where the course of the training decides."""
    entry = registry.optimizers[optimizer.name]
    made: float | None = entry.traits.get("passes", lambda args: 1)({**entry.defaults, **optimizer.args})
    return made
