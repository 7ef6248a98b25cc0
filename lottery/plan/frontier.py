"""The rule of `levels: auto`: from differences by level and seed to what has to be run next, or to the answer.

Levels are tested in a fixed sequence from dense to sparse, each for non-inferiority at the full level alpha, and the
first that is not shown to match ends the walk. So a level that does not match is called matching only if the first such
one is, which happens with probability alpha at most, however the levels are correlated (Maurer, Hothorn & Lehmacher
1995; Westfall & Krishen 2001). Within a level the t statistic is compared with the bounds of `statistics.sequential` at
each look; they are fixed beforehand, so it does not matter which looks are taken, or why no more are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from lottery.recipe.families import acting
from lottery.statistics.sequential import bounds, chance, spent

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

FUTILE = 0.1  # a level whose chance to be shown matching is below this is given up

# accuracy of the ticket minus that of the dense network, or which of them diverged; None where not known yet
Pair = float | Literal["ticket diverged", "dense diverged"] | None
Decision = Literal["matching", "losing", "futile", "exhausted", "ticket diverged", "dense diverged", "open"]


@dataclass(frozen=True)
class Rule:
    """What was fixed before the first training. `margin` is a fraction of accuracy; a look is a number of differences;
    `floor` is the least standard deviation that is believed of them, which the number of test examples gives.

    A dense network that diverged leaves no difference: the next seed of the `pool` takes its place.
    """

    margin: float
    alpha: float
    pool: int  # seeds
    looks: tuple[int, ...]
    levels: int  # that the walk may reach
    floor: float = 0.0

    @property
    def bounds(self) -> tuple[float, ...]:
        """What the t statistic has to reach at each look."""
        return bounds(self.looks, self.alpha)


@dataclass(frozen=True)
class Step:
    """A level that the walk came to.

    `seeds` of the pool are asked for at this level, those at its front; the other fields say what was seen at the last
    look taken: at `n` differences the mean `difference`, its lower `bound` that holds at all looks together (a repeated
    confidence bound, Jennison & Turnbull 1989), the part of alpha `spent`, and the `chance` that going on would show
    the level matching. Matching is where the bound is above -margin; `losing`, where the upper bound is below it.
    """

    level: int
    decision: Decision
    seeds: int
    n: int = 0
    looks: int = 0
    difference: float | None = None
    bound: float | None = None
    spent: float = 0.0
    chance: float | None = None


def rule(recipe: Recipe, floor: float = 0.0) -> Rule:
    """The rule of a recipe with `levels: auto`."""
    auto, compare, pool = recipe.prune.auto, acting(recipe), len(recipe.seeds)
    assert auto is not None and compare is not None
    looks = (*range(auto.first_seeds, pool, auto.add_seeds), pool)
    return Rule(compare.margin / 100, compare.alpha, pool, looks, recipe.prune.deepest, floor)


def walk(rule: Rule, pair: Callable[[int, int], Pair]) -> tuple[Step, ...]:
    """The levels from 1 as far as they are known; the last is open, or not shown to match, or the last there may be.

    `pair` gives the difference at a level, of a seed by its place in the pool.
    """
    steps: list[Step] = []
    for level in range(1, rule.levels + 1):
        steps.append(_step(rule, level, pair))
        if steps[-1].decision != "matching":
            break
    return tuple(steps)


def over(rule: Rule, steps: Sequence[Step]) -> bool:
    """Whether nothing more needs to be run."""
    return steps[-1].decision != "open" and (steps[-1].decision != "matching" or len(steps) == rule.levels)


def seeds_trained(steps: Sequence[Step], trunk: bool = True) -> list[int]:
    """At how many seeds the walk needs the dense network, then the ticket of each level it came to.

    In a trunk the ticket of a level needs those of the levels before it, also where the walk asked for fewer.
    """
    deeper = [max(step.seeds for step in steps[first:]) for first in range(len(steps))]
    return [deeper[0], *(deeper if trunk else [step.seeds for step in steps])]


def _step(rule: Rule, level: int, pair: Callable[[int, int], Pair]) -> Step:
    """One level, look after look, as far as its differences are known."""
    step = Step(level, "open", 0)
    for look, used, critical in zip(rule.looks, spent(rule.looks, rule.alpha), rule.bounds, strict=True):
        pairs = _front(rule, look, partial(pair, level))
        step = replace(step, seeds=len(pairs))
        differences = [each for each in pairs if isinstance(each, float)]
        if pairs.count("dense diverged") == rule.looks[0]:
            return replace(step, decision="dense diverged")
        if None in pairs:
            return step
        if "ticket diverged" in pairs:
            return replace(step, decision="ticket diverged")
        if len(differences) < look:
            return replace(step, decision="exhausted")
        step = _look(rule, replace(step, spent=used, looks=step.looks + 1), differences, critical)
        if step.decision != "open":
            return step
    return replace(step, decision="exhausted")


def _front(rule: Rule, look: int, pair: Callable[[int], Pair]) -> list[Pair]:
    """The pairs of as many seeds as it takes to have so many differences, unless the pool is too small or as many
    dense networks diverged as the first look would have had.
    """
    pairs: list[Pair] = []
    lost = 0
    while len(pairs) < min(look + lost, rule.pool) and lost < rule.looks[0]:
        pairs.append(pair(len(pairs)))
        lost += pairs[-1] == "dense diverged"
    return pairs


def _look(rule: Rule, step: Step, differences: Sequence[float], critical: float) -> Step:
    n, mean = len(differences), statistics.fmean(differences)
    above = mean + rule.margin
    seen = statistics.stdev(differences)
    deviation = max(seen, rule.floor)
    half = critical * deviation / math.sqrt(n)
    if seen < 1e-9 and 0.5**n > step.spent:  # no spread, as where all test examples are right: the sign test decides
        half = math.inf
    step = replace(step, n=n, difference=mean, bound=mean - half, chance=None)
    if above > 0 and above >= half:
        return replace(step, decision="matching")
    if above < 0 and -above >= half:
        return replace(step, decision="losing")
    if n == rule.looks[-1]:
        return step
    left = chance(n, above, deviation, rule.looks[-1], rule.bounds[-1])
    return replace(step, chance=left, decision="futile" if left < FUTILE else "open")
