"""Exact bounds of shares and of differences of shares, against enumeration and scipy."""

from __future__ import annotations

import math
from itertools import product

import pytest
from scipy import stats

from lottery.statistics.shares import lower_bound, upper_bound


@pytest.mark.parametrize(("ones", "n"), [(0, 5), (1, 5), (3, 8), (5, 5), (20, 20)])
def test_the_bounds_of_a_share_are_those_of_clopper_and_pearson(ones: int, n: int) -> None:
    values = [1.0] * ones + [0.0] * (n - ones)
    low = stats.binomtest(ones, n, alternative="greater").proportion_ci(0.95, "exact").low
    high = stats.binomtest(ones, n, alternative="less").proportion_ci(0.95, "exact").high
    assert lower_bound(values, 0.95, paired=False) == pytest.approx(low)
    assert upper_bound(values, 0.95, paired=False) == pytest.approx(high)


@pytest.mark.parametrize("n", [1, 3, 5, 6, 10])
def test_where_all_pairs_differ_one_way_the_bound_is_a_closed_form(n: int) -> None:
    expected = 2 * 0.05 ** (1 / n) - 1  # all n are ones with a chance of ((1 + difference) / 2)^n at most
    assert lower_bound([1.0] * n, 0.95, paired=True) == pytest.approx(expected, abs=1e-6)
    assert upper_bound([-1.0] * n, 0.95, paired=True) == pytest.approx(-expected, abs=1e-6)
    assert (expected > 0) == (0.5**n < 0.05)  # as the sign test


def chance(n: int, ones: float, minus: float, more: int) -> float:
    """That ones outnumber minus ones by so many, over all outcomes of n pairs."""
    shares = {1: ones, -1: minus, 0: 1 - ones - minus}
    outcomes = product(shares, repeat=n)
    return math.fsum(math.prod(shares[each] for each in outcome) for outcome in outcomes if sum(outcome) >= more)


@pytest.mark.parametrize("seen", [(1, 1, 1, 0), (1, 0, 0, 0), (1, 1, -1, 0), (0, 0, 0, -1)])
def test_just_below_the_bound_no_shares_make_what_is_seen_likely(seen: tuple[int, ...]) -> None:
    bound, n, more = lower_bound(seen, 0.95, paired=True), len(seen), sum(seen)
    steps = [step / 50 for step in range(51)]

    def most(difference: float) -> float:
        free = (1 - abs(difference)) / 2
        pairs = [(max(difference, 0) + free * step, max(-difference, 0) + free * step) for step in steps]
        return max(chance(n, ones, minus, more) for ones, minus in pairs)

    assert most(bound - 0.01) < 0.05 < most(bound + 0.01)


def test_other_values_than_yes_and_no_are_refused() -> None:
    for values in ([0.5, 1.0], [], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="shares are of values"):
            lower_bound(values, 0.95, paired=False)
