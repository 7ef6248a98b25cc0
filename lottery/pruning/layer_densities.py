"""Rules that share surviving weights out over the layers, in place of comparing scores across layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from lottery.errors import UsageError


def uniform(shapes: Mapping[str, tuple[int, ...]], density: Fraction) -> dict[str, Fraction]:
    """Return the same density for each layer."""
    return dict.fromkeys(shapes, density)


def erk(shapes: Mapping[str, tuple[int, ...]], density: Fraction) -> dict[str, Fraction]:
    """Return Erdos-Renyi-kernel densities: proportional to (n_out + n_in + kernel) / (n_out n_in kernel).

    Densities stop at 1, and what they would have above it is shared out among the other layers, so that `density` is
    that of all layers together. No layer's density falls where the overall one grows. Source: Mocanu et al. 2018, with
    kernels Evci et al. 2020.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: Fraction(sum(shape), sizes[name]) for name, shape in shapes.items()}
    wanted = density * sum(sizes.values())
    found: dict[str, Fraction] = {}
    for name in sorted(raw, key=lambda name: raw[name], reverse=True):  # the first to be full is the densest
        rest = [other for other in raw if other not in found]
        scale = (wanted - sum(sizes[other] for other in found)) / sum(sizes[other] * raw[other] for other in rest)
        if scale * raw[name] < 1:
            return {other: found.get(other, scale * raw[other]) for other in shapes}
        found[name] = Fraction(1)
    return {name: found[name] for name in shapes}


def counts(
    shapes: Mapping[str, tuple[int, ...]],
    densities: Mapping[str, Fraction],
    total: int,
    most: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return the number of weights that each layer keeps: its density times its size, by largest remainders.

    Each layer gets the whole part of its share, and the weights left over go one by one to the layers with the largest
    remainder, the first of them among equals. What a layer cannot take goes to the others.

    Args:
        shapes: Shape of each layer's weight.
        densities: Density of each layer.
        total: Number of weights that all layers keep together.
        most: Largest number that each layer can keep; its size where this is not given.

    Raises:
        UsageError: All layers together cannot hold the total, or their densities ask for more than it.
    """
    limits = {name: math.prod(shape) if most is None else most[name] for name, shape in shapes.items()}
    shares = {name: densities[name] * math.prod(shape) for name, shape in shapes.items()}
    kept = {name: min(math.floor(share), limits[name]) for name, share in shares.items()}
    left = total - sum(kept.values())
    if left < 0 or total > sum(limits.values()):
        raise UsageError(f"cannot share out {total} weights: layers ask for {sum(kept.values())} of {limits}")
    while left:
        rest = sorted((name for name in kept if kept[name] < limits[name]), key=lambda name: kept[name] - shares[name])
        for name in rest[:left]:
            kept[name] += 1
        left -= len(rest[:left])
    return kept
