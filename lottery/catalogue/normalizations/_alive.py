"""Weight normalizations of pruned weights: what is zero as a whole has no direction, and stays zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList


class KeepZeros(nn.Module):
    """A weight normalization whose result is 0, with gradient 0, where the parameter to be normalized is all zero.

    torch's own divides 0 by 0 there. All other values are torch's to the bit. `rows`: each row for itself, as the
    norms are of rows; else the weight as a whole.
    """

    def __init__(self, normalize: nn.Module, rows: bool):
        super().__init__()
        self.normalize, self.rows = normalize, rows

    def forward(self, *originals: Tensor) -> Tensor:
        """Return the normalized weight, 0 where the parameter to be normalized is all zero."""
        weight = originals[-1]  # weight norm's are g and v, spectral norm's is the weight itself
        alive = weight.detach() != 0
        dims = tuple(range(1 if self.rows else 0, weight.dim()))
        dead = ~alive.any(dims, keepdim=True)
        # ones stand in for what is dead before the division, since a gradient of 0/0 would be NaN behind `where` too
        safe = [torch.where(dead, torch.ones_like(original), original) for original in originals]
        result: Tensor = self.normalize(*safe)
        return torch.where(dead, torch.zeros_like(result), result)

    def right_inverse(self, weight: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the parameters of which this weight is made."""
        parts: Tensor | tuple[Tensor, Tensor] = self.normalize.right_inverse(weight)  # type: ignore[operator]
        return parts


def keep_zeros(layer: nn.Module, rows: bool) -> None:
    """Put `KeepZeros` around the weight normalization of a layer; parameters and their names stay."""
    originals = layer.get_submodule("parametrizations.weight")
    assert isinstance(originals, ParametrizationList)
    originals[0] = KeepZeros(originals[0], rows)
