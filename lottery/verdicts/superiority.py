"""Tests of tickets against a control, density by density, and the number of seeds that they would need."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from lottery.statistics import paired, step_down
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec

ControlVerdict = Literal["superior", "inferior", "inconclusive"]
Side = Literal[1, -1]  # that tickets are better, that they are worse


@dataclass(frozen=True)
class Pairs:
    """Differences of ticket less control at one density.

    Attributes:
        differences: The differences by seed, as fractions.
        tickets_diverged: Number of seeds whose ticket diverged and whose control did not.
        controls_diverged: Number of seeds whose control diverged and whose ticket did not.
    """

    differences: Mapping[int, float]
    tickets_diverged: int = 0
    controls_diverged: int = 0

    @property
    def values(self) -> list[float]:
        """The differences without their seeds."""
        return list(self.differences.values())

    def open(self, side: Side) -> bool:
        """Return True if the seeds that are left may show a side: one that diverged is not shown to be better."""
        return not (self.tickets_diverged if side > 0 else self.controls_diverged)


@dataclass(frozen=True)
class ControlDecision:
    """The verdict on one density, and the p-values behind it, as they are and corrected for the other densities."""

    verdict: ControlVerdict
    p: float
    p_adjusted: float
    p_inferior: float
    p_inferior_adjusted: float


def decide(cells: Sequence[Pairs], compare: CompareSpec) -> list[ControlDecision]:
    """Return the verdicts on one control at several densities, given from dense to sparse.

    Superior is what sign-flip permutation tests show to be above 0, inferior what they show to be below. Each of the
    two is corrected over the densities by `compare.controls`, so that the chance of one false `superior` among them is
    1 - confidence at most, and likewise that of one false `inferior`. A density at which a side diverged where the
    other did not has p = 1 for that side being the better one; to the step-down test of the others it is no test.
    """
    (above, above_adjusted), (below, below_adjusted) = _p_values(cells, compare, 1), _p_values(cells, compare, -1)
    decisions = []
    for p, adjusted, q, q_adjusted in zip(above, above_adjusted, below, below_adjusted, strict=True):
        shown: ControlVerdict = "inconclusive"
        if min(adjusted, q_adjusted) <= compare.alpha:
            shown = "superior" if adjusted <= q_adjusted else "inferior"
        decisions.append(ControlDecision(shown, p, adjusted, q, q_adjusted))
    return decisions


def sequence_end(cells: Sequence[Pairs], compare: CompareSpec, side: Side) -> int | None:
    """Return the index of the density at which the fixed sequence ended; None where it did not, or there is none."""
    if compare.controls != "fixed_sequence":
        return None
    p = _p_values(cells, compare, side)[0]
    return next((index for index in _sequence(len(cells), compare) if p[index] > compare.alpha), None)


def explain_tests(compare: CompareSpec) -> str:
    """Return a sentence on how controls are tested."""
    order = (compare.order or "dense_to_sparse").replace("_", " ")
    how = {
        "step_down": "by the step-down maximum of t over all densities, flipping the signs of whole seeds",
        "holm": "by sign flips at each density, with Holm's correction",
        "fixed_sequence": f"by sign flips at each density, in a fixed sequence from {order}",
    }[compare.controls]
    sure = f"{100 * compare.confidence:g} %"
    return f"Superior and inferior are each tested {how}, one-sided {sure} for all densities of a control together."


@cache
def can_show(compare: CompareSpec, family: int, seeds: int) -> bool:
    """Return True if some differences of so many seeds show something at one of a `family` of densities.

    None show more than those that are equal in all seeds and at all densities, whose flips all lie below what is seen:
    it is asked of the tests themselves whether these do.
    """
    same = Pairs(dict.fromkeys(range(min(seeds, paired.EXACT + 1)), 1.0))  # beyond, as many flips are drawn of any n
    return any(each.verdict != "inconclusive" for each in decide([same] * family, compare))


@cache
def least_seeds(compare: CompareSpec, family: int) -> int | None:
    """Return the fewest seeds with which anything can be shown at one of a `family` of densities; None where none can.

    The smallest p of sign flips is 2^-n. The step-down test and the fixed sequence can show all densities at that;
    Holm's procedure asks for 1/family of 1 - confidence first. Beyond 16 seeds, where flips are drawn, p is no smaller
    with more seeds.
    """
    return next((n for n in range(1, paired.EXACT + 2) if can_show(compare, family, n)), None)


def why_nothing(compare: CompareSpec, family: int, seeds: int) -> str:
    """Return why so many seeds can show nothing at any of a `family` of densities; empty where they can."""
    if can_show(compare, family, seeds):
        return ""
    least, drawn = least_seeds(compare, family), seeds > paired.EXACT
    p = f"p of the sign-flip test is 1/{paired.DRAWS + 1 if drawn else 2**seeds:,} at least"
    p += f", times {family} by Holm's procedure" if compare.controls == "holm" and family > 1 else ""
    takes = "no number of seeds can" if least is None else f"it takes {least} seeds{'' if drawn else ' or more'}"
    return f"{counted(seeds, 'seed')} cannot show it: {p}; {takes}"


def seeds_needed(cells: Sequence[Pairs], compare: CompareSpec) -> list[int | None]:
    """Return for each density the fewest seeds that show a difference, if the true means and spreads are those seen.

    The power is that of `compare`. With the step-down test of several densities it is the test's own, see
    `lottery.statistics.step_down.seeds_needed`. Else each density counts by itself, by the power of the t test, which
    that of the sign-flip test comes near, at the level that so many flips can attain: p is a multiple of 2^-n (1/32 in
    place of 0.05 with 5 seeds); with Holm's procedure at the level of its first step, which is the worst case. One
    value has no spread: then the seeds with which anything can be shown.

    Returns:
        The numbers; None where there is no mean difference, where its better side diverged, and where no number or more
        than 100,000 would do.
    """
    sides = [_side(cell) for cell in cells]
    needed: list[int | None] = [None] * len(cells)
    least = least_seeds(compare, len(cells)) if cells else None
    if least is None:
        return needed
    for side in (1, -1):
        mine = [index for index, each in enumerate(sides) if each == side]
        if mine and compare.controls == "step_down" and len(cells) > 1:
            found = step_down.seeds_needed(_table(cells, side), compare.alpha, compare.power)
        else:
            found = [_alone(cell.values, compare, len(cells), least) for cell in cells]
        for index in mine:
            single = len(cells[index].differences) == 1
            needed[index] = least if single else found[index]
    return [n if n is None else max(n, least) for n in needed]


def _side(cell: Pairs) -> Side | None:
    """Return the side that the mean speaks for, where it may be shown."""
    mean = statistics.fmean(cell.values) if cell.values else 0.0
    side: Side = 1 if mean > 0 else -1
    return side if mean and cell.open(side) else None


def _p_values(cells: Sequence[Pairs], compare: CompareSpec, side: Side) -> tuple[list[float], list[float]]:
    """Return the p-values of one side, each density by itself and adjusted."""
    alternative: paired.Alternative = "greater" if side > 0 else "less"
    p = [paired.sign_flip(cell.values, alternative) if cell.open(side) else 1.0 for cell in cells]
    if compare.controls == "step_down":
        found = step_down.adjusted(_table(cells, side))
        return p, [max(pair) for pair in zip(p, found, strict=True)]  # drawn flips of fewer seeds are other ones
    if compare.controls == "holm":
        return p, paired.holm(p)
    order = _sequence(len(p), compare)
    found = paired.fixed_sequence([p[index] for index in order])
    return p, [found[index] for index in order]  # reversed twice is as it was


def _sequence(count: int, compare: CompareSpec) -> range:
    """Return the indexes of densities, which lie from dense to sparse, in the order in which they are tested."""
    indexes = range(count)
    return indexes[::-1] if compare.order == "sparse_to_dense" else indexes


def _table(cells: Sequence[Pairs], side: Side) -> step_down.Array:
    """Return the differences in favour of a side, of shape (seeds, densities).

    nan stands where there is none, or where it may not be shown.
    """
    seeds = sorted({seed for cell in cells for seed in cell.differences})
    table = np.full((len(seeds), len(cells)), math.nan)
    for column, cell in enumerate(cells):
        if cell.open(side):
            for row, seed in enumerate(seeds):
                table[row, column] = side * cell.differences.get(seed, math.nan)
    return table


def _alone(differences: Sequence[float], compare: CompareSpec, family: int, least: int) -> int | None:
    if len(differences) < 2:
        return None
    n, level = least, _level(compare, family)
    spread, distance = statistics.stdev(differences), abs(statistics.fmean(differences))
    while n <= paired.EXACT:
        attained = math.floor(level * 2**n * (1 + 1e-9)) / 2**n
        wanted = paired.seeds_needed(spread, distance, 1 - attained, compare.power)
        if wanted is None or wanted <= n:
            return n if wanted is not None else None
        n += 1
    wanted = paired.seeds_needed(spread, distance, 1 - level, compare.power)
    return max(n, wanted) if wanted is not None else None


def _level(compare: CompareSpec, family: int) -> float:
    """Return the level at which a density can be tested at the most, or with Holm's procedure has to be first."""
    return compare.alpha / (family if compare.controls == "holm" else 1)
