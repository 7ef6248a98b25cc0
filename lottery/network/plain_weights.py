"""Layers that do not compute with their weight as it is, so that a pruned weight would not be zero in them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lottery.network.weights import PRUNABLE

OURS = ("forward", "_conv_forward")  # methods of a layer that read its weight


def changed_weights(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the linear and two-dimensional convolutional layers, by name, that change their weight before they use it.

    Weight standardization is such a change. Only layers with code of their own are looked at, each by itself: half of
    its weights are zero, and an output that depends on more inputs than there are other weights tells. The layers of
    the model stay as they are. Weight normalizations as parametrizations are the method's own business.
    """
    for name, layer in model.named_modules():
        if _own_code(layer) and not is_parametrized(layer, "weight") and _reads_more_than_its_weights(layer):
            yield name, layer


def _factor(value: Tensor) -> Tensor:
    """Return ones for a parameter that may multiply the weight, one for each output; zeros for other matrices."""
    return torch.ones(value.shape) if value.numel() == max(value.shape, default=1) else torch.zeros(value.shape)


def _own_code(layer: nn.Module) -> bool:
    base = next((kind for kind in (nn.Linear, nn.Conv2d) if isinstance(layer, kind)), None)
    if base is None or not isinstance(layer, PRUNABLE):
        return False
    return any(getattr(type(layer), name, None) is not getattr(base, name, None) for name in OURS)


def _reads_more_than_its_weights(layer: nn.Module) -> bool:
    """Return True if one output of a layer depends on more inputs than its weights that are not zero."""
    draws = torch.Generator().manual_seed(0)
    weight = layer.get_parameter("weight")
    half = torch.randn(weight.shape, generator=draws) * (torch.rand(weight.shape, generator=draws) < 0.5)
    values = {name: _factor(value) for name, value in layer.named_parameters()} | {"weight": half}
    if isinstance(layer, nn.Conv2d):
        reach = [
            dilation * (kernel - 1) + 1 + 2 * stride
            for dilation, kernel, stride in zip(layer.dilation, layer.kernel_size, layer.stride, strict=True)
        ]
        x = torch.randn(1, layer.in_channels, *(2 * size for size in reach), generator=draws)
    else:
        x = torch.randn(1, half.shape[1], generator=draws)
    x.requires_grad_()
    was_training = layer.training
    try:
        with torch.enable_grad():
            made = torch.func.functional_call(layer.eval(), values, (x,))
            one = made[0, 0] if made.dim() == 2 else made[0, 0, made.shape[2] // 2, made.shape[3] // 2]
            (gradient,) = torch.autograd.grad(one, x)
    except Exception:  # code that takes other inputs: nothing is known of it
        return False
    finally:
        layer.train(was_training)
    return int(gradient.count_nonzero()) > int(half[0].count_nonzero())
