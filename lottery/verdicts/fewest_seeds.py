"""Fewest seeds with which each test can show anything, by asking the tests themselves of the clearest results.

The clearest results are values that are equal in all seeds, or equal but for one or two by the least step that there
is: the first are as sure as a sign test makes them, the others as a t test, whose error is then its least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from lottery.verdicts import barriers, decisions, published_claims, transfers
from lottery.verdicts.barriers import Barriers
from lottery.verdicts.decisions import DenseDifferences
from lottery.verdicts.published_claims import Judgement, Observed
from lottery.verdicts.transfers import TransferDifferences

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec
    from lottery.recipe.schema import CompareSpec

MOST = 320  # seeds up to which is looked
_FINE = 1e-9  # step between values where the number of test examples is not known, or values are no counts
_TOP = {"matching": 1.0, "winning": 1.0, "better": 1.0, "losing": -1.0, "equivalent": 0.0}  # where a word is clearest
_FAR = 10.0  # from a claim's limits, of values that have no bounds

Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Scale:
    """The values that a published claim is about, on the scale they are tested on.

    Attributes:
        low: The lowest.
        high: The highest.
        step: The least difference between two.
        floor: The least spread that is believed of them.
        counted: As in `Observed`.
    """

    low: float
    high: float
    step: float = _FINE
    floor: float = 0.0
    counted: Literal["", "share", "paired"] = ""

    @classmethod
    def around(cls, limits: Limits) -> Scale:
        """Return the scale of values without bounds, far on both sides of a claim's limits."""
        known = [limit for limit in limits if limit is not None]
        return cls(min(known) - _FAR, max(known) + _FAR)

    def clearest(self, word: str, limits: Limits) -> list[float]:
        """Return the values that speak the most clearly for a verdict, `holds` or `fails`."""
        least, most = limits
        if word == "fails":
            return [self.low] * (least is not None) + [self.high] * (most is not None)
        if least is not None and most is not None:
            return [min(self.high, max(self.low, (least + most) / 2))]
        return [self.high if least is not None else self.low]

    def near(self, n: int, value: float) -> Iterator[list[float]]:
        """Yield the clearest n values near to one; of shares, those whose mean is nearest to it."""
        if not self.counted:
            whole = value if self.step == _FINE else self.step * round(value / self.step)  # of counts
            yield from nearly_equal(n, whole, self.step, (self.low, self.high))
            return
        one = 100.0 if value >= 0 else -100.0
        for ones in {math.floor(n * value / one), math.ceil(n * value / one)}:
            yield [one] * ones + [0.0] * (n - ones)


def fewest(shows: Callable[[int], bool], most: int = MOST, rising: bool = True) -> int | None:
    """Return the fewest seeds for which `shows` is true; None where it is not up to `most`.

    Without `rising` more seeds may show less, so that each number is tried.
    """
    if not rising:
        return next((n for n in range(1, most + 1) if shows(n)), None)
    low, high = 0, 1
    while not shows(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


def nearly_equal(n: int, value: float, step: float, within: tuple[float, float]) -> Iterator[list[float]]:
    """Yield n values that are all equal, then all but one that differs by a step, then all but two that do."""
    yield [value] * n
    others = [other for other in (value - step, value + step) if within[0] <= other <= within[1]]
    for other in others if n > 1 else ():
        yield [other, *[value] * (n - 1)]
    if n > 2 and len(others) == 2:
        yield [*others, *[value] * (n - 2)]


@cache
def against_dense(word: str, compare: CompareSpec, family: int, floor: float, evaluations: int, seeds: int) -> bool:
    """Return True if some results of so many seeds give a word of verdicts at one of a `family` of densities.

    Args:
        word: `matching`, `losing`, `better`, `equivalent` or `winning`.
        compare: The recipe's section as it acts within a family.
        family: Number of densities.
        floor: The least spread that is believed, see `lottery.results.resolution`; 0 where it is not known.
        evaluations: Number of steps at which a training is evaluated: early-stop steps are some of them.
        seeds: Number of seeds.
    """
    for differences in nearly_equal(seeds, _TOP[word], floor * 2**0.5 or _FINE, (-1.0, 1.0)):
        for early in _early_stops(seeds, evaluations) if word == "winning" else (None,):
            cells = [DenseDifferences(differences, early=early)] * family
            found = decisions.decide(cells, compare, may_win=early is not None, floor=floor)
            if any(word in _words(each) for each in found):
                return True
    return False


@cache
def of_transfers(word: str, compare: CompareSpec, family: int, floor: float, seeds: int) -> bool:
    """Return True if some results of so many seeds give a verdict on one of a `family` of transferred tickets."""
    for differences in nearly_equal(seeds, _TOP[word], floor * 2**0.5 or _FINE, (-1.0, 1.0)):
        found = transfers.decide([TransferDifferences(differences)] * family, compare, floor)
        if any(each.verdict == word for each in found):
            return True
    return False


@cache
def of_pairs(word: str, margin: float, alpha: float, family: int, floor: float, pairs: int) -> bool:
    """Return True if some barriers of so many independent pairs give a verdict at one of a `family` of cells."""
    for values in nearly_equal(pairs, 0.0 if word == "connected" else 1.0, floor * 2**0.5 or _FINE, (0.0, 1.0)):
        found = barriers.decide([Barriers(values, pairs)] * family, margin, alpha, floor)
        if any(each.verdict == word for each in found):
            return True
    return False


def of_claim(word: str, claim: ClaimSpec, confidence: float, scale: Scale, seeds: int) -> bool:
    """Return True if some values of so many seeds give a verdict, `holds` or `fails`, on a published claim."""
    if seeds < 1:
        return False
    for target in scale.clearest(word, published_claims.limits(claim)):
        for values in scale.near(seeds, target):
            seen = Observed(1, 1.0, values, floor=scale.floor, counted=scale.counted)
            here = published_claims.decide(claim, seen, confidence)[0]
            judged = Judgement(here, 0.0, 0.0, (confidence, confidence), None, None)
            if published_claims.verdict(claim, [judged] * len(claim.densities)) == word:
                return True
    return False


def _words(found: decisions.MatchingDecision) -> set[str]:
    """Return all words that are said of a density: what wins matches as well."""
    said = {found.verdict, *(["matching"] if found.verdict == "winning" else [])}
    return said | {word for word in ("better", "equivalent") if getattr(found, word)}


def _early_stops(n: int, evaluations: int) -> Iterator[list[tuple[float, float, bool, bool]]]:
    """Yield early-stop steps of n tickets and dense networks, in evaluations, that speak the most for the tickets.

    The ticket's is the first, the dense network's the last that is not censored, in one seed that before it; or each
    dense network's is censored.
    """
    last = max(1, evaluations - 1)
    yield [(1, last, False, False)] * n
    if last > 1:
        yield [(1, last - 1, False, False), *[(1, last, False, False)] * (n - 1)]
    yield [(1, max(1, evaluations), False, True)] * n
