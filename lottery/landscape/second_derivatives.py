"""Second derivatives of convolutions, batch normalizations and ReLUs in few passes over memory, on CPUs.

A layer's backward pass is a function of its own here, whose derivative is made of pieces of ordinary backward passes.
torch's own takes the weights' part of a convolution by convolutions that swap batch and channels, takes some twenty
passes over memory for a batch normalization, and adds zeros for a ReLU.

Letters: x input, y output, g the gradient by y; gx, gw, gb the gradients by input, weight and bias; hx, hw, hb the
cotangents of these three in the second backward pass, None where they are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

aten = torch.ops.aten
Wanted = Literal["all", "graph", "linear"]


class SecondDerivatives(TorchFunctionMode):
    """Has layers of a network computed by the functions here while the `with` block runs, backward passes included.

    Values and derivatives of any order are torch's up to rounding. Layers that are not on a CPU, or are called in a way
    that is not foreseen here, are torch's own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wanted: Wanted = "all"

    @contextmanager
    def only(self, wanted: Wanted) -> Iterator[None]:
        """Leave out of backward passes in the `with` block what their caller does not read.

        Args:
            wanted: `graph` for a first backward pass that is there to be differentiated: gradients of parameters may be
                0, with the graph that they would have. `linear` for two passes by which a gradient of 0 is pulled back
                and the result differentiated by it: all that is pulled back is 0, and only that derivative is taken.
        """
        self.wanted = wanted
        try:
            yield
        finally:
            self.wanted = "all"

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute a layer by the function that replaces torch's, where there is one for its arguments."""
        replacement = _REPLACEMENTS.get(func)
        found = None if replacement is None else replacement(self, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if found is None else found


def _convolution(
    mode: SecondDerivatives,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution of a batch; None where it is none, or the padding is a word."""
    space = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim() or not _plain(input, weight, bias):
        return None
    given = ([v] if isinstance(v, int) else list(v) for v in (stride, padding, dilation))
    how = (*(v * space if len(v) == 1 else v for v in given), False, [0] * space, groups)
    out: Tensor = _Convolution.apply(input, weight, bias, how, mode)
    return out


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: Any, mode: SecondDerivatives) -> Any:
        ctx.save_for_backward(x, weight)
        ctx.how, ctx.mode, ctx.leaves = how, mode, _leaves(weight, bias)
        return aten.convolution(x, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        found = _ConvolutionBackward.apply(g, x, weight, ctx.how, ctx.needs_input_grad[:3], ctx.leaves, ctx.mode)
        return *found, None, None


class _ConvolutionBackward(Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, how: Any, needed: Any, leaves: bool, mode: SecondDerivatives
    ) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight)
        ctx.how, ctx.mode = how, mode
        like = (x, weight, weight[:, 0].flatten(1)[:, 0])
        skipped = _skipped(mode, leaves)
        wanted = [need and not skip for need, skip in zip(needed, skipped, strict=True)]
        found = aten.convolution_backward(g, x, weight, [len(weight)], *how, wanted) if any(wanted) else (None,) * 3
        return tuple(
            torch.zeros_like(to) if need and skip else value
            for value, to, need, skip in zip(found, like, needed, skipped, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, hx: Tensor | None, hw: Tensor | None, hb: Tensor | None) -> Any:
        g, x, weight = ctx.saved_tensors
        need_g, need_x, need_w = _needed(ctx)
        of_g = of_x = of_w = None
        if need_g:
            if hw is not None:
                of_g = aten.convolution(x, hw, hb, *ctx.how)
            elif hb is not None:
                of_g = _along(hb, g).expand_as(g)
            if hx is not None:
                along = aten.convolution(hx, weight, None, *ctx.how)
                of_g = along if of_g is None else along.add_(of_g)
        wanted = [need_x and hw is not None, need_w and hx is not None, False]
        if any(wanted):
            at = x if hx is None else hx, weight if hw is None else hw
            of_x, of_w, _ = aten.convolution_backward(g, *at, [len(weight)], *ctx.how, wanted)
        return of_g, of_x, of_w, None, None, None, None


def _batch_norm(
    mode: SecondDerivatives,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """Return the normalized input; None where there is no weight, or one value per channel, which torch refuses."""
    known = _plain(input, weight, bias, running_mean, running_var)
    if weight is None or bias is None or not known or input.numel() <= len(weight):
        return None
    if not training and (running_mean is None or running_var is None):
        return None
    out: Tensor = _BatchNorm.apply(input, weight, bias, running_mean, running_var, training, momentum, eps, mode)
    return out


class _BatchNorm(Function):
    """y = weight (x - mean) r + bias with r = (var + eps)^-1/2, statistics those of the batch or fixed ones."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        training: bool,
        momentum: float,
        eps: float,
        mode: SecondDerivatives,
    ) -> Any:
        y, mean, r = aten.native_batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps)
        if not training:
            mean, r = running_mean.clone(), (running_var + eps).rsqrt()
        ctx.save_for_backward(x, weight)
        ctx.settings = mean, r, eps if training else None, _leaves(weight, bias), mode
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return *_BatchNormBackward.apply(g, *ctx.saved_tensors, *ctx.settings), *(None,) * 6


