"""Multiply-adds of a network: of one example, layer by layer, and of the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from lottery import registry
from lottery.network.build import on_device
from lottery.network.layout import EXAMPLES, Layout, traced
from lottery.network.tracing import Traced
from lottery.values import Component


def per_layer(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Return the multiply-adds of each prunable weight in the forward pass of one example, by the names of `prunable`.

    All products with the weight count while an example passes the model in evaluation mode. Each weight of a
    convolution is used once for each position of its output (transposed: of its input), those that padding reaches
    included, and each of a recurrent layer once for each position of a sequence, so every layer's count is a multiple
    of its number of weights. Biases, normalizations, activations, pooling and products of activations (attention) are
    left out. All counts are 0 where the model's code cannot be followed.
    """
    return {name: forward for name, (forward, _) in _counted(model, input_shape).items()}


def per_layer_and_step(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Return as `per_layer` the multiply-adds of one example's share in a training step: forward and backward pass.

    The gradient of a weight takes as many as its forward pass, and so does the gradient of the values that it
    multiplies; the latter is not computed where those values follow from the network's input alone. So each layer that
    reads the input takes as many as two forward passes, and every other layer as many as three.
    """
    return {name: 3 * forward - reading for name, (forward, reading) in _counted(model, input_shape).items()}


def _counted(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Return the multiply-adds of an example's forward pass by prunable weight, and those that read the input."""
    layout = Layout.of(model)
    found = traced(model, input_shape, partial(on_device, model, "meta")) or Traced()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    counts = {}
    for name, place in layout.weights.items():
        weight = parameters[place.parameter]
        first, last = place.rows or (0, len(weight))
        row = weight[0].numel()
        at = names[id(weight)], first * row, last * row
        counts[name] = found.multiply_adds(*at) // EXAMPLES, found.reading(*at) // EXAMPLES
    return counts


def surviving(counts: Mapping[str, int], metrics: Mapping[str, Any]) -> int:
    """Return the multiply-adds of a network's surviving weights alone, from the `alive` and `sizes` of its metrics."""
    return sum(count // metrics["sizes"][name] * metrics["alive"][name] for name, count in counts.items())


def passes(optimizer: Component) -> float | None:
    """Return the number of forward and backward passes over a step's examples that an optimizer makes, on average.

    None where the course of the training decides.
    """
    entry = registry.optimizers[optimizer.name]
    return 1 if entry.traits.passes is None else entry.traits.passes(entry.all_arguments(optimizer.args))
