"""Running statistics of normalizations: who keeps them, whether they are finite, how they are measured anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lottery.errors import UsageError
from lottery.network.build import evaluating
from lottery.training.objective import Batch, autocast, without_a_last_one_alone

PREFIX, COUNTER = "running_", "num_batches_tracked"  # torch's names of the buffers


def running_statistics(model: nn.Module) -> list[Tensor]:
    """Return the buffers `running_mean`, `running_var` and their like of all layers of the model."""
    return [value for layer in _layers(model).values() for value in _buffers(layer)]


def finite(statistics: Sequence[Tensor]) -> bool:
    """Return True if all values are finite; the device is asked once."""
    return not statistics or bool(torch.isfinite(torch.cat([value.flatten() for value in statistics])).all())


def check_recalibration(model: nn.Module) -> None:
    """Raise UsageError for a layer whose running statistics `recalibrate` cannot average."""
    for name, layer in _layers(model).items():
        if not hasattr(layer, "momentum"):
            raise UsageError(
                f"model: {name} ({type(layer).__name__}) keeps running statistics and has no `momentum`, the weight of "
                "a new batch in them, so that they cannot be measured anew for a mask without training; give it one, "
                "or leave the branch out"
            )


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[Batch], precision: str = "fp32") -> None:
    """Replace the model's running statistics by those of the batches, each batch with the same weight.

    The layers that keep statistics are in training mode for one forward pass over the batches, all else is in
    evaluation mode: dropout and stochastic depth are off, no mask is drawn, no power iteration goes on, and nothing
    draws from a global generator. A last batch of one example joins the one before. The result depends on the
    parameters and the batches alone, not on the statistics before. A model without statistics is left alone, and the
    batches are not asked for.

    This is the cumulative average of `torch.optim.swa_utils.update_bn`, with the same bits for batch normalization.
    That function puts the whole network into training mode, and passes over layers that are no batch normalization of
    torch's, such as `switchable`.

    Args:
        model: The network, with the weights that it will be evaluated with.
        batches: Pairs of inputs and targets on the model's device; the targets are not looked at.
        precision: `train.precision` of the recipe, as in evaluation.

    Raises:
        UsageError: Where a layer keeps statistics in a way of its own.
    """
    layers = list(_layers(model).values())
    if not layers:
        return
    check_recalibration(model)
    momenta = [layer.momentum for layer in layers]
    with evaluating(model):
        try:
            for layer in layers:
                layer.train()
                for value in _buffers(layer, COUNTER):
                    value.zero_()  # NaN would stay NaN with a weight of 0
            for count, (x, _) in enumerate(without_a_last_one_alone(iter(batches)), start=1):
                for layer in layers:
                    layer.momentum = 1 / count  # type: ignore[assignment]
                with autocast(precision, x.device):
                    model(x)
        finally:
            for layer, momentum in zip(layers, momenta, strict=True):
                layer.momentum = momentum
                layer.eval()


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Have layers with running statistics normalize by those of each batch while the `with` block runs.

    All else keeps its mode. The running statistics themselves are the same afterwards, to the bit.

    Raises:
        UsageError: Where a layer keeps statistics in a way of its own.
    """
    check_recalibration(model)
    layers = list(_layers(model).values())
    before = [(value, value.clone()) for layer in layers for value in _buffers(layer, COUNTER)]
    modes = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.train(mode)
        with torch.no_grad():
            for value, old in before:
                value.copy_(old)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that keep running statistics, by name."""
    return {name: layer for name, layer in model.named_modules() if _buffers(layer)}


def _buffers(layer: nn.Module, *others: str) -> list[Tensor]:
    """Return the layer's own running statistics, and those of its buffers that are named beside them."""
    named = layer.named_buffers(recurse=False)
    return [value for name, value in named if name.startswith(PREFIX) or name in others]
