"""Exact numbers of weights alive at each level, which follow from identities and the sizes of the dense network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from lottery.errors import UsageError
from lottery.plan.keys import exact
from lottery.pruning.amounts import Pruning

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Proven:
    """Numbers of weights alive that follow from identities.

    Where weights are pruned over all layers together, only a total follows: which layers lose weights, the scores
    decide.

    Attributes:
        layers: The numbers that follow for single layers.
        together: The layers that are pruned together.
        total: The number of weights alive over the layers `together`.
    """

    layers: Mapping[str, int]
    together: tuple[str, ...] = ()
    total: int = 0

    @property
    def alive(self) -> int:
        """The number of weights alive in all layers."""
        return sum(self.layers.values()) + self.total

    def problems(self, alive: Mapping[str, int]) -> Iterator[str]:
        """Yield where the numbers `alive` of a mask, by layer, are others than those proven, in words."""
        if alive.keys() != {*self.layers, *self.together}:
            yield f"it has the layers {', '.join(alive)}, the network {', '.join([*self.layers, *self.together])}"
            return
        for name, count in self.layers.items():
            if alive[name] != count:
                yield f"{name} has {alive[name]:,} weights alive, its chain leaves {count:,}"
        found = sum(alive[name] for name in self.together)
        if found != self.total:
            yield f"{found:,} weights are alive over {', '.join(self.together)}, the chain leaves {self.total:,}"


def pruning_of(prune: Mapping[str, Any]) -> Pruning:
    """Return the amounts of pruning that the section `prune` of a ticket's or control's identity names."""
    rates = {pattern: Fraction(rate) for pattern, rate in prune["rates"]}
    densities = {pattern: exact(density) for pattern, density in prune.get("densities", ())}
    return Pruning(prune["scope"], Fraction(prune["fraction"]), rates, prune.get("times", 1), densities)


def proven_counts(shapes: Shapes, prunes: Iterable[Mapping[str, Any]]) -> Iterator[Proven]:
    """Yield the numbers of weights alive at each level of a chain, the dense network first.

    Args:
        shapes: Shapes of the dense network's prunable weights, in the order of its layers.
        prunes: The sections `prune` of the identities, from the one pruned from the dense network to the last.

    Raises:
        UsageError: Levels follow on each other that no recipe has in one trunk, so that no counts follow.
    """
    alive = {name: math.prod(shape) for name, shape in shapes.items()}
    together: tuple[str, ...] = ()
    yield Proven(alive)
    for prune in prunes:
        pruning = pruning_of(prune)
        keep, names = pruning.keep_of(alive, shapes), tuple(pruning.takes_part(shapes))
        if together and (isinstance(keep, dict) or names != together):
            raise UsageError("levels that prune all layers together are followed by others: no trunk does that")
        if isinstance(keep, dict):
            alive = {**alive, **keep}
            yield Proven(alive)
            continue
        together = names
        alive = {**alive, **_spread(keep, {name: alive[name] for name in names})}
        yield Proven({name: count for name, count in alive.items() if name not in together}, together, keep)


def _spread(total: int, most: Mapping[str, int]) -> dict[str, int]:
    """Return some counts with this total, none above `most`; only the total of the next level follows from them."""
    spread = {}
    for name, limit in most.items():
        spread[name] = min(total, limit)
        total -= spread[name]
    return spread
