"""Switchable normalization (Luo et al. 2019, "Differentiable learning-to-normalize via switchable normalization")."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Switchable(nn.Module):
    """Mix of statistics: y = weight * (x - sum_k a_k mean_k) / sqrt(sum_k b_k var_k + eps) + bias.

    k goes over instance, layer and batch. a and b are softmaxes of the parameters `mean_mix` and `var_mix`, in this
    order of k; for vectors (n, channels), not `spatial`, there is no instance in them. Statistics are at least float32,
    the result has the type of x. `sum_over_ranks`, where it is set, makes the batch that of all ranks
    (`lottery.distributed.batch_norm`).
    """

    sum_over_ranks: Callable[[Tensor], Tensor] | None = None

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, spatial: bool, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.spatial, self.momentum, self.eps = spatial, momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        kinds = 3 if spatial else 2
        self.mean_mix, self.var_mix = nn.Parameter(torch.ones(kinds)), nn.Parameter(torch.ones(kinds))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set equal parts of each kind, weight 1, bias 0 and fresh statistics."""
        for ones in (self.weight, self.mean_mix, self.var_mix, self.running_var):
            ones.fill_(1)
        for zeros in (self.bias, self.running_mean):
            zeros.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalized input, of its shape and type."""
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        flat = wide.flatten(2) if self.spatial else wide[:, :, None]  # (n, channels, positions)
        var, mean = torch.var_mean(flat, 2, correction=0)  # of each instance: (n, channels)
        # of layer and batch by the law of total variance, which loses no digits where means are large
        layer = mean.mean(1, keepdim=True), var.mean(1, keepdim=True) + mean.var(1, correction=0, keepdim=True)
        batch = self._batch(mean, var, flat.shape[2])
        kinds = [(mean, var), layer, batch] if self.spatial else [layer, batch]
        center = sum(part * kind[0] for part, kind in zip(self.mean_mix.softmax(0), kinds, strict=True))
        spread = sum(part * kind[1] for part, kind in zip(self.var_mix.softmax(0), kinds, strict=True))
        scale = self.weight * torch.rsqrt(spread + self.eps)
        y: Tensor = flat * scale[:, :, None] + (self.bias - center * scale)[:, :, None]
        return y.reshape(x.shape).to(x.dtype)

    def neutral(self, x: Tensor) -> Tensor:
        """Return the input times weight plus bias, without statistics, for sums over paths."""
        shape = (1, -1, *[1] * (x.dim() - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)

    def _batch(self, mean: Tensor, var: Tensor, positions: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance of each channel: the running ones in evaluation, else those of the batch."""
        if not self.training:
            return self.running_mean, self.running_var
        instances = len(mean)
        if self.sum_over_ranks is not None:
            instances = int(self.sum_over_ranks(mean.new_tensor(instances)))
        count = instances * positions
        if count == 1:  # as torch's batch normalization: one value has no spread
            raise ValueError(f"Expected more than 1 value per channel when training, got {count} of each channel")
        if self.sum_over_ranks is None:
            center, spread = mean.mean(0), var.mean(0) + mean.var(0, correction=0)
        else:
            center = self.sum_over_ranks(mean.sum(0)) / instances
            spread = self.sum_over_ranks((var + (mean - center).square()).sum(0)) / instances
        with torch.no_grad():
            self.running_mean.lerp_(center, self.momentum)
            self.running_var.lerp_(spread * (count / (count - 1)), self.momentum)
        return center, spread
