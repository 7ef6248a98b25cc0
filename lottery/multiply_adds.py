"""How many multiply-adds a network takes: for one example, layer by layer, and for the steps of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lottery import registry
from lottery.build import PRUNABLE, evaluating, prunable, weight_parameter
from lottery.spec import Component

STEP = 3  # forward passes that one pass of a training step costs: the backward pass is taken for two
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def per_layer(model: nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """Multiply-adds of each prunable weight in the forward pass of one example, by the names of `prunable`.

    Counted by hooks while an example of zeros passes a model on the CPU in evaluation mode. Each weight of a
    convolution is used once for each position of its output (transposed: of its input), those that padding reaches
    included, so every layer's count is a multiple of its number of weights. Biases, normalizations, activations,
    pooling and products of activations (attention) are left out. A weight that the model uses without calling its
    layer (the output projection of torch's attention) counts 0."""
    names = {id(weight): name for name, weight in prunable(model).items()}
    counts = dict.fromkeys(names.values(), 0)

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _, weight = weight_parameter(layer)
        used = inputs[0] if isinstance(layer, TRANSPOSED) else output
        counts[names[id(weight)]] += used.numel() * weight[0].numel()

    handles = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, PRUNABLE)]
    try:
        with torch.no_grad(), evaluating(model):
            model(torch.zeros(1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
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