class _BatchNormBackward(Function):
    """The gradients by input, weight and bias; `eps` is None where statistics are fixed.

    With h the cotangent of gx, <> the mean over a channel, z = (x - mean) r, and P h = h - <h> - z <h z>, or P h = h
    for fixed statistics, gx = weight r P g.
    """

    @staticmethod
    def forward(
        ctx: Any,
        g: Tensor,
        x: Tensor,
        weight: Tensor,
        mean: Tensor,
        r: Tensor,
        eps: float | None,
        leaves: bool,
        mode: SecondDerivatives,
    ) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight)
        ctx.mode, ctx.statistics, ctx.sums = mode, (mean, r, eps), None
        skip_x, skip_w, _ = _skipped(mode, leaves)
        if skip_x:
            return torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(weight)
        if eps is None:
            gx = g * _along(weight * r, g)
            gw, gb = (torch.zeros_like(weight) for _ in "wb") if skip_w else _moments(g, x, mean, r)
        else:
            gx, gw, gb = aten.native_batch_norm_backward(g, x, weight, None, None, mean, r, True, eps, [True] * 3)
            ctx.sums = gw.clone(), gb.clone()
        return gx, gw, gb

    @staticmethod
    def backward(ctx: Any, hx: Tensor | None, hw: Tensor | None, hb: Tensor | None) -> Any:
        g, x, weight = ctx.saved_tensors
        mean, r, eps = ctx.statistics
        count = x.numel() // x.shape[1]
        need_g, need_x, need_w = _needed(ctx)
        zero = torch.zeros_like(weight)
        hw, hb = zero if hw is None else hw, zero if hb is None else hb
        if eps is not None and torch.is_grad_enabled():  # the statistics' own part of third derivatives
            axes = [0, *range(2, x.dim())]
            mean, r = x.mean(axes), (x.var(axes, correction=0) + eps).rsqrt()
        scale = weight * r
        h_mean = h_z = g_mean = g_z = gh = zero  # <h>, <h z>, <g>, <g z>, <h P g>
        if eps is not None:
            if hx is not None:
                h_z, h_mean = (total / count for total in _moments(hx, x, mean, r))
            if need_x or need_w:
                sums = _moments(g, x, mean, r) if ctx.sums is None or torch.is_grad_enabled() else ctx.sums
                g_z, g_mean = (total / count for total in sums)
        if hx is not None and (need_w or (need_x and eps is not None)):
            gh = _dot(g, hx) / count - h_mean * g_mean - h_z * g_z
        of_g = of_x = of_w = None
        by_z = hw - scale * h_z
        if need_g:  # scale P h + hw z + hb
            of_g = _combined(x, mean, by_z * r, hb - scale * h_mean, (hx, scale))
        if need_x and eps is None:
            of_x = g * _along(by_z * r, g)
        elif need_x:  # r P (by_z g - scale <g z> h) - z r scale <h P g>
            along_g, along_h = r * by_z, -r * scale * g_z
            along_z = along_h * h_z + along_g * g_z + r * scale * gh
            of_x = _combined(x, mean, -along_z * r, -along_h * h_mean - along_g * g_mean, (g, along_g), (hx, along_h))
        if need_w and hx is not None:
            of_w = r * gh * count
        return of_g, of_x, of_w, None, None, None, None, None


