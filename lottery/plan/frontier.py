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
    """All that was fixed before the first training.

    A dense network that diverged leaves no difference: the next seed of the pool takes its place.

    Attributes:
        margin: largest loss of accuracy with which a level still matches, a fraction.
        alpha: level of each test.
        pool: number of seeds that there are.
        looks: numbers of differences at which a level is tested.
        levels: number of levels that the walk may reach.
        floor: least standard deviation that is believed of differences, see `lottery.results.resolution`.
    """

    margin: float
    alpha: float
    pool: int
    looks: tuple[int, ...]
    levels: int
    floor: float = 0.0

    @property
    def bounds(self) -> tuple[float, ...]:
        """The values that the t statistic has to reach, one for each look."""
        return bounds(self.looks, self.alpha)


@dataclass(frozen=True)
class Step:
    """A level that the walk came to, and what was seen of it at the last look taken.

    A level is matching if the lower bound is above -margin, losing if the upper bound is below it.

    Attributes:
        level: from 1.
        decision: what was decided, or "open".
        seeds: number of seeds, from the front of the pool, that are asked for at this level.
        n: number of differences at the last look.
        looks: number of looks taken.
        difference: mean difference of accuracy, ticket minus dense, a fraction.
        bound: lower bound of that mean which holds at all looks together (a repeated confidence bound, Jennison &
            Turnbull 1989).
        spent: part of alpha that is spent.
        chance: probability that going on would show the level matching.
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
    """Return the rule of a recipe with `levels: auto`; `floor` is that of `Rule`."""
    auto, compare, pool = recipe.prune.auto, acting(recipe), len(recipe.seeds)
    assert auto is not None and compare is not None
    looks = (*range(auto.first_seeds, pool, auto.add_seeds), pool)
    return Rule(compare.margin / 100, compare.alpha, pool, looks, recipe.prune.deepest, floor)


def walk(rule: Rule, pair: Callable[[int, int], Pair]) -> tuple[Step, ...]:
    """Return the levels from 1 as far as they are known.

    The last one is open, or not shown to match, or the last that there may be. `pair` gives the difference at a level
    (its first argument) of a seed, by its index in the pool.
    """
    steps: list[Step] = []
    for level in range(1, rule.levels + 1):
        steps.append(_step(rule, level, pair))
        if steps[-1].decision != "matching":
            break
    return tuple(steps)


def over(rule: Rule, steps: Sequence[Step]) -> bool:
    """Return whether nothing more needs to be run."""
    return steps[-1].decision != "open" and (steps[-1].decision != "matching" or len(steps) == rule.levels)


def seeds_trained(steps: Sequence[Step], trunk: bool = True) -> list[int]:
    """Return the number of seeds at which the walk needs the dense network, then the ticket of each level it came to.

    In a trunk the ticket of a level needs those of the levels before it, also where the walk asked for fewer.
    """
    deeper = [max(step.seeds for step in steps[first:]) for first in range(len(steps))]
    return [deeper[0], *(deeper if trunk else [step.seeds for step in steps])]


def _step(rule: Rule, level: int, pair: Callable[[int, int], Pair]) -> Step:
    """Decide one level, look after look, as far as its differences are known."""
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
    """Return the pairs of seeds from the front of the pool, as many as it takes to have `look` differences.

    They are fewer if the pool is too small, or if as many dense networks diverged as the first look has differences.
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
