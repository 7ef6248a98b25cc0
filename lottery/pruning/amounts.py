"""Number of weights that a level of pruning keeps of each layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction

from lottery.errors import UsageError
from lottery.network.names import layer_name
from lottery.pruning.layer_densities import counts, erk
from lottery.pruning.mask import Mask, pruned_count

Counts = dict[str, int] | int  # weights to keep: of each layer, or over all that take part in global pruning


@dataclass(frozen=True)
class Pruning:
    """Amounts of pruning: a fraction of the surviving weights times the rate of the layer, or a density for each layer.

    Attributes:
        scope: `layer` prunes each layer by itself, `global` all together, `erk` to Erdos-Renyi-kernel densities.
        fraction: Share of the surviving weights that goes in one round.
        rates: Multiplier of the fraction by layer or pattern; 0 leaves a layer as it is.
        times: Number of rounds that are counted off at once.
        densities: Density by layer or pattern, in place of fraction and rates; layers that are not named stay dense.
    """

    scope: str  # "layer", "global" or "erk"
    fraction: Fraction
    rates: Mapping[str, Fraction]
    times: int = 1
    densities: Mapping[str, Fraction] = field(default_factory=dict)

    def keep(self, mask: Mask) -> Counts:
        """Return the number of weights to keep of a mask: of each layer, or over all where pruning is global."""
        return self.keep_of(mask.alive(), mask.shapes())

    def keep_of(self, alive: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> Counts:
        """Return `keep` of a mask from the number of surviving weights and the shape of each layer."""
        names = self.takes_part(shapes)
        sizes = {name: math.prod(shape) for name, shape in shapes.items()}
        if self.densities:
            shares = {name: self._kept(name, shapes) for name in names}
            return {name: min(alive[name], sizes[name] - pruned_count(sizes[name], 1 - shares[name])) for name in names}
        if self.scope == "layer":
            return {name: self._left(alive[name], layer_rate(name, list(shapes), self.rates)) for name in names}
        total = self._left(sum(alive[name] for name in names), Fraction(1))
        if self.scope == "global":
            return total
        density = Fraction(total, sum(sizes[name] for name in names))
        wanted = erk({name: shapes[name] for name in names}, density)
        return counts({name: shapes[name] for name in names}, wanted, total, most={name: alive[name] for name in names})

    def _left(self, count: int, rate: Fraction) -> int:
        for _ in range(self.times):
            count -= pruned_count(count, self.fraction * rate)
        return count

    def takes_part(self, mask: Collection[str]) -> list[str]:
        """Return the layers that are pruned at all, of a mask or of the names of its layers in order."""
        return [name for name in mask if layer_rate(name, list(mask), self.densities or self.rates)]

    def shrinks(self, mask: Mask) -> list[str]:
        """Return the layers that lose weights: those that take part, without those that `densities` leave dense."""
        return [name for name in self.takes_part(mask) if not self.densities or self._kept(name, mask) < 1]

    def _kept(self, name: str, mask: Collection[str]) -> Fraction:
        return layer_rate(name, list(mask), self.densities)

    def check(self, mask: Mask) -> None:
        """Check rates and densities against the layers of a model.

        Raises:
            UsageError: A key names no layer of the model, or a rate prunes all that there is.
        """
        layers = [layer_name(name) for name in mask]
        for key, patterns in (("rates", self.rates), ("densities", self.densities)):
            for pattern, rate in patterns.items():
                if pattern != "output" and not any(fnmatchcase(layer, pattern) for layer in layers):
                    raise UsageError(f"prune.{key}: no layer {pattern!r}; the model has {', '.join(layers)}")
                if key == "rates" and rate * self.fraction >= 1:
                    raise UsageError(
                        f"prune.rates.{pattern}: {float(rate * self.fraction):g} of a layer leaves nothing"
                    )


def geometric_mean(alive: int, target: int, share: float) -> int:
    """Return the weighted geometric mean of two counts, rounded; `share` is the weight of `target`, from 0 to 1."""
    return round(float(alive ** (1 - share) * target**share))


def like_target(target: Counts, found: dict[str, int], names: Iterable[str]) -> Counts:
    """Return counts found by layer in the form of the target: by layer, or their sum over `names`."""
    return found if isinstance(target, dict) else sum(found[name] for name in names)


def between(alive: Counts, target: Counts, mean: Callable[[int, int], int]) -> Counts:
    """Return counts on the way from the surviving weights to the target, each a `mean` of the two."""
    if isinstance(alive, dict) and isinstance(target, dict):
        return {name: mean(alive[name], count) for name, count in target.items()}
    assert isinstance(alive, int) and isinstance(target, int)
    return mean(alive, target)


def layer_rate(name: str, names: list[str], rates: Mapping[str, Fraction]) -> Fraction:
    """Return the multiplier of a layer: that of its own name, else of the first pattern that fits, else 1.

    `output` means the last layer, whatever its name.
    """
    layer = layer_name(name)
    if layer in rates:
        return rates[layer]
    if name == names[-1] and "output" in rates:
        return rates["output"]
    return next((rate for pattern, rate in rates.items() if fnmatchcase(layer, pattern)), Fraction(1))
