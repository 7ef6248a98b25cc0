"""Batch normalization by the statistics of all ranks' examples together, as one process computes it of the whole batch.

torch's `SyncBatchNorm` is for GPUs and is used there; on CPUs the functions of this module are. Shares of a batch may
be uneven, and one of them empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.distributed.group import Group

RUNNING = "running_"  # how torch's names of running statistics begin
SUM = "sum_over_ranks"  # the attribute of layers of other kinds


def synchronize(model: nn.Module, group: Group) -> None:
    """Have each layer of the model with batch statistics take those of all ranks' examples in training mode.

    Layers are changed in place: they and their parameters and buffers stay the same objects under the same names.
    torch's batch normalizations are handled here. A layer of another kind has an attribute `sum_over_ranks`, None in
    one process, which is set to a function: the sum of a tensor over all ranks, which can be differentiated. In
    evaluation mode, with the running statistics, ranks know nothing of each other. A group of one rank changes nothing.

    Raises:
        UsageError: A layer normalizes by running statistics in a way of its own, or has none to be evaluated with.
    """
    if group.size == 1:
        return
    for name, layer in model.named_modules():
        if type(layer) in TOGETHER:
            if layer.running_mean is None:
                raise UsageError(
                    f"model: {name} ({type(layer).__name__}) keeps no running statistics: it normalizes by the batch "
                    "in evaluation too, which ranks share; give it `track_running_stats=True`, or run on one rank"
                )
            _become(layer, TOGETHER_ON_GPUS if group.device.type == "cuda" else TOGETHER)
            layer.group_of_ranks, layer.process_group = group, group.handle
        elif hasattr(layer, SUM):
            setattr(layer, SUM, partial(total, group=group))
        elif type(layer) not in APART and any(own.startswith(RUNNING) for own, _ in layer.named_buffers(recurse=False)):
            raise UsageError(
                f"model: {name} ({type(layer).__name__}) keeps running statistics in a way of its own, which ranks "
                f"cannot compute together; give it an attribute `{SUM}`, write `train.batch_norm: local`, or "
                "run on one rank"
            )


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Have each rank compute statistics of its own examples, as if it were the only one, while the `with` block runs.

    It is for passes that every rank makes over the same examples.
    """
    together = [(layer, type(layer)) for layer in model.modules() if type(layer) in APART]
    sums = [(layer, getattr(layer, SUM)) for layer in model.modules() if hasattr(layer, SUM)]
    try:
        for layer, _ in together:
            _become(layer, APART)
        for layer, _ in sums:
            setattr(layer, SUM, None)
        yield
    finally:
        for layer, kind in together:
            layer.__class__ = kind
        for layer, value in sums:
            setattr(layer, SUM, value)


@torch.no_grad()
def average_statistics(statistics: Sequence[Tensor], group: Group) -> None:
    """Replace running statistics by their means over ranks, each rank with the same weight, in place.

    This defines `train.batch_norm: local`: each rank normalizes by the statistics of its share, and after each step the
    running ones are the means of what the ranks have. Since they are averaged after every step, it does not matter
    when a checkpoint is written.
    """
    if statistics:
        flat = group.sum(torch.cat([value.flatten() for value in statistics])) / group.size
        parts = torch.split(flat, [value.numel() for value in statistics])
        torch._foreach_copy_(list(statistics), [part.view_as(v) for part, v in zip(parts, statistics, strict=True)])


def total(x: Tensor, group: Group) -> Tensor:
    """Return the sum over ranks; the gradient by each rank's `x` is the sum of the gradients by the result."""
    summed: Tensor = _Total.apply(x, group)
    return summed


