"""Transferred tickets against the dense networks and the own tickets of the optimizer that retrains them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as oracle

from lottery.analysis.rows import Row
from lottery.analysis.views import rows_of
from lottery.errors import UsageError
from lottery.plan.jobs import Job, Plan
from lottery.results.record import Record
from lottery.results.study import Study
from tests.support.studies import Recorded, hand, record, view_of

THREE = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}, {name: momentum, lr: 0.1}]"
TWO = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"
MARGIN = "compare={margin: 1}"
Kind = tuple[str, int, int | None]  # kind, place of the optimizer, place of the one that retrains


def kind_of(job: Job) -> Kind:
    return job.kind, job.optimizer_index, job.transfer


def found(planned: Plan, accuracy: Callable[[Job], float | None]) -> dict[str, Record]:
    """Records with these accuracies; diverged where there is none."""
    given = [(job, accuracy(job)) for job in planned if job.kind in ("dense", "ticket", "branch")]
    return {job.key: record(job, a) if a is not None else record(job, diverged=7) for job, a in given}


def drawn(seeds: int, seed: int = 0) -> Callable[[Job], float]:
    """Accuracies drawn for each training by its place, level and seed."""
    rng = np.random.default_rng(seed)
    values: dict[tuple[object, ...], float] = {}
    return lambda job: values.setdefault((*kind_of(job), job.level, job.seed), 0.5 + 0.02 * float(rng.normal()))


def test_differences_intervals_and_p_are_those_of_scipys_paired_t_test() -> None:
    planned = hand(THREE, "transfer=all", "seeds=6", "prune.levels=2", MARGIN)
    accuracy = drawn(6)
    study = Study(planned, found(planned, accuracy), Recorded(planned))
    table = rows_of(study, "transfer_tests")
    assert len(table) == 3 * 2 * 2 * 2
    names = ["adam", "sgd", "momentum"]

    def values(kind: str, place: int, transfer: int | None, level: int) -> np.ndarray:
        jobs = [j for j in planned if kind_of(j) == (kind, place, transfer) and j.level == level]
        return np.array([accuracy(job) for job in sorted(jobs, key=lambda job: job.seed)])

    for row in table:
        finder, retrainer = names.index(row["found_with"]), names.index(row["retrained_with"])
        ours = values("branch", finder, retrainer, row["level"])
        dense = row["against"] == "dense"
        theirs = values("dense", retrainer, None, 0) if dense else values("ticket", retrainer, None, row["level"])
        test = oracle.ttest_rel(ours, theirs)
        low, high = test.confidence_interval(0.95)
        assert (row["n"], row["difference"]) == (6, pytest.approx((ours - theirs).mean()))
        assert (row["low"], row["high"], row["p"]) == pytest.approx((low, high, test.pvalue))
        for name, alternative in (("p_matching", "greater"), ("p_losing", "less")):
            margin = oracle.ttest_1samp(ours - theirs, -0.01, alternative=alternative)
            assert row[name] == pytest.approx(margin.pvalue)
        assert row["density"] == 0.5 ** row["level"]


def test_each_p_is_corrected_by_holm_over_all_tickets_held_against_the_same() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    planned = hand(THREE, "transfer=all", "seeds=5", "rewind=[init, 10it]", MARGIN)
    table = view_of("transfer_tests", planned, found(planned, drawn(5, 1)))
    for against in ("dense", "own ticket"):
        mine = [row for row in table if row["against"] == against]
        assert len(mine) == 12 and {row["rewind"] for row in mine} == {"init", "10it"}
        for name in ("p", "p_matching", "p_losing"):
            expected = multitest.multipletests([row[name] for row in mine], method="holm")[1]
            assert [row[f"{name}_adjusted"] for row in mine] == pytest.approx(list(expected))


def shifted(ours: float, spread: float = 0.001) -> Callable[[Job], float]:
    """Adam's ticket with sgd is `ours` above sgd's own results; sgd's with adam equal to adam's."""

    def accuracy(job: Job) -> float:
        shift = ours if kind_of(job) == ("branch", 0, 1) else 0.0
        return 0.5 + shift + spread * (job.seed + 1) * (job.kind == "branch")

    return accuracy


def pair(*overrides: str, accuracy: Callable[[Job], float | None], lost: int = 0) -> list[Row]:
    """The rows of adam's ticket retrained with sgd, of five seeds."""
    planned = hand(TWO, "transfer=all", "seeds=5", *overrides)
    records = found(planned, accuracy)
    for job in [job for job in planned if kind_of(job) == ("branch", 0, 1)][:lost]:
        del records[job.key]
    return [row for row in view_of("transfer_tests", planned, records) if row["found_with"] == "adam"]


