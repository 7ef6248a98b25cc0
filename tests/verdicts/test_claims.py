"""Claims on what wins: their tests against scipy and statsmodels, how often they err, what a reader is told."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.analysis.rows import Row
from lottery.analysis.views import rows_of
from lottery.errors import RecipeError, UsageError
from lottery.formats.pages import columns
from lottery.formats.render import render
from lottery.recipe.readings import CHOSEN
from lottery.recipe.schema import CompareSpec
from lottery.results.study import Study
from lottery.verdicts.superiority import Pairs, decide, explain_tests, least_seeds, seeds_needed
from tests.support.studies import HERE, Recorded, Sized, dense, hand, made, saying, view_of

Array = Any
Noise = Callable[[np.random.Generator, int, int], Array]
EXPERIMENTS = 2000
ALPHA = 0.05
STEP_DOWN, HOLM = CompareSpec(margin=0.2), CompareSpec(margin=0.2, controls="holm")
FIXED = CompareSpec(margin=0.2, controls="fixed_sequence")
LOOSE = CompareSpec(margin=0.2, controls="holm", confidence=0.8)  # with which Holm can reject one of 5 by 5 seeds
UNCLEAR = [0.1, -0.2, 0.1, -0.1, 0.2]
CLEAR = [1.0, 1.2, 0.9, 1.1, 1.3]  # points; 5 seeds of one sign are p = 1/32


def claims(controls: Mapping[str, Sequence[Sequence[float]]], *overrides: str, view: str = "claims") -> list[Row]:
    """The rows of a study in which tickets have 0.5 and controls so many points less: at each level, for each seed."""
    seeds, levels = len(next(iter(controls.values()))[0]), max(map(len, controls.values()))
    settings = [f"seeds={seeds}", f"prune.levels={levels}", "compare={margin: 1}", f"branches=[{', '.join(controls)}]"]
    planned = hand(*settings, *overrides)
    found = made(planned, *(dense(seed, 0.5) for seed in range(seeds)), ({"kind": "ticket"}, {}))
    for name, points in controls.items():
        for level, column in enumerate(points, start=1):
            for seed, point in enumerate(column):
                found |= made(planned, ({"kind": name, "level": level, "seed": seed}, {"accuracy": 0.5 - point / 100}))
    return view_of(view, planned, found)


def pairs(values: Any) -> Pairs:
    return Pairs(dict(enumerate(values)))


def test_an_interval_of_seeds_that_agree_to_an_example_is_as_wide_as_the_floor_of_the_spread() -> None:
    planned = hand("seeds=6", "branches=[reinit]", "compare={margin: 1}")
    found = made(planned, *(dense(seed, 0.5) for seed in range(6)), ({"kind": "ticket"}, {}))
    found |= made(planned, ({"kind": "reinit"}, {"accuracy": 0.49}))
    (row,) = view_of("claims", planned, saying(found), Sized(planned, 1000))
    half = oracle.t.ppf(0.975, 5) * 0.5**0.5 / 1000 / 6**0.5
    assert (row["low"], row["high"]) == (pytest.approx(0.01 - half), pytest.approx(0.01 + half))


def lost(column: str, what: Mapping[str, Any], *overrides: str) -> Row:
    """The row of six seeds in which reinit is 1 to 1.5 points worse, where the last of `column` came out as `what`."""
    planned = hand("seeds=6", "branches=[reinit]", "compare={margin: 1}", *overrides)
    found = made(planned, ({"kind": "dense"}, {}), ({"kind": "ticket"}, {}))
    for seed in range(6):
        found |= made(planned, ({"kind": "reinit", "seed": seed}, {"accuracy": 0.49 - seed / 1000}))
    (row,) = view_of("claims", planned, found | made(planned, ({"kind": column, "seed": 5}, dict(what))))
    return row


def test_p_and_interval_are_those_of_scipys_paired_tests() -> None:
    points = [1.0, -0.4, 2.1, 0.7, 0.2, -0.1]
    (row,) = claims({"reinit": [points]})
    tickets, controls = np.full(6, 0.5), 0.5 - np.array(points) / 100
    interval = oracle.ttest_rel(tickets, controls).confidence_interval(0.95)
    for name, alternative in (("p", "greater"), ("p_inferior", "less")):
        expected = oracle.permutation_test(
            (tickets, controls),
            lambda ours, theirs, axis: np.mean(ours - theirs, axis=axis),
            permutation_type="samples",
            alternative=alternative,
        )
        assert row[name] == pytest.approx(expected.pvalue)
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert row["difference"] == pytest.approx(np.mean(points) / 100) and row["n"] == 6
    assert (row["claim"], row["against"], row["verdict"]) == ("initialization", "reinit", "inconclusive")


def test_densities_are_corrected_as_by_statsmodels_or_in_a_sequence() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    draws = np.random.default_rng(3)
    points = [list(draws.normal(mean, 1.0, 8)) for mean in (1.2, 0.3, 1.5, -0.5)]
    holm = claims({"shuffle": points}, "compare.controls=holm")
    for name in ("p", "p_inferior"):
        expected = multitest.multipletests([row[name] for row in holm], method="holm")[1]
        assert [row[f"{name}_adjusted"] for row in holm] == pytest.approx(list(expected))
    assert {row["correction"] for row in holm} == {"holm"}
    for order, way in (("dense_to_sparse", 1), ("sparse_to_dense", -1)):
        fixed = claims({"shuffle": points}, f"compare={{margin: 1, controls: fixed_sequence, order: {order}}}")
        running = np.maximum.accumulate([row["p"] for row in fixed][::way])[::way]
        assert [row["p_adjusted"] for row in fixed] == pytest.approx(list(running))
        assert {row["correction"] for row in fixed} == {f"fixed_sequence, {order}"}


def test_each_control_stands_for_its_claim_and_is_corrected_by_itself() -> None:
    names = ["small_dense", "one_shot", "constant", "same_sign", "reinit", "shuffle"]
    # with scores that are drawn, one_shot of level 1 is another network than the ticket
    table = claims({name: [CLEAR] for name in names}, "compare.controls=holm", "prune.criterion=random")
    assert [(row["claim"], row["against"]) for row in table] == [
        ("mask", "shuffle"),
        ("initialization", "reinit"),
        ("signs", "same_sign"),
        ("magnitudes", "constant"),
        ("iteration", "one_shot"),
        ("capacity", "small_dense"),
    ]
    assert {(row["verdict"], row["p_adjusted"]) for row in table} == {("superior", 1 / 32)}


@pytest.mark.parametrize("order", ["dense_to_sparse", "sparse_to_dense"])
def test_a_sequence_that_ended_says_where(order: str) -> None:
    table = claims(
        {"reinit": [CLEAR, UNCLEAR, CLEAR]}, f"compare={{margin: 1, controls: fixed_sequence, order: {order}}}"
    )
    first, second, third = table if order == "dense_to_sparse" else table[::-1]
    assert (first["verdict"], second["verdict"], third["verdict"]) == ("superior", "inconclusive", "inconclusive")
    assert third["p"] == 1 / 32 and third["p_adjusted"] == second["p"]
    assert third["reason"] == (
        "the ticket is shown to be better by itself, but not after the correction over densities: "
        f"the sequence from {order.replace('_', ' ')} ended at 25 %"
    )
    assert third["seeds_needed"] is None and second["seeds_needed"] > 5  # more seeds for the one, not for the other


def test_without_an_order_each_density_is_shown_by_itself() -> None:
    table = claims({"reinit": [UNCLEAR, CLEAR, CLEAR]})
    assert [row["verdict"] for row in table] == ["inconclusive", "superior", "superior"]
    assert {row["correction"] for row in table} == {"step_down"}
    assert [row["p_adjusted"] for row in table[1:]] == [1 / 32, 1 / 32]


@pytest.mark.parametrize("controls", ["", ", controls: holm"])
def test_an_order_of_a_test_without_one_is_refused(controls: str) -> None:
    with pytest.raises(RecipeError) as caught:
        hand(f"compare={{margin: 1, order: sparse_to_dense{controls}}}")
    named = controls.rpartition(" ")[2] or "step_down"
    assert f"compare.order: is that of a fixed sequence of controls, and controls is {named}, which has none" in str(
        caught.value
    )


def test_matching_and_controls_are_corrected_by_keys_of_their_own() -> None:
    table = claims({"reinit": [UNCLEAR, CLEAR]}, "compare={margin: 1, densities: holm}")
    assert [row["correction"] for row in table] == ["step_down"] * 2
    compare = hand("compare={margin: 1}").recipe.compare
    assert compare is not None
    assert (compare.densities, compare.controls, compare.order) == ("fixed_sequence", "step_down", None)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("", "by the step-down maximum of t over all densities, flipping the signs of whole seeds, one-sided 95 % for"),
        (", controls: holm", "by sign flips at each density, with Holm's correction, one-sided 95 %"),
        (", controls: fixed_sequence, order: sparse_to_dense", "in a fixed sequence from sparse to dense, one-sided"),
    ],
)
def test_a_report_says_how_controls_are_tested(settings: str, told: str) -> None:
    compare = hand(f"compare={{margin: 1{settings}}}").recipe.compare
    assert compare is not None and told in explain_tests(compare)


def test_a_worse_ticket_is_said_to_be_worse() -> None:
    (row,) = claims({"reinit": [[-point for point in CLEAR]]})
    assert row["verdict"] == "inferior" and row["p_inferior"] == 1 / 32 and row["p"] == 1.0


def test_samples_of_a_control_are_one_value_a_seed() -> None:
    planned = hand("seeds=5", "compare={margin: 1}", "branches=[{name: reinit, samples: 2}]")
    found = made(planned, ({"kind": "dense"}, {}), ({"kind": "ticket"}, {}))
    for seed, point in enumerate(CLEAR):
        for sample, apart in enumerate((0.3, -0.3)):
            place = {"kind": "reinit", "seed": seed, "sample": sample}
            found |= made(planned, (place, {"accuracy": 0.5 - (point + apart) / 100}))
    (row,) = view_of("claims", planned, found)
    assert row["n"] == 5 and row["difference"] == pytest.approx(statistics.fmean(CLEAR) / 100)
    assert row["high"] - row["low"] == pytest.approx(2 * 2.776445 * statistics.stdev(CLEAR) / 100 / math.sqrt(5))


def test_a_seed_without_a_partner_withholds_the_claim_until_the_recipe_names_it() -> None:
    row = lost("reinit", {"diverged": 20})
    assert row["verdict"] == "withheld" and row["n"] == 5 and "seed 5: diverged at step 20" in row["reason"]
    row = lost("reinit", {"diverged": 20}, "compare.allow=[seeds]")
    assert (row["verdict"], row["n"], row["p"], row["p_inferior"]) == ("superior", 5, 1 / 32, 1.0)


def test_a_ticket_that_diverged_beside_a_control_that_did_not_is_not_shown_to_be_better() -> None:
    row = lost("ticket", {"diverged": 20}, "compare.allow=[seeds]")
    assert (row["verdict"], row["n"], row["p"]) == ("inconclusive", 5, 1.0)
    assert "1 ticket diverged whose controls did not" in row["reason"]


def test_a_control_that_diverged_beside_its_ticket_is_not_shown_to_be_better() -> None:
    planned = hand("seeds=6", "branches=[reinit, shuffle]", "compare={margin: 1, allow: [seeds]}")
    found = made(planned, ({}, {}), ({"kind": "reinit"}, {"accuracy": 0.6}), ({"kind": "shuffle"}, {"accuracy": 0.6}))
    found |= made(planned, ({"kind": "reinit", "seed": 0}, {"diverged": 10}))
    shuffle, reinit = view_of("claims", planned, found)
    assert (shuffle["verdict"], shuffle["p_inferior"]) == ("inferior", 1 / 64)
    assert (reinit["verdict"], reinit["p_inferior"], reinit["n"]) == ("inconclusive", 1.0, 5)
    (row,) = view_of("decomposition", planned, found)
    assert row["n"] == 5  # the fewest


def test_an_unfair_difference_of_either_side_withholds_the_claim() -> None:
    for column in ("ticket", "reinit", "dense"):
        row = lost(column, {"environment": {**HERE, "torch": "9"}, "accuracy": 0.485})
        assert row["verdict"] == "withheld" and "torch" in row["reason"] and row["seeds_needed"] is None


def test_a_density_whose_controls_all_diverged_is_a_test_of_its_family() -> None:
    planned = hand("seeds=5", "prune.levels=3", "compare={margin: 1, allow: [seeds]}", "branches=[shuffle]")
    found = made(planned, ({"kind": "dense"}, {}), ({"kind": "ticket"}, {}), ({"kind": "shuffle"}, {"accuracy": 0.4}))
    found |= made(planned, ({"kind": "shuffle", "level": 2}, {"diverged": 10}))
    first, second, third = view_of("claims", planned, found)
    assert (second["n"], second["difference"], second["p"], second["verdict"]) == (0, None, 1.0, "inconclusive")
    assert second["reason"] == "no seed has both ticket and control; 5 controls diverged whose tickets did not"
    assert (first["verdict"], third["verdict"]) == ("superior", "superior")


def test_too_few_seeds_are_told_with_the_number_that_is_needed() -> None:
    (row,) = claims({"reinit": [[1.0, 1.2, 0.9]]})
    assert row["verdict"] == "inconclusive" and row["seeds_needed"] == 5
    assert row["reason"] == (
        "3 seeds cannot show it: p of the sign-flip test is 1/8 at least; it takes 5 seeds or more; "
        "the spread seen calls for 5 seeds"
    )
    (row,) = claims({"reinit": [[1.0]]})
    assert (row["verdict"], row["low"], row["seeds_needed"]) == ("inconclusive", None, 5)
    (row,) = claims({"reinit": [[1.0, -1.0, 2.0, -2.0]]})
    assert row["seeds_needed"] is None  # no mean difference


@pytest.mark.parametrize(("family", "fewest"), [(1, 5), (2, 6), (3, 6), (4, 7), (20, 9)])
def test_holm_needs_more_seeds_for_more_densities(family: int, fewest: int) -> None:
    assert least_seeds(HOLM, family) == fewest and least_seeds(FIXED, family) == least_seeds(STEP_DOWN, family) == 5
    cells = [pairs([0.01] * fewest)] + [pairs([0.01, -0.01] * 5)] * (family - 1)
    assert decide(cells, HOLM)[0].verdict == "superior"
    assert decide([pairs([0.01] * (fewest - 1)), *cells[1:]], HOLM)[0].verdict == "inconclusive"


def test_a_control_at_some_levels_is_a_family_of_these() -> None:
    planned = hand(
        "seeds=7", "prune.levels=5", "compare={margin: 1, controls: holm}", "branches=[{name: reinit, levels: [3, 5]}]"
    )
    found = made(planned, ({}, {}), ({"kind": "reinit"}, {"accuracy": 0.4}))
    table = view_of("claims", planned, found)
    assert [(row["level"], row["density"], row["p_adjusted"]) for row in table] == [
        (3, 0.125, 2 / 128),
        (5, 1 / 32, 2 / 128),
    ]


def test_optimizers_and_rewind_points_are_families_of_their_own_in_the_order_of_the_recipe() -> None:
    optimizers = "train.optimizer=[{name: sgd, lr: 0.1}, {name: adam, lr: 1e-3}]"
    planned = hand(
        *("seeds=5", "prune.levels=2", "branches=[shuffle]", "rewind=[10it, init]", optimizers),
        "compare={margin: 1, controls: fixed_sequence}",
    )
    found = made(planned, ({}, {}))
    for job in planned:
        if job.kind == "branch" and (job.optimizer_index, job.level, job.rewind) != (0, 1, planned.recipe.rewind[0]):
            for reading in CHOSEN:
                found[job.key].metrics[reading]["test_accuracy"] = 0.4
    table = view_of("claims", planned, found)
    seen = [(row["optimizer"], row["rewind"], row["level"], row["verdict"]) for row in table]
    assert seen == [
        ("sgd", "10it", 1, "inconclusive"),
        ("sgd", "10it", 2, "inconclusive"),
        ("sgd", "init", 1, "superior"),
        ("sgd", "init", 2, "superior"),
        ("adam", "10it", 1, "superior"),
        ("adam", "10it", 2, "superior"),
        ("adam", "init", 1, "superior"),
        ("adam", "init", 2, "superior"),
    ]


def test_accuracy_is_read_where_the_recipe_reports_it() -> None:
    planned = hand("seeds=5", "report=end", "compare={margin: 1}", "branches=[shuffle]")
    found = made(planned, ({}, {"end": 0.7}), ({"kind": "shuffle"}, {"accuracy": 0.1, "end": 0.65}))
    (row,) = view_of("claims", planned, found)
    assert row["difference"] == pytest.approx(0.05)


def test_a_control_that_differs_in_more_than_its_claim_is_labelled() -> None:
    told = "sparse training from scratch, mask and weights differ: the ticket is shown to be better"
    assert claims({"random": [CLEAR]})[0]["reason"].startswith(told)
    assert claims({"shuffle": [CLEAR]})[0]["reason"].startswith("the ticket is shown to be better")
    row = claims({"reinit": [CLEAR]}, "rewind={to: 10it, mode: lr}", "report=early_stop")[0]
    assert row["reason"].startswith("the ticket goes on from trained weights, the control does not (drawn anew): ")
    row = claims({"shuffle": [CLEAR]}, "rewind={to: 10it, mode: lr}", "report=early_stop")[0]
    assert row["reason"].startswith("the ticket is shown to be better")


def test_tickets_that_are_pruned_at_once_have_no_gain_of_iteration() -> None:
    drawn = "prune={one_shot: [0.5, 0.25], criterion: random}"
    overrides = [drawn, "compare={margin: 1}", "branches=[one_shot, reinit]"]
    planned = hand(*overrides)
    assert {row["claim"] for row in view_of("claims", planned, made(planned, ({}, {})))} == {"initialization"}
    planned = hand(*overrides[:2], "branches=[one_shot]")
    with pytest.raises(UsageError, match="hand: has no control that stands for a claim"):
        view_of("claims", planned, made(planned, ({}, {})))


@pytest.mark.parametrize("view", ["claims", "decomposition"])
def test_without_a_declared_confidence_there_are_no_claims(view: str) -> None:
    with pytest.raises(UsageError, match="hand: declares no margin; add `compare"):
        view_of(view, hand("branches=[reinit]"), {})


def test_the_decomposition_is_a_row_for_each_density_and_a_column_for_each_claim() -> None:
    controls = {"reinit": [CLEAR, CLEAR], "shuffle": [CLEAR, [-1.0] * 5], "random": [CLEAR, CLEAR]}
    long = claims(controls)
    table = claims(controls, view="decomposition")
    assert [(row["level"], row["density"], row["n"]) for row in table] == [(1, 0.5, 5), (2, 0.25, 5)]
    names = {"shuffle": "mask_shuffle", "random": "mask_random", "reinit": "initialization"}
    assert table[0]["against"] == "shuffle, random, reinit"
    for part in long:
        row, name = table[part["level"] - 1], names[part["against"]]
        assert row[name] == part["difference"] and row[f"{name}_verdict"] == part["verdict"]
        assert (row[f"{name}_low"], row[f"{name}_high"]) == (part["low"], part["high"])


def test_people_read_the_decomposition_as_differences_with_intervals_and_verdicts() -> None:
    points = [1.0, 1.2, 0.8, 1.1, 0.9]  # mean 1, standard deviation 0.1581, t(4) = 2.776: 1 ± 0.196
    table = claims({"reinit": [points, [1.0, -1.0, 2.0, -2.0, 0.0]]}, view="decomposition")
    header, units, _, first, second = render(table, "text").decode().splitlines()
    assert header.split() == ["optimizer", "level", "density", "n", "against", "initialization", "(points)"]
    assert units.split() == ["(%)"]
    assert " ".join(first.split()).endswith("reinit +1.00 [+0.80, +1.20] superior") and " 50 " in first
    assert second.rstrip().endswith("]")
    assert b"initialization_low" in render(table, "csv").splitlines()[0]


def test_a_row_of_the_decomposition_is_made_from_its_tickets_and_controls() -> None:
    planned = hand("prune.levels=2", "compare={margin: 1}", "branches=[shuffle, noise, reinit]")
    found = made(planned, ({}, {}))
    study = Study(planned, found, Recorded(planned))
    rows = rows_of(study, "decomposition")
    for row in rows:
        labels = [
            (job.kind, job.branch.name if job.branch else "") for job in map(planned.jobs.__getitem__, row.made_from)
        ]
        assert sorted(labels) == sorted([("ticket", ""), ("branch", "shuffle"), ("branch", "reinit")] * 2)
        assert {planned.jobs[key].level for key in row.made_from} == {row["level"]}


def test_a_report_has_the_interval_and_the_verdict_in_the_cell_of_the_claim() -> None:
    table = claims({"reinit": [CLEAR], "shuffle": [[-0.5, 0.5, 0.25, -0.25, 0.0]]}, view="decomposition")
    cells = {column.header: column.text(table[0]) for column in columns(table)}
    assert list(cells) == [
        *("optimizer", "density (%)", "seeds", "against"),
        *("mask (points) [95 %]", "initialization (points) [95 %]"),
    ]
    half = 2.776445 * statistics.stdev(CLEAR) / math.sqrt(5)
    assert cells["initialization (points) [95 %]"] == f"+1.10 [+{1.1 - half:.2f}, +{1.1 + half:.2f}] superior"
    assert cells["mask (points) [95 %]"].startswith("0.00 [−") and cells["mask (points) [95 %]"].endswith("]")


def test_a_control_at_some_levels_leaves_its_other_cells_empty() -> None:
    branches = "branches=[reinit, {name: shuffle, levels: [2]}]"
    planned = hand("prune.levels=2", "compare={margin: 1}", branches)
    first, second = view_of("decomposition", planned, made(planned, ({}, {})))
    assert first["mask"] is first["mask_low"] is first["mask_verdict"] is None and first["against"] == "reinit"
    assert second["mask"] == 0.0 and second["against"] == "shuffle, reinit"


def normal(draws: np.random.Generator, n: int, levels: int) -> Array:
    """Differences correlated over levels, as those of one seed are."""
    return draws.normal(0, 0.003, (1, n)) + draws.normal(0, 0.003, (levels, n))


def collapses(draws: np.random.Generator, n: int, levels: int) -> Array:
    """Both networks fall short by exponential amounts: skewed accuracies, heavy-tailed differences."""
    ours, theirs = (draws.exponential(0.003, (1, n)) + draws.exponential(0.003, (levels, n)) for _ in range(2))
    return theirs - ours


def lucky(draws: np.random.Generator, n: int, levels: int) -> Array:
    """Skewed differences of mean 0: few seeds in which the ticket is much better."""
    return draws.exponential(0.003, (1, n)) + draws.exponential(0.003, (levels, n)) - 0.006


def wrong_claims(spec: CompareSpec, noise: Noise, n: int, sign: int = 1) -> float:
    """Of the simulated experiments, the part with a false claim at one of the last three of five densities."""
    draws, count = np.random.default_rng(17 * n), 0
    truths, word = sign * np.array([0.02, 0.02, 0.0, 0.0, -0.001]), "superior" if sign > 0 else "inferior"
    for _ in range(EXPERIMENTS):
        seen = truths[:, None] + sign * noise(draws, n, len(truths))
        count += word in [each.verdict for each in decide([pairs(row) for row in seen], spec)[2:]]
    return count / EXPERIMENTS


def allowed(spec: CompareSpec) -> float:
    level = 1 - spec.confidence
    return level + 3 * math.sqrt(level * (1 - level) / EXPERIMENTS)


NOISES = pytest.mark.parametrize("noise", [normal, collapses, lucky])
SLOW = pytest.mark.slow
SPECS = pytest.mark.parametrize(
    ("spec", "n"),
    [(STEP_DOWN, 5), (LOOSE, 5), *(pytest.param(spec, 10, marks=SLOW) for spec in (STEP_DOWN, FIXED, HOLM))],
    ids=["step_down-5", "holm-5", "step_down-10", "fixed_sequence-10", "holm-10"],
)


@NOISES
@SPECS
def test_tickets_that_are_no_better_are_called_superior_no_more_often_than_stated(
    spec: CompareSpec, n: int, noise: Noise
) -> None:
    assert wrong_claims(spec, noise, n) <= allowed(spec)


@SLOW
@NOISES
@SPECS
def test_tickets_that_are_no_worse_are_called_inferior_no_more_often_than_stated(
    spec: CompareSpec, n: int, noise: Noise
) -> None:
    assert wrong_claims(spec, noise, n, sign=-1) <= allowed(spec)


def test_rare_collapses_of_tickets_alone_are_beyond_what_the_test_holds() -> None:
    """A mean of 0 made of many small gains and few great losses: the limit that docs/statistics.md names."""
    draws = np.random.default_rng(2)
    seen = 1 - draws.exponential(1.0, (EXPERIMENTS, 5))
    claimed = sum(decide([pairs(row)], STEP_DOWN)[0].verdict == "superior" for row in seen) / EXPERIMENTS
    expected = (1 - math.exp(-1)) ** 5  # all five above their mean, 10 %
    assert claimed == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / EXPERIMENTS))


APART = 1 / math.sqrt(2)  # two values this far from their mean have a standard deviation of 1


@pytest.mark.parametrize("effect", [0.9, 1.2, 1.5, 2.5])
def test_the_seeds_asked_for_have_the_power_that_was_planned(effect: float) -> None:
    (n,) = seeds_needed([pairs([effect - APART, effect + APART])], STEP_DOWN)
    assert n is not None
    draws, error = np.random.default_rng(4), 3 * math.sqrt(0.8 * 0.2 / EXPERIMENTS)

    def power(seeds: int) -> float:
        seen = draws.normal(effect, 1.0, (EXPERIMENTS, seeds))
        return sum(decide([pairs(row)], STEP_DOWN)[0].verdict == "superior" for row in seen) / EXPERIMENTS

    assert power(n) >= 0.8 - error and (n == 5 or power(n - 1) <= 0.8 + error)


def test_many_seeds_are_asked_for_as_by_statsmodels() -> None:
    solver = pytest.importorskip("statsmodels.stats.power").TTestPower()
    cells = [pairs([0.4 - APART, 0.4 + APART])] * 6
    for spec, level in ((FIXED, ALPHA), (HOLM, ALPHA / 6)):
        n = seeds_needed(cells, spec)[0]
        assert n is not None and n > 16
        reached = [solver.power(0.4, seeds, level, alternative="larger") for seeds in (n - 1, n)]
        assert reached[0] < 0.8 <= reached[1]


def test_no_seeds_are_asked_for_where_the_side_that_is_ahead_diverged() -> None:
    values = {0: 0.01, 1: 0.012, 2: 0.011}
    assert seeds_needed([Pairs(values, tickets_diverged=1)], STEP_DOWN) == [None]
    assert seeds_needed([Pairs(values, controls_diverged=1)], STEP_DOWN) == [5]
