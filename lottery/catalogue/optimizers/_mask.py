"""The part of a mask that an optimizer with a memory of other weights asks for."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def pruned(factors: Mapping[nn.Parameter, Tensor]) -> int:
    """Return the number of pruned weights.

    Masks only shrink, so a memory is of this problem if the number is the same.
    """
    return sum(int((factor == 0).sum()) for factor in factors.values())
