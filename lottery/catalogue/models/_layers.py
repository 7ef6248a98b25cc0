"""Parts that models share: normalizations, activations and convolutions as a recipe's keys ask for them."""

from __future__ import annotations

from torch import nn

from lottery import registry
from lottery.network.weights import PRUNABLE


def norm(name: str, channels: int, spatial: bool) -> nn.Module:
    """Return the normalization of `channels` feature maps (`spatial`) or features; nothing if it is one of weights."""
    if is_weight_norm(name):
        return nn.Identity()
    entry = registry.normalizations[name]
    return entry.checked(entry.make(channels, spatial), nn.Module)


def activation(name: str) -> nn.Module:
    """Return the activation function as a module."""
    entry = registry.activations[name]
    return entry.checked(entry.make(), nn.Module)


def conv(n_in: int, n_out: int, size: int, stride: int, norm: str, padding: int | None = None) -> nn.Conv2d:
    """Return a convolution; a bias only where no normalization of its output takes its place.

    The padding is "same" where none is given.
    """
    around = size // 2 if padding is None else padding
    return nn.Conv2d(n_in, n_out, size, stride, padding=around, bias=norm == "none" or is_weight_norm(norm))


def weight_normed(model: nn.Module, name: str) -> None:
    """Apply a normalization of weights to each linear and convolutional layer of a finished model.

    To be called last in a model's constructor; normalizations of activations are left to `norm`.
    """
    if is_weight_norm(name):
        for module in list(model.modules()):  # a weight norm adds modules while we walk
            if isinstance(module, PRUNABLE):
                registry.normalizations[name].make(module)


def is_weight_norm(name: str) -> bool:
    """Return True if the normalization is one of weights (`spectral`, `weight`), not of activations."""
    return registry.normalizations[name].traits.weight
