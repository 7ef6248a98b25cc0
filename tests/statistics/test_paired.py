"""The statistics against scipy, statsmodels and closed forms, and by simulation where there is neither."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.results.resolution import floor
from lottery.statistics import paired

DRAWS = np.random.default_rng(7)
SAMPLES = [list(DRAWS.normal(0.3, 1.0, n)) for n in (2, 3, 5, 8, 12)]


@pytest.mark.parametrize("values", SAMPLES, ids=len)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_bounds_and_interval_are_those_of_the_t_distribution(values: list[float], confidence: float) -> None:
    found = paired.t_interval(values, confidence)
    expected = oracle.ttest_1samp(values, 0).confidence_interval(confidence)
    assert (found.low, found.high, found.n) == (pytest.approx(expected.low), pytest.approx(expected.high), len(values))
    assert found.estimate == pytest.approx(np.mean(values))
    one_sided = oracle.ttest_1samp(values, 0, alternative="greater").confidence_interval(confidence)
    assert paired.lower_bound(values, confidence) == pytest.approx(one_sided.low)
    one_sided = oracle.ttest_1samp(values, 0, alternative="less").confidence_interval(confidence)
    assert paired.upper_bound(values, confidence) == pytest.approx(one_sided.high)


@pytest.mark.parametrize("values", SAMPLES, ids=len)
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_p_values_are_those_of_the_t_test(values: list[float], alternative: paired.Alternative) -> None:
    expected = oracle.ttest_1samp(values, 0.2, alternative=alternative).pvalue
    assert paired.t_pvalue(values, 0.2, alternative) == pytest.approx(expected)


@pytest.mark.parametrize("values", SAMPLES, ids=len)
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_flipping_signs_is_the_paired_permutation_test(values: list[float], alternative: paired.Alternative) -> None:
    expected = oracle.permutation_test(
        (np.array(values),), np.mean, permutation_type="samples", alternative=alternative, n_resamples=2**13
    ).pvalue
    assert paired.sign_flip(values, alternative) == pytest.approx(expected)


def test_flips_that_change_nothing_of_a_sum_of_counts_count_as_ties() -> None:
    """Accuracies are counts of 10,000 examples, whose differences are rounded; the counts themselves are exact."""
    draws = np.random.default_rng(0)
    for _ in range(200):
        ticket, dense = draws.integers(9000, 9020, (2, int(draws.integers(4, 9))))
        counts = (ticket - dense).tolist()
        signs = itertools.product((1, -1), repeat=len(counts))
        sums = [sum(sign * count for sign, count in zip(flip, counts, strict=True)) for flip in signs]
        expected = sum(each >= sum(counts) for each in sums) / len(sums)
        assert paired.sign_flip((ticket / 10_000 - dense / 10_000).tolist()) == expected


def test_many_pairs_are_flipped_by_chance_and_never_to_a_p_of_zero() -> None:
    values = list(DRAWS.normal(3.0, 1.0, 30))
    assert paired.sign_flip(values) == 1 / (paired.DRAWS + 1)
    centred = [1.0, -1.0] * 15
    assert paired.sign_flip(centred) == pytest.approx(0.57, abs=0.02)  # P(at least 15 of 30 heads) = 0.572


@pytest.mark.parametrize("values", [SAMPLES[3], [0.1, 0.1, 0.1, 0.2], list(DRAWS.normal(0.0, 1e-3, 130).round(4))])
def test_the_bootstrap_interval_is_that_of_scipy(values: list[float]) -> None:
    expected = oracle.bootstrap(
        (np.array(values),), np.mean, method="BCa", n_resamples=10_000, rng=np.random.default_rng(0)
    ).confidence_interval
    found = paired.bca_interval(values)
    assert (found.low, found.high) == (expected.low, expected.high)


def test_values_that_are_equal_but_for_rounding_are_their_own_bootstrap_interval() -> None:
    found = paired.bca_interval([0.07, 0.57 - 0.5] * 13)  # the second is 0.06999999999999995
    assert (found.low, found.estimate, found.high) == pytest.approx((0.07,) * 3, abs=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e103])
def test_values_that_cannot_be_reckoned_with_have_no_bootstrap_interval(value: float) -> None:
    found = paired.bca_interval([value, *SAMPLES[0]])
    assert math.isnan(found.low) and math.isnan(found.high)


def test_too_few_values_say_nothing_and_equal_ones_have_no_spread() -> None:
    assert paired.lower_bound([0.5]) == -math.inf and paired.upper_bound([]) == math.inf
    assert (paired.t_interval([0.5]).low, paired.bca_interval([0.5]).high) == (-math.inf, math.inf)
    assert paired.t_pvalue([0.5]) == paired.sign_flip([]) == 1.0
    assert paired.lower_bound([0.1] * 5) == pytest.approx(0.1) == paired.bca_interval([0.1] * 3).low
    assert paired.lower_bound([0.1] * 4) == -math.inf and paired.upper_bound([0.1] * 4) == math.inf  # 2^-4 is above 5 %
    assert (paired.t_pvalue([0.1] * 3), paired.t_pvalue([0.1] * 3, 0.1)) == (1 / 8, 1.0)
    assert (paired.t_pvalue([0.1] * 3, 0.2, "less"), paired.t_pvalue([0.1] * 3, 0.2, "two-sided")) == (
        1 / 8,
        1 / 4,
    )


@pytest.mark.parametrize("n", [5, 8])
def test_a_floor_takes_the_place_of_a_smaller_spread(n: int) -> None:
    close, floor = [0.1] * (n - 1) + [0.1001], 0.003
    for values in (close, [0.1] * n):
        mean, error = np.mean(values), floor / math.sqrt(n)
        assert paired.lower_bound(values, 0.95, floor) == pytest.approx(mean - oracle.t.ppf(0.95, n - 1) * error)
        assert paired.upper_bound(values, 0.95, floor) == pytest.approx(mean + oracle.t.ppf(0.95, n - 1) * error)
        assert paired.t_interval(values, 0.9, floor).low == paired.lower_bound(values, 0.95, floor)
        p = oracle.t.sf((mean - 0.098) / error, n - 1)
        assert paired.t_pvalue(values, 0.098, "greater", floor) == pytest.approx(p)
    assert paired.t_pvalue([0.1] * n, 0.0, "greater", floor) == 0.5**n  # so far away that the sign test is less sure
    assert paired.t_pvalue([0.0, 0.1, 0.3], 0.0, "greater", floor) == paired.t_pvalue([0.0, 0.1, 0.3])


def test_a_bound_is_where_the_test_begins_to_reject() -> None:
    for values in (*SAMPLES, [0.1] * 6, [0.1] * 5 + [0.1002]):
        bound = paired.lower_bound(values, 0.95, 0.004)
        assert paired.t_pvalue(values, bound, "greater", 0.004) == pytest.approx(0.05)


@pytest.mark.parametrize("n", range(3, 13))
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_where_seeds_differ_by_an_example_at_most_the_floor_keeps_the_level_and_the_bare_test_does_not(
    n: int, alpha: float
) -> None:
    """Each difference is one of two neighbouring counts of 1000 examples; exact, over the number of seeds below."""
    example = 1 / 1000

    def errs(share: float, floor: float) -> float:
        below = np.arange(n + 1)
        chances = oracle.binom.pmf(below, n, share)
        samples = [[-example] * count + [0.0] * (n - count) for count in below]
        return float(chances @ [paired.t_pvalue(each, -share * example, "greater", floor) <= alpha for each in samples])

    shares = np.arange(0.01, 1, 0.01)
    assert max(errs(share, floor(1000)) for share in shares) <= alpha
    if 0.5**n <= alpha:
        assert max(errs(share, 0.0) for share in shares) > 0.85
    if (n, alpha) == (5, 0.05):
        assert errs(0.16, 0.0) == pytest.approx(0.84**5) and errs(0.32, 0.0) == pytest.approx(0.68**5)  # 42 %, 15 %


def test_the_bootstrap_interval_is_shown_from_ten_values_on() -> None:
    few, many = list(DRAWS.normal(size=9)), list(DRAWS.normal(size=10))
    assert (paired.summary(few, 0.95)["bca_low"], paired.summary(few, 0.95)["bca_high"]) == (None, None)
    assert paired.summary(many, 0.95)["bca_low"] == paired.bca_interval(many).low


def test_corrections_are_those_of_statsmodels_and_the_running_maximum() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for size in (1, 2, 5, 20):
        values = list(DRAWS.uniform(0, 0.2, size))
        assert paired.holm(values) == pytest.approx(multitest.multipletests(values, method="holm")[1])
    assert paired.fixed_sequence([0.01, 0.04, 0.02, 0.2, 0.001]) == [0.01, 0.04, 0.04, 0.2, 0.2]
    assert paired.holm([]) == paired.fixed_sequence([]) == []


@pytest.mark.parametrize("weights", [None, [0.7, 0.1, 0.1, 0.1], [0.25] * 4, [0.0, 0.5, 0.0, 0.5]])
def test_the_fallback_procedure_is_the_closed_test_of_its_weights(weights: list[float] | None) -> None:
    """A set of hypotheses is rejected at what its members have: their own shares, and each share of one that is not in
    the set by the next that is, the first one after the last (Wiens & Dmitrienko 2005)."""
    own = weights or [8 / 15, 4 / 15, 2 / 15, 1 / 15]

    def rejected_at(members: tuple[int, ...], p: list[float]) -> float:
        shares = dict.fromkeys(members, 0.0)
        for place in range(4):
            shares[next((m for m in members if m >= place), members[0])] += own[place]
        return min(min(1.0, p[m] / shares[m]) if shares[m] else 1.0 for m in members)

    sets = [each for size in range(1, 5) for each in itertools.combinations(range(4), size)]
    for _ in range(50):
        p = list(DRAWS.beta(0.3, 3, 4))
        expected = [max(rejected_at(each, p) for each in sets if place in each) for place in range(4)]
        assert paired.fallback(p, weights) == pytest.approx(expected)


def test_the_fallback_procedure_with_all_weight_on_the_first_is_the_fixed_sequence() -> None:
    assert paired.fallback([0.01, 0.04, 0.02, 0.2, 0.001], [1, 0, 0, 0, 0]) == [0.01, 0.04, 0.04, 0.2, 0.2]
    assert paired.fallback([]) == []


def test_what_is_not_shown_keeps_its_share_from_the_next_in_the_fallback_procedure() -> None:
    p = [0.03, 0.012, 0.03]  # shares 4/7, 2/7, 1/7: 0.03 is above 0.0286, 0.012 below 0.0143, 0.03 above 0.0214
    assert [each <= 0.05 for each in paired.fallback(p)] == [False, True, False]
    assert paired.fallback(p) == pytest.approx([0.0525, 0.042, 0.0525])  # 0.03 / (4/7); 0.012 / (2/7); then the first's


@pytest.mark.parametrize(("sd", "distance"), [(1.0, 0.3), (1.0, 0.5), (0.2, 0.3), (0.5, 2.0)])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_seeds_needed_are_the_fewest_with_the_power(sd: float, distance: float, power: float) -> None:
    solver = pytest.importorskip("statsmodels.stats.power").TTestPower()
    n = paired.seeds_needed(sd, distance, power=power)
    assert n is not None

    def reached(count: int) -> float:
        return float(solver.power(distance / sd, count, 0.05, alternative="larger"))

    assert reached(n) >= power and (n == 2 or reached(n - 1) < power)


def test_no_number_of_seeds_shows_what_is_not_so() -> None:
    assert paired.seeds_needed(1.0, 0.0) is None and paired.seeds_needed(1.0, -1.0) is None
    assert paired.seeds_needed(1.0, 1e-6) is None


@pytest.mark.parametrize(("confidence", "fewest"), [(0.9, 4), (0.95, 5), (0.96875, 5), (0.97, 6), (0.99, 7)])
def test_without_spread_as_many_seeds_are_needed_as_the_sign_test_takes(confidence: float, fewest: int) -> None:
    assert paired.seeds_needed(0.0, 0.1, confidence) == paired.fewest_equal(confidence) == fewest
    assert 0.5**fewest <= 1 - confidence + 1e-12 < 0.5 ** (fewest - 1)


def test_seeds_needed_reckon_with_the_floor_of_the_spread() -> None:
    assert paired.seeds_needed(0.01, 0.5, floor=1.0) == paired.seeds_needed(1.0, 0.5)
    assert paired.seeds_needed(0.0, 0.5, floor=1.0) == paired.seeds_needed(1.0, 0.5)
    assert paired.seeds_needed(0.0, 50.0, floor=1.0) == 5


def test_steps_without_censoring_are_compared_by_a_t_test_on_their_log_ratio() -> None:
    ticket, dense, never = [50, 60, 80, 40], [100, 90, 70, 60], [False] * 4
    ratios = np.log(np.array(ticket) / np.array(dense))
    expected = oracle.ttest_1samp(ratios, 0, alternative="less").pvalue
    assert paired.earlier(ticket, dense, never, never) == pytest.approx(expected)
    expected = oracle.ttest_1samp(ratios, math.log(1.2), alternative="less").pvalue
    assert paired.earlier(ticket, dense, never, never, later=0.2) == pytest.approx(expected)


@pytest.mark.parametrize(("ticket", "dense"), [([30, 60, 20], [50, 100, 100 / 3]), ([40] * 3, [80] * 3)])
def test_equal_ratios_of_steps_are_judged_by_their_number(ticket: list[float], dense: list[float]) -> None:
    assert paired.earlier(ticket, dense, [False] * 3, [False] * 3) == 1 / 2**3
    assert paired.earlier(dense, ticket, [False] * 3, [False] * 3) == 1.0
    assert paired.earlier(ticket, ticket, [False] * 3, [False] * 3) == 1.0
    ratio = dense[0] / ticket[0]
    assert paired.earlier(dense, ticket, [False] * 3, [False] * 3, later=ratio - 1) == 1.0  # exactly so late: not shown


def test_a_censored_dense_network_is_later_and_a_censored_ticket_is_not() -> None:
    all_earlier = ([50, 60, 70, 50, 60], [100] * 5, [False] * 5, [True, False, True, False, False])
    assert paired.earlier(*all_earlier) == 1 / 2**5  # the only one of 32 swaps that is as good
    both = ([50, 100, 100, 50, 60], [100] * 5, [False, True, True, False, False], [True] * 5)
    assert paired.earlier(*both) == 4 / 2**5  # two pairs say nothing
    mixed = ([50, 100], [100, 99], [False, True], [False, False])
    # sums of the four swaps: 0 as seen, log 2 + log 100/99, -2 log 2, -log 2 + log 100/99
    assert paired.earlier(*mixed) == 2 / 2**2


@pytest.mark.parametrize("n", [4, 6])
def test_the_test_of_censored_steps_holds_its_level(n: int) -> None:
    """Ticket and dense network exchangeable within a seed, training cut off at 100 steps."""
    draws, p_values = np.random.default_rng(n), []
    for _ in range(2000):
        common = draws.normal(0, 0.5, n)
        steps = np.exp(4.3 + common[:, None] + draws.normal(0, 0.6, (n, 2)))
        cut = steps >= 100
        steps = np.minimum(steps, 100)
        p_values.append(paired.earlier(*steps.T.tolist(), *cut.T.tolist()))
    for alpha in (0.0625, 0.125, 0.25):
        allowed = alpha + 3 * math.sqrt(alpha * (1 - alpha) / 2000)
        assert np.mean(np.array(p_values) <= alpha) <= allowed


def test_every_swap_is_tried_once() -> None:
    flips = paired.flips(4, 0)
    assert {tuple(row) for row in flips} == set(itertools.product([1.0, -1.0], repeat=4)) and len(flips) == 16
