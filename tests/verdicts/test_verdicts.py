"""Verdicts: how often they err where the truth is known, what they need, and what a reader is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.errors import DamagedFile, UsageError
from lottery.files.tensors import encode
from lottery.formats.render import render
from lottery.plan.jobs import Plan
from lottery.recipe.schema import CompareSpec
from lottery.results import resolution
from lottery.results.study import Study
from lottery.statistics import paired
from lottery.verdicts.decisions import DenseDifferences, MatchingDecision, decide
from lottery.verdicts.sentences import sentences
from lottery.verdicts.verdicts import crossing_interval
from tests.support.studies import Recorded, Sized, dense, hand, made, saying, ticket, view_of

Array = Any
EXPERIMENTS = 2000
ALPHA = 0.05
ALLOWED = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / EXPERIMENTS)


def normal(draws: np.random.Generator, n: int, levels: int) -> Array:
    """Differences correlated over levels, as those of one seed are."""
    return draws.normal(0, 0.003, (1, n)) + draws.normal(0, 0.003, (levels, n))


def heavy(draws: np.random.Generator, n: int, levels: int) -> Array:
    return 0.002 * (draws.standard_t(4, (1, n)) + draws.standard_t(4, (levels, n)))


def share(
    truths: Sequence[float],
    n: int,
    noise: Callable[[np.random.Generator, int, int], Array],
    wrong: Callable[[Sequence[MatchingDecision]], bool],
    **compare: Any,
) -> float:
    """Of the simulated experiments, the part whose decisions are wrong."""
    spec, draws = CompareSpec(margin=0.2, **compare), np.random.default_rng(11 * n)
    count = 0
    for _ in range(EXPERIMENTS):
        seen = np.array(truths)[:, None] + noise(draws, n, len(truths))
        count += wrong(decide([DenseDifferences(list(row)) for row in seen], spec, may_win=False))
    return count / EXPERIMENTS


@pytest.mark.parametrize("noise", [normal, heavy])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("correction", ["fixed_sequence", "holm", "fallback"])
def test_a_density_that_does_not_match_is_called_matching_no_more_often_than_stated(
    noise: Any, n: int, correction: str
) -> None:
    truths = (0.001, 0.0, -0.002, -0.002, -0.002)  # the last three exactly at the margin of 0.2 points

    def wrong(decisions: Sequence[MatchingDecision]) -> bool:
        return "matching" in [each.verdict for each in decisions[2:]]

    assert share(truths, n, noise, wrong, densities=correction) <= ALLOWED


@pytest.mark.parametrize("noise", [normal, heavy])
@pytest.mark.parametrize("correction", ["fixed_sequence", "holm", "fallback"])
def test_a_density_at_the_margin_is_called_losing_no_more_often_than_stated(noise: Any, correction: str) -> None:
    truths = (0.0, -0.002, -0.002, -0.008)

    def wrong(decisions: Sequence[MatchingDecision]) -> bool:
        return "losing" in [each.verdict for each in decisions[:3]]

    assert share(truths, 5, noise, wrong, densities=correction) <= ALLOWED


@pytest.mark.parametrize("noise", [normal, heavy])
def test_a_ticket_as_good_as_dense_is_called_better_no_more_often_than_stated(noise: Any) -> None:
    truths = (0.0, 0.0, 0.02, 0.0, 0.0)

    def wrong(decisions: Sequence[MatchingDecision]) -> bool:
        return any(each.better for place, each in enumerate(decisions) if not truths[place])

    assert 0.01 < share(truths, 6, noise, wrong) <= ALLOWED


@pytest.mark.parametrize("noise", [normal, heavy])
@pytest.mark.parametrize("at", [-0.002, 0.002])
def test_a_ticket_at_either_margin_is_called_equivalent_no_more_often_than_stated(noise: Any, at: float) -> None:
    def wrong(decisions: Sequence[MatchingDecision]) -> bool:
        return any(each.equivalent for each in decisions[1:])

    def quiet(draws: np.random.Generator, n: int, levels: int) -> Array:
        return noise(draws, n, levels) / 4  # else neither margin is ever shown

    assert share((0.0, at, at), 5, quiet, wrong) <= ALLOWED


def test_the_number_of_seeds_asked_for_has_the_power_that_was_planned() -> None:
    sd, true = 0.004, 0.001
    n = paired.seeds_needed(sd, true + 0.002)
    assert n is not None
    draws, spec = np.random.default_rng(1), CompareSpec(margin=0.2)
    found = [
        decide([DenseDifferences(list(draws.normal(true, sd, n)))], spec, may_win=False)[0] for _ in range(EXPERIMENTS)
    ]
    power = sum(each.verdict == "matching" for each in found) / EXPERIMENTS
    solver = pytest.importorskip("statsmodels.stats.power").TTestPower()
    assert power == pytest.approx(solver.power((true + 0.002) / sd, n, ALPHA, alternative="larger"), abs=0.03)
    assert power >= 0.8 - 0.03


def test_winning_errs_no_more_often_than_stated_where_tickets_are_no_earlier() -> None:
    draws, spec, wrong = np.random.default_rng(5), CompareSpec(margin=0.2), 0
    for _ in range(EXPERIMENTS):
        cells = []
        for _ in range(4):
            steps = np.exp(draws.normal(4.3, 0.5, (6, 2)))
            cut = steps >= 150
            early = [(t, d, a, b) for (t, d), (a, b) in zip(np.minimum(steps, 150), cut, strict=True)]
            cells.append(DenseDifferences(list(draws.normal(0.01, 0.002, 6)), 0, early))
        wrong += "winning" in [each.verdict for each in decide(cells, spec, may_win=True)]
    assert wrong / EXPERIMENTS <= ALLOWED


def test_matching_is_the_t_test_against_the_margin() -> None:
    values = [0.001, -0.0015, 0.002, -0.0005, 0.0]
    (found,) = decide([DenseDifferences(values)], CompareSpec(margin=0.2), may_win=False)
    assert found.p_matching == pytest.approx(oracle.ttest_1samp(values, -0.002, alternative="greater").pvalue)
    assert found.p_losing == pytest.approx(oracle.ttest_1samp(values, -0.002, alternative="less").pvalue)
    assert found.verdict == "matching"


def test_better_and_equivalent_are_the_t_tests_at_zero_and_at_both_margins() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    values = [0.001, -0.0003, 0.0012, 0.0005, 0.0009]
    (found,) = decide([DenseDifferences(values)], CompareSpec(margin=0.2), may_win=False)
    assert found.p_better == pytest.approx(oracle.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert found.p_equivalent == pytest.approx(weightstats.DescrStatsW(values).ttost_mean(-0.002, 0.002)[0])
    assert (found.verdict, found.better, found.equivalent) == ("matching", True, True)


def test_better_is_corrected_by_holm_and_equivalent_as_matching_is() -> None:
    cells = [DenseDifferences(list(np.random.default_rng(seed).normal(0.001, 0.001, 6))) for seed in range(4)]
    found = decide(cells, CompareSpec(margin=0.2, densities="fallback"), may_win=False)
    better, equivalent = (
        paired.holm([e.p_better for e in found]),
        paired.fallback([e.p_equivalent for e in found]),
    )
    matched = paired.fallback([e.p_matching for e in found])
    assert [e.p_better_adjusted for e in found] == [max(pair) for pair in zip(better, matched, strict=True)]
    assert [e.p_equivalent_adjusted for e in found] == equivalent
    assert [e.p_matching_adjusted for e in found] == matched


def test_better_is_said_of_densities_that_match_alone() -> None:
    unclear, gain = DenseDifferences([0.01, -0.02, 0.003]), DenseDifferences([0.05, 0.051, 0.049])
    fixed = decide([unclear, gain], CompareSpec(margin=0.2), may_win=False)
    assert [(each.verdict, each.better) for each in fixed] == [("inconclusive", False)] * 2
    holm = decide([unclear, gain], CompareSpec(margin=0.2, densities="holm"), may_win=False)
    assert [(each.verdict, each.better) for each in holm] == [("inconclusive", False), ("matching", True)]


def test_fallback_goes_on_where_the_sequence_ends_and_losing_is_looked_for_from_the_sparse_end() -> None:
    good, unclear, bad = [0.0, 0.0001, -0.0001], [0.01, -0.02, 0.003], [-0.05, -0.051, -0.049]
    spec = CompareSpec(margin=0.2, densities="fallback")
    found = decide([DenseDifferences(each) for each in (good, unclear, good, bad)], spec, may_win=False)
    assert [each.verdict for each in found] == ["matching", "inconclusive", "matching", "losing"]
    p = [each.p_losing for each in found]
    assert [each.p_losing_adjusted for each in found] == paired.fallback(p[::-1])[::-1]


def test_a_sequence_stops_at_the_first_density_that_is_not_shown() -> None:
    good, unclear, bad = [0.0, 0.0001, -0.0001], [0.01, -0.02, 0.003], [-0.05, -0.051, -0.049]
    fixed = decide(
        [DenseDifferences(each) for each in (good, unclear, good, bad)], CompareSpec(margin=0.2), may_win=False
    )
    assert [each.verdict for each in fixed] == ["matching", "inconclusive", "inconclusive", "losing"]
    holm = decide(
        [DenseDifferences(each) for each in (good, unclear, good, bad)],
        CompareSpec(margin=0.2, densities="holm"),
        may_win=False,
    )
    assert [each.verdict for each in holm] == ["matching", "inconclusive", "matching", "losing"]


@pytest.mark.parametrize(("n", "verdict"), [(1, "inconclusive"), (4, "inconclusive"), (5, "matching")])
def test_equal_values_are_judged_by_their_number_alone(n: int, verdict: str) -> None:
    (found,) = decide([DenseDifferences([0.0] * n)], CompareSpec(margin=0.2), may_win=False)
    assert found.verdict == verdict  # 2^-5 is the first below 5 %


def test_equal_values_exactly_at_the_margin_show_nothing() -> None:
    (found,) = decide([DenseDifferences([0.5 - 0.502] * 8)], CompareSpec(margin=0.2), may_win=False)
    assert (found.verdict, found.p_matching, found.p_losing) == ("inconclusive", 1.0, 1.0)


def test_seeds_that_differ_by_less_than_an_example_are_judged_with_the_floor_of_the_spread() -> None:
    def p(margin: float, floor: float) -> float:
        return decide([DenseDifferences([0.0] * 5)], CompareSpec(margin=margin), may_win=False, floor=floor)[
            0
        ].p_matching

    least = resolution.floor(1000)
    assert least == math.sqrt(0.5) / 1000
    assert p(0.02, least) == pytest.approx(oracle.t.sf(0.2 * math.sqrt(5) / math.sqrt(0.5), 4))  # 0.2 examples away
    assert p(0.2, least) == p(0.02, 0.0) == 1 / 32  # two examples away: the sign test is the less sure one


def test_a_diverged_ticket_allows_no_claim() -> None:
    values = [0.0, 0.0001, -0.0001, 0.0002]
    (found,) = decide([DenseDifferences(values, diverged=1)], CompareSpec(margin=0.2), may_win=False)
    assert (found.verdict, found.better, found.equivalent) == ("inconclusive", False, False)


def study(*points: Sequence[float], **what: Any) -> tuple[Plan, dict[str, Any]]:
    """As many seeds as points; at each level the tickets differ from dense by so many points."""
    planned = hand(f"seeds={len(points[0])}", f"prune.levels={len(points)}", "compare={margin: 1}")
    found = made(planned, *(dense(seed, 0.5, step=80) for seed in range(len(points[0]))))
    for level, column in enumerate(points, start=1):
        for seed, point in enumerate(column):
            place, values = ticket(seed, 0.5 + point / 100, **what)
            found |= made(planned, ({**place, "level": level}, values))
    return planned, found


def test_rows_hold_the_figures_behind_the_verdict() -> None:
    points = (0.1, -0.2, 0.3, 0.0, 0.1)
    (row,) = view_of("verdicts", *study(points, step=40))
    values = [point / 100 for point in points]
    interval = oracle.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (row["verdict"], row["n"], row["density"], row["level"]) == ("winning", 5, 0.5, 1)
    assert row["difference"] == pytest.approx(np.mean(values))
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["steps_ratio"] == pytest.approx(0.5) and row["seeds_needed"] is None and row["p_earlier"] == 1 / 32
    assert (row["also"], row["better_by"], row["bca_low"]) == ("equivalent", None, None)
    reason = "shown to be less than 1 point below dense, and to reach its early-stop step no later"
    assert row["reason"] == f"{reason}; shown to be less than 1 point above it too"


def test_a_ticket_that_stops_later_matches_and_does_not_win() -> None:
    (row,) = view_of("verdicts", *study((0.1, -0.2, 0.3, 0.0), step=90))
    assert (
        row["verdict"] == "matching" and "below dense; not shown to reach its early-stop step no later" in row["reason"]
    )


def test_a_reader_is_told_by_how_much_at_least_a_ticket_is_better() -> None:
    points = (0.2, 0.1, -0.1, 0.0, 0.1), (2.1, 1.8, 2.3, 2.0, 1.9)
    planned, found = study(*points, step=90)
    first, second = view_of("verdicts", planned, found)
    values = [point / 100 for point in points[1]]
    at_least = oracle.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.975).low  # of two densities
    assert (first["also"], second["also"]) == ("equivalent", "better")
    assert second["better_by"] == pytest.approx(at_least) and first["better_by"] is None
    assert second["reason"].endswith(f"; shown to be better than dense, by {100 * at_least:.2g} points at least")
    (line,) = sentences(Study(planned, found, Recorded(planned)))
    better, equivalent = "they are better than it", "they are equivalent to it (neither worse nor better by the margin)"
    assert f"; {better} at 25 %; {equivalent} at 50 %" in line


def test_where_only_the_correction_failed_the_density_that_ended_the_sequence_is_named_and_no_seeds() -> None:
    unclear = (2.0, -3.0, 1.5, -2.0)
    *_, row = view_of("verdicts", *study((0.1, -0.2, 0.1, 0.0), unclear, (0.1, -0.2, 0.3, 0.0)))
    assert (row["verdict"], row["seeds_needed"]) == ("inconclusive", None) and row["p_matching"] < 0.05
    assert row["reason"].endswith("the correction over densities: the sequence from dense to sparse ended at 25 %")
    row, *_ = view_of("verdicts", *study((-4.0, -4.2, -3.8, -4.1), (-4.0, -4.2, -3.8, -4.1), unclear))
    assert (row["verdict"], row["seeds_needed"]) == ("inconclusive", None) and row["p_losing"] < 0.05
    assert row["reason"].endswith("the correction over densities: the sequence from sparse to dense ended at 12.5 %")


def test_the_floor_of_the_spread_comes_from_the_test_examples_that_a_training_tells_of() -> None:
    planned, found = study((0.0, 0.0, 0.0, 0.0, 0.0))
    (bare,) = view_of("verdicts", planned, found)
    (row,) = view_of("verdicts", planned, saying(found), Sized(planned, 1000))
    assert (row["low"], row["high"]) == (None, None)  # a two-sided 95 % interval takes six equal values
    assert (bare["bound"], bare["p_better"]) == (0.0, 1.0)
    assert row["bound"] == pytest.approx(-oracle.t.ppf(0.95, 4) * math.sqrt(0.5) / 1000 / math.sqrt(5))


def test_a_file_that_does_not_say_how_many_test_examples_there_are_is_damaged() -> None:
    planned, found = study((0.0, 0.0))
    record = next(iter(found.values()))
    for data in (b"", encode({}, {"examples": "none"}), encode({}), encode({}, {"examples": "0"})):
        store: Any = Recorded(planned)
        store.read = lambda key, name, data=data: data
        with pytest.raises(DamagedFile, match="test examples"):
            resolution.floor_of(saying({"": record}).values(), store)
    assert resolution.floor_of([record], Recorded(planned)) == 0.0


def test_an_open_question_names_the_seeds_it_calls_for() -> None:
    points = (2.0, -3.0, 1.5, -2.0)
    (row,) = view_of("verdicts", *study(points))
    distance = np.mean(points) / 100 + 0.01
    needed = paired.seeds_needed(float(np.std(points, ddof=1)) / 100, float(distance))
    assert row["verdict"] == "inconclusive" and row["seeds_needed"] == needed
    assert row["reason"].endswith(f"the spread seen calls for {needed} seeds")


def test_one_seed_is_no_evidence() -> None:
    (row,) = view_of("verdicts", *study((3.0,)))
    assert row["verdict"] == "inconclusive" and row["low"] is None and "at least 2" in row["reason"]


def test_without_a_margin_there_are_no_verdicts() -> None:
    with pytest.raises(UsageError, match="hand: declares no margin; add `compare"):
        view_of("verdicts", hand(), {})


def test_the_sparsest_matching_density_has_an_interval_and_a_sentence() -> None:
    planned, found = study((0.1, -0.2, 0.3, 0.0), (-0.1, 0.2, 0.1, -0.1), (-4.0, -4.2, -3.8, -4.1), step=90)
    (row,) = view_of("sparsest", planned, found)
    assert row["density"] == 0.25 and row["n"] == 4
    # the line falls from 0.025 above 0 at 25 % to 4.025 below at 12.5 %: it passes -1 at a share of 1.025 / 4.05
    assert row["crossing"] == pytest.approx(0.25 * 0.5 ** (1.025 / 4.05))
    assert row["low"] < row["crossing"] < row["high"]
    (line,) = sentences(Study(planned, found, Recorded(planned)))
    assert line.startswith("adam: tickets down to 25 % of the weights match the dense network (within 1 point, ")
    assert "; they lose at 12.5 %;" in line
    assert line.endswith("at 50 %, 25 %, 12.5 % the verdict depends on the step at which accuracy is read.")


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "csv", "json"])
def test_where_no_density_matches_the_table_of_the_sparsest_has_an_empty_place(form: str) -> None:
    (row,) = view_of("sparsest", *study((-4.0, -4.2, -3.8, -4.1)))
    assert row["density"] is None
    told = render([row], form).decode()
    assert "adam" in told and "None" not in told and "nan" not in told


def test_a_curve_that_never_falls_below_the_margin_has_no_crossing() -> None:
    found = crossing_interval([[0.0, 0.001], [0.0, -0.001]], [0.5, 0.25], 0.01, 0.95)
    assert found["crossing"] is None and "no crossing down to 25 %" in str(found["how"])


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(5, 0.85), (10, 0.90)])
def test_the_interval_of_the_crossing_holds_the_true_one_about_as_often_as_stated(n: int, least: float) -> None:
    """Approximate with few seeds, as docs/statistics.md says; the plain percentile interval holds it less often."""
    at = [0.8**level for level in range(1, 7)]
    truths = np.array([0.0, -0.001, -0.002, -0.004, -0.008, -0.016])  # -0.005 is a quarter of the way from 4 to 5
    true, draws, held = at[3] * 0.8**0.25, np.random.default_rng(n), 0
    for _ in range(400):
        found = crossing_interval(truths[:, None] + normal(draws, n, 6), at, 0.005, 0.95)
        held += (found["low"] or 0) <= true <= (found["high"] or 0)
    assert held / 400 >= least
