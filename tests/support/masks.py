"""Masks that a forger could put in the place of others."""

from __future__ import annotations

from lottery.pruning.mask import Mask


def other_bits(mask: Mask) -> Mask:
    """A mask of the same counts whose bits stand in reversed order."""
    return Mask({name: bits.flatten().flip(0).reshape(bits.shape) for name, bits in mask.items()})
