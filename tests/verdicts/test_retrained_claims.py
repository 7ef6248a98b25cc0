"""Published claims about tickets that another optimizer trains again, against made-up studies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scipy import stats

from lottery.errors import RecipeError
from lottery.plan.jobs import Job
from tests.support.studies import hand, record, view_of

TWO = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"
CLAIM = {"text": "SGD trains it", "source": "6.2", "densities": [0.5], "retrained_with": 1, "least": -1.0}


def claimed(*overrides: str, **claim: Any) -> Any:
    written = json.dumps({"source": "Sun 2019", "claims": [CLAIM | claim]})
    return hand(TWO, "seeds=4", f"replicates={written}", *overrides)


@pytest.mark.parametrize("against", ["dense", "ticket"])
@pytest.mark.parametrize(("gain", "verdict"), [(-0.2, "holds"), (-3.0, "fails")])
def test_a_ticket_that_sgd_trains_again_is_held_against_what_sgd_has_by_itself(
    gain: float, verdict: str, against: str
) -> None:
    planned = claimed("transfer=all", against=against)
    gains = [gain + own for own in (0.1, -0.1, 0.2, 0.0)]

    def accuracy(job: Job) -> float:
        if job.transfer == 1:
            return 0.7 + 0.01 * gains[job.seed]
        return 0.7 if job.optimizer_index == 1 else 0.5  # adam is far below

    found = {job.key: record(job, accuracy(job)) for job in planned if job.kind in ("dense", "ticket", "branch")}
    (row,) = view_of("replication", planned, found)
    low = stats.ttest_1samp(gains, 0).confidence_interval(0.9).low
    assert (row["optimizer"], row["n"], row["verdict"]) == ("adam", 4, verdict)
    assert row["estimate"] == pytest.approx(sum(gains) / 4)
    assert row["low"] == pytest.approx(low)
    assert row["compared"] == f"ticket retrained with sgd against {against} of sgd: accuracy, points"
    sides = [job for job in planned if job.transfer == 1 or (job.kind == against and job.optimizer_index == 1)]
    assert set(row.made_from) == {job.key for job in sides}


def test_a_ticket_that_is_not_yet_trained_again_leaves_the_claim_undecided() -> None:
    planned = claimed("transfer=all")
    found = {job.key: record(job) for job in planned if job.kind in ("dense", "ticket")}
    (row,) = view_of("replication", planned, found)
    assert row["verdict"] == "undecided" and "with sgd: 0 of 4 seeds finished" in row["note"]


@pytest.mark.parametrize(
    ("overrides", "claim", "problem"),
    [
        ([], {}, "the recipe retrains no ticket with another optimizer; add `transfer: all`"),
        (["transfer=all"], {"retrained_with": 2}, "no optimizer 2; the last of train.optimizer is 1, counted from 0"),
        (["transfer=all"], {"optimizer": 1}, "is retrained with the optimizer that found it"),
        (["transfer=all"], {"against": None}, "is compared with `dense` or `ticket` of the other optimizer"),
        (["transfer=all"], {"column": "dense"}, "is about the accuracy of tickets"),
    ],
)
def test_a_claim_about_a_ticket_that_is_not_trained_again_is_refused(
    overrides: list[str], claim: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        claimed(*overrides, **claim)
    assert problem in str(caught.value) and "replicates.claims.0" in str(caught.value)
