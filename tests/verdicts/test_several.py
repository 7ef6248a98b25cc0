"""Several studies in one table: who meets whom, and paired tests that scipy gives from the same numbers."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scipy import stats

from lottery.analysis.several import rows_of_several
from lottery.errors import UsageError
from lottery.formats.render import frame, render
from lottery.results.study import Study
from tests.support.studies import Recorded, hand, record

TWO = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"


def study(name: str, *changes: str, shift: float = 0.0, gains: Mapping[str, float] | None = None, **what: Any) -> Study:
    """A study of made-up accuracies: those of a seed vary together, tickets are `shift` better at each level.

    `gains` says by how much an optimizer is better.
    """
    planned = hand(f"name={name}", "seeds=6", *changes)
    found = {}
    for job in planned:
        if job.kind != "rewind":
            chance = random.Random(job.key)
            seed = random.Random(job.seed).gauss(0, 0.01)
            mean = 0.8 + shift * job.level + (gains or {}).get(job.optimizer.name, 0.0)
            found[job.key] = record(job, mean + seed + chance.gauss(0, 0.002), **what)
    return Study(planned, found, Recorded(planned))


def by_seed(each: Study, level: int, optimizer: str = "adam", kind: str = "ticket") -> dict[int, float]:
    """The accuracies of the long table as CSV has them, by seed: what a reader would compute with."""
    rows = csv.DictReader(io.StringIO(render(rows_of_one(each), "csv").decode()))
    return {
        int(row["seed"]): float(row["best_accuracy_test_accuracy"])
        for row in rows
        if (row["kind"], row["level"], row["optimizer"]) == (kind, str(level), optimizer)
    }


def rows_of_one(each: Study) -> Any:
    from lottery.analysis.views import rows_of

    return rows_of(each, "long")


def holm(pvalues: Sequence[float]) -> list[float]:
    """The definition, p by p: the largest of (m - rank) p over all p that are as small."""
    ordered = sorted(pvalues)
    return [min(1.0, max((len(pvalues) - rank) * q for rank, q in enumerate(ordered) if q <= p)) for p in pvalues]


@pytest.fixture(scope="module")
def three() -> list[Study]:
    return [
        study("magnitude", "prune.levels=3"),
        study("random", "prune.criterion=random", "prune.levels=3", shift=-0.004),
        study("late", "rewind=20it", "prune.levels=3"),
    ]


def test_each_study_is_tested_against_the_first_as_scipy_tests_pairs_of_the_same_seeds(three: list[Study]) -> None:
    table = rows_of_several(three, "means")
    tested = [row for row in table if row["verdict"] is not None]
    assert [row["study"] for row in table] == ["magnitude", "random", "late"] * 3
    expected = []
    for row in tested:
        level = {0.5: 1, 0.25: 2, 0.125: 3}[row["density"]]
        one = next(each for each in three if each.recipe.name == row["study"])
        ours, theirs = by_seed(one, level), by_seed(three[0], level)
        seeds = sorted(ours)
        found = stats.ttest_rel([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])
        interval = found.confidence_interval(0.95)
        assert row["p"] == pytest.approx(found.pvalue, rel=1e-6)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), rel=1e-6)
        assert row["n"] == 6 and row["difference"] == pytest.approx(
            sum(ours.values()) / 6 - sum(theirs.values()) / 6, rel=1e-6
        )
        expected.append(float(found.pvalue))
    assert [row["p_adjusted"] for row in tested] == pytest.approx(holm(expected), rel=1e-6)
    assert {row["verdict"] for row in tested if row["study"] == "random" and row["density"] == 0.125} == {"inferior"}
    for row in tested:
        shown = row["p_adjusted"] <= 0.05
        assert row["verdict"] == (("superior" if row["difference"] > 0 else "inferior") if shown else "inconclusive")
    assert {row["test"] for row in table} == {
        "each study against magnitude: two-sided paired t test over the seeds that both have; Holm's correction over "
        "6 comparisons; 95 %"
    }


def test_only_seeds_of_both_studies_are_paired_and_the_others_are_named() -> None:
    one, other = study("a"), study("b", "seeds=[3, 4, 5, 6]", "prune.criterion=random")
    (row,) = [row for row in rows_of_several([one, other], "means") if row["study"] == "b"]
    assert row["n"] == 3
    ours, theirs = by_seed(other, 1), by_seed(one, 1)
    common = [3, 4, 5]
    found = stats.ttest_rel([ours[seed] for seed in common], [theirs[seed] for seed in common])
    assert row["p"] == pytest.approx(found.pvalue, rel=1e-6)
    assert "in one of the two studies alone, not in the test: seeds 0, 1, 2, 6" in row["note"]


def test_levels_meet_by_their_density_and_not_by_their_number() -> None:
    """Level 2 of halving is 25 %, as is level 1 of keeping a quarter; a density one lacks meets none."""
    halves = study("halves", "prune.levels=2")
    planned = hand("name=quarters", "seeds=6", "prune.fraction=0.75", "prune.levels=1")
    found = {job.key: record(job, 0.8 + job.seed / 1000) for job in planned if job.kind != "rewind"}
    for each in found.values():
        each.metrics["density"] = 0.25 if each.job.level else 1.0
    quarters = Study(planned, found, Recorded(planned))
    table = rows_of_several([halves, quarters], "means")
    assert [(row["study"], row["density"], row["n"]) for row in table] == [
        ("halves", 0.5, None),
        ("halves", 0.25, None),
        ("quarters", 0.25, 6),
    ]
    back = rows_of_several([quarters, halves], "means")
    alone = next(row for row in back if row["density"] == 0.5)
    assert alone["verdict"] is None and "quarters has none within 1 % of this density" in alone["note"]


@pytest.mark.parametrize(("density", "meets"), [(0.5049, True), (0.506, False)])
def test_a_density_within_one_percent_is_the_same_and_one_further_off_is_refused(density: float, meets: bool) -> None:
    one, other = study("a"), study("b", "prune.criterion=random")
    for each in other.found.values():
        each.metrics["density"] = density if each.job.level else 1.0
    if meets:
        assert [row["n"] for row in rows_of_several([one, other], "means")] == [None, 6]
    else:
        with pytest.raises(UsageError, match=r"b: has nothing that a has at the same density \(.*50.6 %.* 50 %"):
            rows_of_several([one, other], "means")


def test_several_optimizers_meet_by_name_and_a_single_one_whatever_it_is() -> None:
    both = [study("a", TWO), study("b", TWO, "prune.criterion=random")]
    table = rows_of_several(both, "means")
    assert [(row["optimizer"], row["study"]) for row in table] == [
        *(("adam", "a"), ("adam", "b"), ("sgd", "a"), ("sgd", "b"))
    ]
    single = [study("a"), study("b", "train.optimizer={name: sgd, lr: 0.1}")]
    assert [(row["optimizer"], row["n"]) for row in rows_of_several(single, "means")] == [("adam", None), ("sgd", 6)]


def test_where_one_side_diverged_nothing_is_claimed() -> None:
    one, other = study("a"), study("b", "prune.criterion=random", shift=-0.1)
    bad = next(each.job for each in other.found.values() if each.job.kind == "ticket" and each.job.seed == 2)
    found = {**other.found, bad.key: record(bad, diverged=7)}
    (row,) = [r for r in rows_of_several([one, Study(other.plan, found, other.store)], "means") if r["study"] == "b"]
    assert (row["p"], row["p_adjusted"], row["n"]) == (1.0, 1.0, 5) and row["verdict"] == "withheld"  # by the audit too
    assert "1 seed diverged in this study alone: nothing is claimed" in row["note"]


def test_studies_from_different_machines_are_not_judged() -> None:
    there = {"torch": "2.9.0", "device": "cpu", "threads": 1, "deterministic": True, "lottery": "0.1.0"}
    one, other = study("a"), study("b", "prune.criterion=random", shift=-0.1, environment=there)
    (row,) = [row for row in rows_of_several([one, other], "means") if row["study"] == "b"]
    assert row["verdict"] == "withheld" and "mixed environments: torch" in row["note"]


def test_the_dense_networks_of_studies_that_share_them_are_said_to_be_the_same() -> None:
    rows = rows_of_several([study("a"), study("b", "prune.criterion=random")], "means", "dense")
    assert [row["density"] for row in rows] == [1.0, 1.0]
    assert rows[1]["verdict"] == "inconclusive" and "the same trainings as the first study's" in rows[1]["note"]


def test_a_network_that_no_study_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="--network reinit: there are dense, ticket"):
        rows_of_several([study("a"), study("b", "prune.criterion=random")], "means", "reinit")


def test_other_views_have_the_rows_of_each_study_with_its_label() -> None:
    pair = [study("a"), study("b", "prune.criterion=random")]
    table = rows_of_several(pair, "long")
    assert [row["study"] for row in table] == ["a"] * 12 + ["b"] * 12 and next(iter(table[0])) == "study"
    with pytest.raises(UsageError, match=r"declares no margin.*\(of a\)"):
        rows_of_several(pair, "verdicts")


def test_a_column_that_only_a_later_study_has_stands_before_the_comparison() -> None:
    one, other = study("a"), study("b", "metrics=top5", "prune.criterion=random")
    for each in other.found.values():
        each.metrics["best_accuracy"]["test_top5"] = 0.9
    first, second = rows_of_several([one, other], "means")
    assert list(first) == list(second) and (first["ticket_top5"], second["ticket_top5"]) == (None, 0.9)
    assert list(first).index("ticket_top5") < list(first).index("difference") and list(first)[-1] == "note"


@pytest.mark.slow
def test_where_all_optimizers_are_alike_one_is_marked_as_rarely_as_the_correction_says() -> None:
    """Of 200 studies of three equal optimizers at two densities no more than 5 % have a mark, here 19 at the most
    (the chance of 20 of 200 at 5 % is 0.3 %)."""
    changes = (
        "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}, {name: momentum, lr: 0.1}]",
        "prune.levels=2",
    )
    planned = hand("seeds=6", *changes)
    marked = 0
    for draw in range(200):
        chance = random.Random(draw)
        found = {job.key: record(job, 0.8 + chance.gauss(0, 0.01)) for job in planned if job.kind != "rewind"}
        table = rows_of_several([Study(planned, found, Recorded(planned))], "matrix")
        marked += any(row[name] for row in table for name in row if name.endswith("_best"))
    assert marked < 20


def test_the_best_of_a_density_is_marked_only_where_it_is_shown_to_beat_each_other() -> None:
    """Of three optimizers one is far better at each density; then two are alike, and no one is the best."""
    three = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}, {name: momentum, lr: 0.1}]"
    clear = rows_of_several([study("a", three, "prune.levels=2", gains={"sgd": 0.05})], "matrix")
    assert [(row["optimizer"], row["50%_best"], row["25%_best"]) for row in clear] == [
        *(("adam", False, False), ("sgd", True, True), ("momentum", False, False))
    ]
    alike = rows_of_several([study("a", three, gains={"sgd": 0.05, "momentum": 0.05})], "matrix")
    assert not any(row[name] for row in alike for name in row if name.endswith("_best"))
    assert "Holm's correction over 9 comparisons" in clear[0]["test"]


def test_the_best_is_shown_in_each_format_as_its_readers_take_it() -> None:
    table = rows_of_several([study("a", TWO, gains={"sgd": 0.05})], "matrix")
    cell = f"{100 * table[1]['50%']:.2f} ± {100 * table[1]['50%_std']:.2f}"
    assert f"{cell} (6) *" in render(table, "text").decode()
    assert f"**{cell} (6)**" in render(table, "markdown").decode()
    latex = render(table, "latex").decode()
    assert rf"\bfseries {cell.replace('±', chr(92) + 'pm')}" in latex and latex.count(r"\bfseries") == 2
    assert frame(table)["50%_best"].tolist() == [False, True]
    assert "over 6 seeds" in latex and "two-sided paired t test" in latex


def test_a_matrix_of_several_studies_has_a_row_for_each_and_puts_like_densities_into_one_column() -> None:
    pair = [study("a", "prune.levels=2"), study("b", "prune.criterion=random", "prune.levels=2")]
    for each in pair[1].found.values():
        each.metrics["density"] *= 1.002 if each.job.level else 1.0
    table = rows_of_several(pair, "matrix")
    assert [row["study"] for row in table] == ["a", "b"]
    heads = [name for name in table[0] if name.endswith("%") or name == "dense"]
    assert heads == ["dense", "50.1%", "25.05%"]