def _relu(mode: SecondDerivatives, input: Tensor, inplace: bool = False) -> Tensor | None:
    """Return what is positive of the input, 0 elsewhere; None in place."""
    if inplace or not _plain(input):
        return None
    out: Tensor = _ReLU.apply(input)
    return out


class _ReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        y = torch.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _ReLUBackward.apply(g, ctx.saved_tensors[0].detach())


class _ReLUBackward(Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor) -> Any:
        ctx.save_for_backward(y)
        return aten.threshold_backward(g, y, 0)

    @staticmethod
    def backward(ctx: Any, h: Tensor) -> Any:
        return aten.threshold_backward(h, ctx.saved_tensors[0], 0), None


_REPLACEMENTS: dict[Any, Callable[..., Tensor | None]] = {
    functional.conv1d: _convolution,
    functional.conv2d: _convolution,
    functional.conv3d: _convolution,
    functional.batch_norm: _batch_norm,
    functional.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
}


def _plain(*tensors: Tensor | None) -> bool:
    """Return True if all are ordinary tensors on a CPU, of one real type, outside of autocast and of `torch.func`."""
    there = [tensor for tensor in tensors if tensor is not None]
    dtype = there[0].dtype
    return (
        dtype in (torch.float32, torch.float64)
        and all(type(t) in (Tensor, nn.Parameter) and t.device.type == "cpu" and t.dtype == dtype for t in there)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


def _leaves(*parameters: Tensor | None) -> bool:
    """Return True if gradients of the parameters go to them alone, so that nothing is computed from their values."""
    return all(p is None or (p.is_leaf and not p._backward_hooks) for p in parameters)


def _skipped(mode: SecondDerivatives, leaves: bool) -> tuple[bool, bool, bool]:
    """Return True for each of the gradients by input, weight and bias that may be left 0."""
    linear = mode.wanted == "linear"
    parameters = linear or (mode.wanted == "graph" and leaves)
    return linear, parameters, parameters


def _needed(ctx: Any) -> tuple[bool, bool, bool]:
    """Return True for each of g, x and weight that a second derivative is to be taken by."""
    g, x, weight = ctx.needs_input_grad[:3]
    return (g, False, False) if ctx.mode.wanted == "linear" else (g, x, weight)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return values (channels,) in a shape that broadcasts along the channels of x (n, channels, *space)."""
    return values.view(-1, *[1] * (x.dim() - 2))


def _combined(x: Tensor, mean: Tensor, slope: Tensor, base: Tensor, *terms: tuple[Tensor | None, Tensor]) -> Tensor:
    """Return slope (x - mean) + base and the terms' sum, each a tensor times a factor per channel."""
    total = torch.addcmul(_along(base - slope * mean, x), x, _along(slope, x))
    for tensor, factor in terms:
        if tensor is not None:
            total.addcmul_(tensor, _along(factor, tensor))
    return total


def _moments(g: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of g (x - mean) r and of g over all but channels, (channels,) each."""
    if torch.is_grad_enabled():
        axes = [0, *range(2, x.dim())]
        return (g * (x - _along(mean, x)) * _along(r, x)).sum(axes), g.sum(axes)
    _, first, zeroth = aten.native_batch_norm_backward(g, x, None, None, None, mean, r, True, 0.0, [False, True, True])
    return first, zeroth


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sums of a b over all but channels, (channels,)."""
    zeros = a.new_zeros(a.shape[1])
    return _moments(a, b, zeros, torch.ones_like(zeros))[0]