class _Total(torch.autograd.Function):
    """The sum over ranks of a tensor that has the same shape on each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.sum(x.detach().clone())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(slope.clone()), None


class _Together(_BatchNorm):
    """The part of a synchronized batch normalization that does not depend on the dimensions of its input."""

    group_of_ranks: Group

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, of its shape and type."""
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        y: Tensor = _Normalize.apply(x, self.weight, self.bias, self)
        return y

    def note(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of the batch, as torch does."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.mul_(1 - share).add_(mean, alpha=share)
        self.running_var.mul_(1 - share).add_(variance, alpha=share)


class _Together1d(_Together, nn.BatchNorm1d):
    """Batch normalization of (n, channels) or (n, channels, positions) over the examples of all ranks."""


class _Together2d(_Together, nn.BatchNorm2d):
    """Batch normalization of (n, channels, height, width) over the examples of all ranks."""


class _Together3d(_Together, nn.BatchNorm3d):
    """Batch normalization of (n, channels, depth, height, width) over the examples of all ranks."""


# torch's own for GPUs, which stay batch normalizations of their dimensions
class _TogetherOnGpus1d(nn.BatchNorm1d, nn.SyncBatchNorm): ...


class _TogetherOnGpus2d(nn.BatchNorm2d, nn.SyncBatchNorm): ...


class _TogetherOnGpus3d(nn.BatchNorm3d, nn.SyncBatchNorm): ...


Kinds = dict[type[nn.Module], type[nn.Module]]

TOGETHER: Kinds = {nn.BatchNorm1d: _Together1d, nn.BatchNorm2d: _Together2d, nn.BatchNorm3d: _Together3d}
TOGETHER_ON_GPUS: Kinds = {
    nn.BatchNorm1d: _TogetherOnGpus1d,
    nn.BatchNorm2d: _TogetherOnGpus2d,
    nn.BatchNorm3d: _TogetherOnGpus3d,
}
APART: Kinds = {there: here for kinds in (TOGETHER, TOGETHER_ON_GPUS) for here, there in kinds.items()}


def _become(layer: nn.Module, kinds: Kinds) -> None:
    """Make a layer one of another class, which computes otherwise with the same attributes."""
    layer.__class__ = kinds[type(layer)]


def _statistics(x: Tensor, group: Group) -> tuple[NDArray[Any], int]:
    """Return mean and biased variance of each channel over all ranks' inputs, and the number of values in them.

    Means and variances of the ranks are combined, and not sums of squares, which lose all digits where a mean is large
    beside its spread (Chan, Golub & LeVeque 1983). In float64, in the order of ranks: each rank gets the same bits.
    """
    channels, count = x.shape[1], x.numel() // x.shape[1]
    own = np.zeros(2 * channels + 1)
    if count:
        scratch = torch.zeros(2, channels, dtype=_wide(x))  # the results have its type
        mean, variance = torch.batch_norm_update_stats(x, scratch[0], scratch[1], 0.0)
        own[:channels], own[channels:-1], own[-1] = mean.numpy(), variance.numpy(), count
    rows = group.each(own)
    means, counts = rows[:, :channels], rows[:, -1:]
    all_of_them = counts.sum()
    weights = counts / all_of_them
    statistics = np.empty((2, channels), np.float64 if x.dtype == torch.float64 else np.float32)
    statistics[0] = mean = (weights * means).sum(0)  # not by @, whose rounding may depend on where arrays lie
    statistics[1] = (weights * (rows[:, channels:-1] + np.square(means - mean))).sum(0)
    return statistics, int(all_of_them)


def _wide(x: Tensor) -> torch.dtype:
    """Return the type that statistics of the input have: at least float32."""
    return x.dtype if x.dtype == torch.float64 else torch.float32


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, where mean and variance are those of all ranks' inputs.

    Gradients by weight and bias are those of this rank's share, which DistributedDataParallel reduces. What is computed
    of a few numbers is computed by numpy: an operation of torch takes several times as long, and layers are many.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, layer: _Together) -> Tensor:
        statistics, count = _statistics(x, layer.group_of_ranks)
        if count == 1:
            raise ValueError("Expected more than 1 value per channel when training, got 1 on all ranks together")
        mean, variance = torch.from_numpy(statistics)
        layer.note(mean, variance * (count / (count - 1)))
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.statistics, ctx.count, ctx.eps, ctx.group = statistics, count, layer.eps, layer.group_of_ranks
        if not x.numel():
            return x + 0
        return nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=layer.eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        by_weight, by_bias = _sums(slope, x, mean, variance, ctx.eps)
        by_x = None
        if ctx.needs_input_grad[0]:
            # dx = a (dy - mean(dy) - z mean(dy z)) with z = (x - mean) / sqrt(variance + eps), as a dy + b x + c
            along, level = ctx.group.each(np.stack([by_weight.numpy(), by_bias.numpy()])).sum(0, np.float64) / ctx.count
            middle, spread = ctx.statistics
            a = inverse = 1 / np.sqrt(spread.astype(np.float64) + ctx.eps)
            if weight is not None:
                a = inverse * weight.detach().numpy()
            factors = np.empty((3, len(a)), middle.dtype)
            factors[0] = a
            factors[1] = b = -a * inverse * along
            factors[2] = -a * level - b * middle
            by_x = _combined(x, slope, *torch.from_numpy(factors))
        if weight is None:
            return by_x, None, None, None
        return by_x, by_weight.to(weight.dtype), by_bias.to(weight.dtype), None


@cache
def _neutral(channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return a mean and a variance by which nothing is normalized."""
    return torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)


def _combined(x: Tensor, slope: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return a dy + b x + c, each factor one of a channel, of the type of x."""
    shape = (1, -1, *[1] * (x.dim() - 2))
    if x.dtype == b.dtype and x.numel():  # torch's normalization is the faster way to write it
        zeros, ones = _neutral(len(b), b.dtype)
        rest = nn.functional.batch_norm(x, zeros, ones, b, c, training=False, eps=0.0)
    else:
        rest = torch.addcmul(c.view(shape), x, b.view(shape))
    return rest.addcmul_(slope, a.view(shape)).to(x.dtype)


def _sums(slope: Tensor, x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the sums over this rank's inputs of dy z and dy for each channel, with z the input normalized."""
    if not x.numel():
        return torch.zeros_like(mean), torch.zeros_like(mean)
    _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
        slope, x, torch.ones_like(mean), mean, variance, None, None, False, eps, [False, True, True]
    )
    return by_weight, by_bias
