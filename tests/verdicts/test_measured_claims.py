"""Published claims about what an analysis measures, against measurements of the micro recipe."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from lottery.analysis import measurements
from lottery.analysis.measurements import Measured
from lottery.analysis.rows import Row
from lottery.plan.kinds import Kind
from lottery.results.study import Study, study_of
from lottery.runner.context import RunContext
from lottery.verdicts import measured_claims, replication
from tests.support.analyses import asking
from tests.support.micro import finished, micro, prepared, problems

CLAIM = {
    "text": "no barrier",
    "source": "figure 1",
    "analysis": "barrier",
    "networks": "dense - ticket",
    "value": "test_error_barrier",
    "densities": [0.5],
    "most": 2.0,
}
ASKED = ("prune.levels=1", "seeds=3", asking("{name: barrier, points: 5}"))


def replicating(**claim: Any) -> str:
    return "replicates=" + json.dumps({"source": "Who 2020", "claims": [CLAIM | claim]})


def judged(context: RunContext, **claim: Any) -> Row:
    """The row of one claim on the trainings of a run."""
    again = prepared(micro(*ASKED, replicating(**claim)), context.store.root)
    (row,) = replication.rows(study_of(again.plan, context.store))
    return row


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return finished(prepared(micro(*ASKED, replicating()), tmp_path_factory.mktemp("claims")))


def values(context: RunContext, networks: str, name: str) -> dict[int, float]:
    study = study_of(context.plan, context.store)
    found = measurements.measured(study).values()
    return {each.job.seed: each.values[name] for each in found if each.networks == networks}


@pytest.mark.parametrize(("limit", "verdict"), [(+60.0, "holds"), (-60.0, "fails")])
def test_a_barrier_is_claimed_in_points_with_one_value_per_seed(run: RunContext, limit: float, verdict: str) -> None:
    points = [100 * value for value in values(run, "dense - ticket", "test_error_barrier").values()]
    row = judged(run, most=limit)
    assert (row["n"], row["verdict"]) == (3, verdict)
    assert row["estimate"] == pytest.approx(statistics.fmean(points))
    bound = stats.ttest_1samp(points, 0).confidence_interval(0.9).high
    assert row["high"] >= bound - 1e-9
    assert row["compared"] == "dense - ticket: test_error_barrier of barrier, points"


def test_a_loss_is_claimed_as_it_is(run: RunContext) -> None:
    losses = list(values(run, "dense - ticket", "train_loss_barrier").values())
    row = judged(run, value="train_loss_barrier")
    assert row["estimate"] == pytest.approx(statistics.fmean(losses))


def test_other_networks_are_taken_off_seed_by_seed(tmp_path: Path) -> None:
    looks = "{name: barrier, points: 2, between: [dense-ticket, level-level], levels: 2, parts: [test]}"
    one, other = "dense - ticket", "ticket above - ticket"
    claim = CLAIM | {"value": "distance", "densities": [0.25], "least": 0.0, "most": None, "minus": {"networks": other}}
    context = finished(prepared(micro("seeds=3", asking(looks), replicating(**claim)), tmp_path))
    (row,) = replication.rows(study_of(context.plan, context.store))
    ours, theirs = (values(context, networks, "distance") for networks in (one, other))
    differences = [ours[seed] - theirs[seed] for seed in ours]
    bound = stats.ttest_1samp(differences, 0).confidence_interval(0.9).low
    assert row["n"] == 3 and (row["estimate"], row["low"]) == pytest.approx((statistics.fmean(differences), bound))
    assert row["compared"] == f"{one} minus {other}: distance of barrier"
    analyses = {job.key for job in context.plan if job.kind is Kind.ANALYSIS}
    assert set(row.made_from) == analyses


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("ticket - ticket of another seed", "the two sides are not of the same seeds"),
        ("dense - reinit", "no 'dense - reinit' there"),
    ],
)
def test_networks_of_other_seeds_are_not_taken_off(run: RunContext, other: str, said: str) -> None:
    row = judged(run, most=60.0, minus={"networks": other})
    assert row["verdict"] == "undecided" and said in row["note"]


def test_pairs_that_share_a_seed_count_once(run: RunContext) -> None:
    name = "ticket - ticket of another seed"
    assert len(values(run, name, "test_error_barrier")) == 3
    assert judged(run, networks=name)["n"] == 1


def test_dense_networks_stand_at_a_density_of_1(run: RunContext) -> None:
    row = judged(run, networks="dense - dense of another seed", densities=[1.0])
    assert (row["n"], row["level"]) == (1, 0)


def test_networks_that_were_not_measured_leave_a_claim_undecided(run: RunContext) -> None:
    row = judged(run, networks="dense - dense of another seed")  # of level 0
    assert row["verdict"] == "undecided"
    assert (
        "no 'dense - dense of another seed' there, but dense - ticket, ticket - ticket of another seed" in row["note"]
    )


def test_a_value_that_is_not_finite_leaves_a_claim_undecided(run: RunContext, monkeypatch: pytest.MonkeyPatch) -> None:
    true = measurements.measured

    def broken(study: Study) -> dict[str, Measured]:
        found = dict(true(study))
        key = next(key for key, each in found.items() if each.networks == "dense - ticket")
        found[key] = replace(found[key], values={**found[key].values, "test_error_barrier": math.nan})
        return found

    monkeypatch.setattr(measured_claims, "measured", broken)
    row = judged(run, most=60.0)
    assert row["verdict"] == "undecided"
    assert "test_error_barrier is not finite in 1 of 3" in row["note"]


def test_measurements_that_are_not_finished_leave_a_claim_undecided(tmp_path: Path) -> None:
    context = prepared(micro(*ASKED, replicating()), tmp_path)
    trainings = [job for job in context.plan if job.kind is not Kind.ANALYSIS]
    finished(replace(context, plan=replace(context.plan, jobs={job.key: job for job in trainings})))
    (row,) = replication.rows(study_of(context.plan, context.store))
    assert row["verdict"] == "undecided"
    assert "0 of 3 measurements finished" in row["note"]


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        ({"analysis": "barier"}, "there is no analysis 'barier'; did you mean 'barrier'?"),
        ({"value": "test_eror_barrier"}, "barrier measures no 'test_eror_barrier'; did you mean 'test_error_barrier'?"),
        ({"networks": None}, "a claim about an analysis needs `analysis`, `networks` and `value`"),
    ],
)
def test_a_claim_about_what_is_not_measured_is_refused(claim: dict[str, Any], said: str) -> None:
    told = problems(*ASKED, replicating(**claim))
    assert any(said in line for line in told), told
