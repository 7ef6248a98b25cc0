"""The part of the weights that each level of a recipe prunes."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from lottery.plan.keys import exact

if TYPE_CHECKING:
    from lottery.recipe.schema import PruneSpec


def amounts(prune: PruneSpec) -> list[tuple[Fraction, int, dict[str, float]]]:
    """Return for each level the fraction that is pruned, how many times, and the densities of its layers.

    With `densities` the fraction is 0 and the densities count; otherwise there are none. A level that stands alone, as
    it is pruned from untrained weights, is pruned as many times as the same level of a trunk would have been.
    """
    if prune.densities is not None:
        shares = [level / prune.deepest for level in range(1, prune.deepest + 1)]
        return [(Fraction(0), 1, {name: density**x for name, density in prune.densities.items()}) for x in shares]
    if prune.one_shot is not None:
        return [(1 - exact(density), 1, {}) for density in sorted(prune.one_shot, reverse=True)]
    alone = prune.when != "trained"
    return [(exact(prune.fraction), level if alone else 1, {}) for level in range(1, prune.deepest + 1)]
