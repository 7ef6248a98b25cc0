"""What an optimizer with a memory of other weights asks of a mask."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def pruned(factors: Mapping[nn.Parameter, Tensor]) -> int:
    """How many weights are pruned: masks only shrink, so a memory is of this problem where the number is the same."""
    return sum(int((factor == 0).sum()) for factor in factors.values())