def test_a_ticket_that_transfers_matches_and_one_that_does_not_loses() -> None:
    dense, own = pair(MARGIN, accuracy=shifted(0.0))
    assert (dense["against"], dense["retrained_with"], dense["verdict"]) == ("dense", "sgd", "matching")
    assert dense["reason"] == "shown to be less than 1 point below the dense network"
    assert (own["against"], own["verdict"]) == ("own ticket", "matching")
    assert own["reason"] == "shown to be less than 1 point below the other optimizer's own ticket"
    assert {row["verdict"] for row in pair(MARGIN, accuracy=shifted(-0.05))} == {"losing"}
    (unclear, _) = pair(MARGIN, accuracy=shifted(-0.07, 0.02))
    assert unclear["verdict"] == "inconclusive"
    assert unclear["reason"] == "5 seeds do not show which side of -1 point it is on"


def test_without_a_margin_there_are_differences_and_no_verdicts() -> None:
    (row, _) = pair(accuracy=shifted(0.0))
    assert "verdict" not in row and "p_matching" not in row
    # 0.1 to 0.5 points: t = 0.3 / (sqrt(0.025) / sqrt(5)) = 4.2426 on 4 degrees of freedom
    assert row["p"] == pytest.approx(2 * oracle.t.sf(3 * 2**0.5, 4))
    assert row["p_adjusted"] == pytest.approx(2 * row["p"])


def test_equal_differences_have_the_p_of_a_sign_test_and_none_are_no_sign() -> None:
    (row, _) = pair(accuracy=shifted(0.02, 0.0))
    assert row["p"] == 2 / 2**5 and row["difference"] == pytest.approx(0.02)
    (row, _) = pair(accuracy=shifted(0.0, 0.0))
    assert (row["p"], row["difference"]) == (1.0, 0.0)


def test_a_side_that_diverged_is_not_shown_to_be_the_better_one() -> None:
    def first(kind: Kind, otherwise: Callable[[Job], float]) -> Callable[[Job], float | None]:
        return lambda job: None if kind_of(job) == kind and job.seed == 0 else otherwise(job)

    allow = "compare={margin: 1, allow: [seeds]}"
    (ours, _) = pair(allow, accuracy=first(("branch", 0, 1), shifted(0.0)))
    assert (ours["n"], ours["p"], ours["p_matching"], ours["verdict"]) == (4, 1.0, 1.0, "inconclusive")
    assert ours["reason"] == "1 transferred tickets diverged"
    (worse, _) = pair(allow, accuracy=first(("branch", 0, 1), shifted(-0.05)))
    assert worse["verdict"] == "losing"
    (dense, own) = pair(allow, accuracy=first(("dense", 1, None), shifted(-0.05)))
    assert (dense["n"], dense["p_losing"], dense["verdict"]) == (4, 1.0, "inconclusive")
    assert (own["n"], own["verdict"]) == (5, "losing")


def test_an_optimizer_with_which_everything_diverged_gives_no_pair_and_says_so() -> None:
    (dense, own) = pair(MARGIN, accuracy=lambda job: None if 1 in (job.optimizer_index, job.transfer) else 0.5)
    assert [(row["n"], row["verdict"]) for row in (dense, own)] == [(0, "inconclusive")] * 2
    assert dense["reason"] == own["reason"] == "no seed has a result on both sides"


def test_what_the_audit_withholds_has_no_verdict() -> None:
    (dense, own) = pair(MARGIN, accuracy=shifted(0.0), lost=1)
    assert (dense["verdict"], own["verdict"], dense["n"]) == ("withheld", "withheld", 4)
    assert dense["reason"].startswith("seeds: 1, 2, 3, 4, dense network 0, 1, 2, 3, 4; seed 0: missing")


def test_cells_that_are_not_trained_yet_count_in_the_family_and_have_no_row() -> None:
    planned = hand(THREE, "transfer=all", "seeds=5")
    records = found(planned, drawn(5))
    for job in planned:
        if job.transfer is not None and kind_of(job) != ("branch", 0, 1):
            del records[job.key]
    table = view_of("transfer_tests", planned, records)
    assert [(row["found_with"], row["retrained_with"]) for row in table] == [("adam", "sgd")] * 2
    assert table[0]["p_adjusted"] == pytest.approx(min(1, 6 * table[0]["p"]))


def test_behind_a_row_are_both_its_sides() -> None:
    planned = hand(TWO, "transfer=all", "seeds=2", "prune.levels=2")
    study = Study(planned, found(planned, drawn(2)), Recorded(planned))
    table = rows_of(study, "transfer_tests")
    for row in table:
        finder = ["adam", "sgd"].index(row["found_with"])
        level = row["level"]
        theirs = ("dense", 0) if row["against"] == "dense" else ("ticket", level)
        wanted = {
            job.key
            for job in planned
            if (job.transfer == 1 - finder and job.level == level)
            or ((job.kind, job.level, job.optimizer_index) == (*theirs, 1 - finder))
        }
        assert set(row.made_from) == wanted and len(row.made_from) == 4


def test_a_recipe_without_transfer_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="hand: retrains no ticket with another optimizer; add `transfer: all`"):
        view_of("transfer_tests", hand(TWO), {})
