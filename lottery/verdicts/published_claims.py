"""Tests of one published claim on the values of a study, and the number of seeds that would decide it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from lottery.statistics import paired, shares

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec

ClaimVerdict = Literal["holds", "fails", "undecided"]
MOST_COUNTED = 320  # seeds up to which it is tried what exact bounds of shares would decide


@dataclass(frozen=True)
class Observed:
    """Values by seed that a claim speaks of at one level, on the scale they are tested on.

    Attributes:
        level: The level.
        density: Its density; 0 where it is not trained.
        values: The values, one per seed: percentage points, other differences, or logarithms of ratios.
        unbounded: True if the values leave open how low, and how high, the true value is: where a censored step is
            later than it says, or where a side diverged and is not shown to be the better one by the seeds that are
            left.
        hindrances: Reasons, in words, that leave everything undecided.
        notes: Sentences that are told beside it.
        floor: The least spread that is believed of the values.
        counted: True if each value is a yes or no, or the difference of two, in percentage points: `share`, `paired`.
    """

    level: int
    density: float
    values: Sequence[float]
    unbounded: tuple[bool, bool] = (False, False)
    hindrances: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    floor: float = 0.0
    counted: Literal["", "share", "paired"] = ""

    def low(self, confidence: float) -> float:
        """Return the one-sided lower bound of the true mean; minus infinity where the values leave it open."""
        if self.unbounded[0]:
            return -math.inf
        if self.counted:
            return 100 * shares.lower_bound([each / 100 for each in self.values], confidence, self.counted == "paired")
        return paired.lower_bound(self.values, confidence, self.floor)

    def high(self, confidence: float) -> float:
        """Return the one-sided upper bound of the true mean; infinity where the values leave it open."""
        if self.unbounded[1]:
            return math.inf
        if self.counted:
            return 100 * shares.upper_bound([each / 100 for each in self.values], confidence, self.counted == "paired")
        return paired.upper_bound(self.values, confidence, self.floor)


@dataclass(frozen=True)
class Judgement:
    """The verdict on one density, and the bounds that decide it.

    Attributes:
        here: The verdict.
        low: The true value is at least this, by a one-sided bound of the first of the `confidences`.
        high: The true value is at most this, by a one-sided bound of the second of the `confidences`.
        confidences: The confidences of the two bounds.
        kept: True if the estimate keeps the claim's limits; None where nothing may be said.
        seeds_needed: The number of seeds with which the bounds would decide, where they do not; None where no number
            would.
    """

    here: ClaimVerdict
    low: float
    high: float
    confidences: tuple[float, float]
    kept: bool | None
    seeds_needed: int | None


def judge(claim: ClaimSpec, seen: Observed, confidence: float, power: float) -> Judgement:
    """Return the verdict at one density: whether the claim is shown to hold there, or to fail."""
    least, most = limits(claim)
    sure = confidences(claim, confidence)
    if seen.hindrances or not seen.values:
        return Judgement("undecided", -math.inf, math.inf, sure, None, None)
    here, low, high = decide(claim, seen, confidence)
    estimate = statistics.fmean(seen.values)
    kept = (least is None or estimate >= least) and (most is None or estimate <= most)
    needed = None
    if here == "undecided" and seen.counted:
        needed = _shares_needed(seen, (least, most), sure)
    elif here == "undecided":
        needed = _seeds_needed(seen, (least, most), sure, power)
    return Judgement(here, low, high, sure, kept, needed)


def decide(claim: ClaimSpec, seen: Observed, confidence: float) -> tuple[ClaimVerdict, float, float]:
    """Return the verdict at one density by its values alone, with the two bounds that decide it."""
    sure = confidences(claim, confidence)
    low, high = seen.low(sure[0]), seen.high(sure[1])
    return _here(low, high, limits(claim)), low, high


def _here(low: float, high: float, limits: tuple[float | None, float | None]) -> ClaimVerdict:
    least, most = limits
    if (least is None or low >= least) and (most is None or high <= most):
        return "holds"
    if (least is not None and high < least) or (most is not None and low > most):
        return "fails"
    return "undecided"


def confidences(claim: ClaimSpec, confidence: float) -> tuple[float, float]:
    """Return the one-sided confidences of the lower and the upper bound by which each of a claim's densities is judged.

    At all densities it is shown to hold at each of them (intersection-union: no correction), and to fail at one of
    them, with the error divided by their number (Bonferroni); at any of them the other way round. A claim with both
    limits needs both bounds for either, and has both corrected.
    """
    strict = round(1 - (1 - confidence) / len(claim.densities), 12)
    if claim.least is not None and claim.most is not None:
        return strict, strict
    to_hold, to_fail = (confidence, strict) if claim.where == "all" else (strict, confidence)
    return (to_hold, to_fail) if claim.least is not None else (to_fail, to_hold)


def verdict(claim: ClaimSpec, found: Sequence[Judgement]) -> ClaimVerdict:
    """Return the verdict on a claim as a whole, from those on each of its densities."""
    here = [each.here for each in found]
    one, other = _decisive(claim)
    if one in here:
        return one
    return other if set(here) == {other} else "undecided"


def seeds_needed(claim: ClaimSpec, found: Sequence[Judgement]) -> int | None:
    """Return the fewest seeds that would decide an undecided claim, if means and spreads stay.

    These are the seeds of the density that can decide alone, else the most of any density.

    Returns:
        The number; None where the claim is decided, or no number of seeds would decide it.
    """
    if verdict(claim, found) != "undecided":
        return None
    one, _ = _decisive(claim)
    alone = [each.seeds_needed for each in found if each.kept is (one == "holds") and each.seeds_needed is not None]
    if alone:
        return min(alone)
    wanted = [each.seeds_needed for each in found if each.here == "undecided"]
    known = [n for n in wanted if n is not None]
    return max(known) if known and len(known) == len(wanted) else None


def limits(claim: ClaimSpec) -> tuple[float | None, float | None]:
    """Return the least and the most that is claimed, on the scale that values are tested on."""
    if not claim.logarithmic:
        return claim.least, claim.most
    least, most = (None if limit is None else math.log(limit) for limit in (claim.least, claim.most))
    return least, most


def _decisive(claim: ClaimSpec) -> tuple[ClaimVerdict, ClaimVerdict]:
    """Return the verdict that one density is enough for, and the verdict that needs all of them."""
    return ("fails", "holds") if claim.where == "all" else ("holds", "fails")


def _seeds_needed(
    seen: Observed, limits: tuple[float | None, float | None], sure: tuple[float, float], power: float
) -> int | None:
    """Return the number for the bounds that would decide: those of a limit that is broken, else those of all limits."""
    if len(seen.values) < 2:
        return None
    estimate, spread = statistics.fmean(seen.values), statistics.stdev(seen.values)
    side = (1, -1)  # the estimate keeps a limit where it lies on this side of it
    gaps = [None if limit is None else sign * (estimate - limit) for limit, sign in zip(limits, side, strict=True)]
    broken = [index for index, gap in enumerate(gaps) if gap is not None and gap < 0]
    bounds = [1 - index for index in broken] or [index for index, gap in enumerate(gaps) if gap is not None]
    wanted = []
    for bound in bounds:
        gap = gaps[1 - bound] if broken else gaps[bound]
        assert gap is not None
        if seen.unbounded[bound]:
            return None
        wanted.append(paired.seeds_needed(spread, abs(gap), sure[bound], power, seen.floor))
    known = [n for n in wanted if n is not None]
    return max(known) if len(known) == len(wanted) else None


def _shares_needed(seen: Observed, limits: tuple[float | None, float | None], sure: tuple[float, float]) -> int | None:
    """Return the fewest seeds, a multiple of those there are, that decide with the same shares; None for too many."""

    def decides(times: int) -> bool:
        more = replace(seen, values=[*seen.values] * times)
        return _here(more.low(sure[0]), more.high(sure[1]), limits) != "undecided"

    low, high = 1, 2
    while not decides(high):
        low, high = high, 2 * high
        if high * len(seen.values) > MOST_COUNTED:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high * len(seen.values)
