"""The sum over all paths through a network of the product of the weights on each path, by one forward pass.

With weights and inputs that are not negative a rectifier passes what it gets. Normalizations and other activations are
made neutral here: what is left is linear in each weight, and its output is the sum.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

SCALES = (1e-2, 1.0, 1e2)  # of the input at which a network is asked whether it is linear
TOLERANCE = 1e-10  # relative: rounding in float64 stays below, anything that bends above

ACTIVATIONS: frozenset[Any] = frozenset(
    {
        *(functional.celu, functional.elu, functional.gelu, functional.hardsigmoid, functional.hardswish),
        *(functional.hardtanh, functional.leaky_relu, functional.logsigmoid, functional.mish, functional.prelu),
        *(functional.relu6, functional.rrelu, functional.selu, functional.silu, functional.softplus),
        *(functional.softsign, functional.tanhshrink, torch.prelu, torch.selu, torch.celu, torch.rrelu),
        *(torch.sigmoid, torch.tanh, torch.special.expit, Tensor.sigmoid, Tensor.tanh),
    }
)


def _per_channel(input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, **_: object) -> Tensor:
    """Apply weight and bias of each channel, the second dimension."""
    shape = (1, -1, *[1] * (input.dim() - 2))
    return _affine(input, *(None if value is None else value.view(shape) for value in (weight, bias)))


def _per_feature(input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, **_: object) -> Tensor:
    """Apply weight and bias in the shape of the last dimensions."""
    return _affine(input, weight, bias)


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


NORMS: Mapping[Any, Callable[..., Tensor]] = {
    functional.batch_norm: _per_channel,
    functional.instance_norm: _per_channel,
    functional.group_norm: _per_channel,
    functional.local_response_norm: _per_channel,
    functional.layer_norm: _per_feature,
    functional.rms_norm: _per_feature,
}
_SIGNATURES = {norm: inspect.signature(norm) for norm in NORMS}


class _Neutral(TorchFunctionMode):
    """Torch functions in which activations pass on their input, and normalizations only apply their weight and bias."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in NORMS:
            return NORMS[func](**_SIGNATURES[func].bind(*args, **kwargs).arguments)
        if func in ACTIVATIONS:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


def path_sum(network: nn.Module, x: Tensor) -> Tensor:
    """Return the sum of a network's outputs for `x` in evaluation mode, its normalizations and activations neutral.

    A normalization that torch's functions do not compute is neutral where it has a method `neutral(x)`, which is put
    in the place of its `forward` for good. Max pooling passes on the largest sum of its window.
    """
    for module in network.modules():
        if callable(neutral := getattr(module, "neutral", None)):
            module.forward = neutral
    with _Neutral():
        total: Tensor = network(x).sum()
    return total


def sums_paths(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Return True if `path_sum` of this network is a sum over paths for inputs of this shape: linear in its input.

    Gates, attention and activations with an implementation of their own are not. The network is used up: its
    parameters are overwritten.
    """
    network.double().eval()
    draws = torch.Generator().manual_seed(0)

    def positive(*sizes: int) -> Tensor:
        return 0.5 + torch.rand(sizes, generator=draws, dtype=torch.float64)

    with torch.no_grad():
        for name, value in network.named_parameters():
            fan_in = value[0].numel() if value.dim() > 1 else 1  # so that values stay near 1, where functions bend
            value.copy_(positive(*value.shape) / fan_in)
            if name.endswith("bias"):
                value.zero_()
    device = next(network.parameters()).device
    x, direction = positive(1, *shape).to(device), positive(1, *shape).to(device)
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad():  # the other kernels have no second derivative
        slopes = [float(_slope(network, factor * x, x)[0].detach()) for factor in SCALES]
        slope, step = _slope(network, x, direction, twice=True)
        bent = torch.autograd.grad(slope, step, allow_unused=True)[0] if slope.requires_grad else None
    curvature = 0.0 if bent is None else float(bent)
    if not all(map(math.isfinite, (*slopes, curvature))) or min(slopes) <= 0:
        return False
    return max(slopes) - min(slopes) <= TOLERANCE * max(slopes) and abs(curvature) <= TOLERANCE * float(slope.detach())


def _slope(network: nn.Module, x: Tensor, direction: Tensor, twice: bool = False) -> tuple[Tensor, Tensor]:
    """Return the derivative of the path sum at `x` along a direction, and the step along it."""
    step = torch.zeros((), dtype=x.dtype, device=x.device, requires_grad=True)
    (slope,) = torch.autograd.grad(path_sum(network, x + step * direction), step, create_graph=twice)
    return slope, step
