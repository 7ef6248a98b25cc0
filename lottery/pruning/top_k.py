"""Selection of an exact number of the highest scores, in little more memory than one layer's scores take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 2**20  # scores looked at at once, a multiple of 8: bounds the memory, and stays near the cache
DIGIT_BITS = 16

Bits = NDArray[np.uint8]  # eight scores in a byte
Keys = NDArray[np.unsignedinteger[Any]]
Layer = tuple[Callable[[], Tensor], Bits]  # makes the scores; which of them take part


def highest(layers: Sequence[Layer], count: int, kind: torch.dtype) -> Iterator[Bits]:
    """Yield for each layer which of its scores are among the `count` highest of all that take part.

    Among equals the first are chosen, in the order of layers and then of the flattened scores; -0.0 equals 0.0. At
    least `count` scores must take part, and none of those may be NaN. Scores are compared as numbers of type `kind`.

    The threshold is found digit by digit from the highest one: a pass over all scores counts, among those that agree
    with it so far, how often each value of the next digit occurs. Scores are made anew for each pass.
    """

    def scan() -> Iterator[Keys]:
        for scores, bits in layers:
            for values, alive in _chunks(scores(), bits):
                # keys[alive] takes ten times as long where alive and pruned weights are mixed
                yield np.compress(alive, _keys(values.to(kind)))

    wide = kind == torch.float64 or not kind.is_floating_point
    threshold, ties = _threshold(scan, count, key_bits=64 if wide else 32)
    for scores, bits in layers:
        chosen = [bits[:0]]
        for values, alive in _chunks(scores(), bits):
            keys = _keys(values.to(kind))
            top = (keys > threshold) & alive
            equal = np.flatnonzero((keys == threshold) & alive)[:ties]
            top[equal] = True
            ties -= len(equal)
            chosen.append(np.packbits(top))
        yield np.concatenate(chosen)


def finite(scores: Tensor, bits: Bits) -> bool:
    """Return True if every score of a surviving weight is finite."""
    return all(bool((np.isfinite(values.numpy()) | ~alive).all()) for values, alive in _chunks(scores, bits))


def _threshold(scan: Callable[[], Iterable[Keys]], count: int, key_bits: int) -> tuple[int, int]:
    """Return the `count`-th highest key of a scan, and the number of keys equal to it among the `count` highest."""
    if not count:
        return 2**key_bits, 0  # above all keys
    threshold, left = 0, count
    for shift in range(key_bits - DIGIT_BITS, -1, -DIGIT_BITS):
        counts = np.zeros(2**DIGIT_BITS, dtype=np.int64)
        for keys in scan():
            digits = keys >> shift
            if shift + DIGIT_BITS < key_bits:
                digits = np.compress(digits >> DIGIT_BITS == threshold, digits) & (2**DIGIT_BITS - 1)
            counts += np.bincount(digits.astype(np.intp), minlength=len(counts))
        at_least = counts[::-1].cumsum()[::-1]
        digit = int(np.flatnonzero(at_least >= left)[-1])
        left -= int(at_least[digit] - counts[digit])
        threshold = threshold << DIGIT_BITS | digit
    return threshold, left


def _chunks(scores: Tensor, bits: Bits) -> Iterator[tuple[Tensor, NDArray[np.bool_]]]:
    """Yield some scores of one layer at a time, on the CPU in a type that numpy has, and which of them take part."""
    flat = scores.detach().reshape(-1)
    for begin in range(0, len(flat), CHUNK):
        values = flat[begin : begin + CHUNK].cpu()
        if values.dtype != torch.float64:
            values = values.to(torch.float32 if values.is_floating_point() else torch.int64)
        here = bits[begin // 8 : (begin + CHUNK) // 8]
        yield values, np.unpackbits(here, count=len(values)).view(np.bool_)


def _keys(values: Tensor) -> Keys:
    """Return unsigned integers in the order of the values, equal where the values are.

    Read as an integer, an IEEE number grows with its value where it is positive, and falls where it is negative.
    """
    if not values.is_floating_point():
        return values.to(torch.int64).numpy().view(np.uint64) ^ np.uint64(2**63)
    if values.dtype == torch.float64:
        keys = (values.numpy() + 0.0).view(np.int64)  # -0.0 + 0.0 is 0.0
        keys ^= (keys >> 63) | np.int64(-(2**63))
        return keys.view(np.uint64)
    narrow = (values.float().numpy() + np.float32(0)).view(np.int32)
    narrow ^= (narrow >> 31) | np.int32(-(2**31))
    return narrow.view(np.uint32)
