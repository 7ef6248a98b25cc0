"""Claims that compare two points of a sweep, on made-up studies: each kind of quantity, planted right and wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from scipy import stats

from lottery.analysis.measurements import Measured, measured
from lottery.analysis.rows import Row
from lottery.plan.jobs import Job, Plan
from lottery.plan.kinds import Kind
from lottery.recipe.claims import ReplicatesSpec
from lottery.results.record import Record
from lottery.results.study import Study
from lottery.verdicts.claims_in_words import claims_in_words
from lottery.verdicts.replication import About, rows_of_points
from tests.support.studies import HERE, Recorded, hand, record

SEEDS = 5
NONE = "data.validation=0"  # nothing is held out, so that curves may be made up
LEFT, RIGHT = ("train.optimizer.lr=1e-3", "train.optimizer.lr=1e-2")
Make = Callable[[Job], Record]


@cache
def planned_as(*changes: str) -> Plan:
    return hand(f"seeds={SEEDS}", *changes)


def point(make: Make, *changes: str) -> Study:
    """A study in which each training is what `make` says."""
    planned = planned_as(*changes)
    return Study(planned, {job.key: make(job) for job in planned if job.kind.measured}, Recorded(planned))


def judged(left: Study | Sequence[Study], right: Study | Sequence[Study] | None, **claim: Any) -> Row:
    sides = [[side] if isinstance(side, Study) else list(side or ()) for side in (left, right)]
    written = {"text": "t", "source": "s", "left": {"a": 1}, "densities": [1.0], **claim}
    written |= {"right": {"a": 2}} if right is not None else {}
    values = [1e-4 * 10**place for place in range(len(sides[0]))]
    about = About(sides[0], sides[1], (values, values), {"left": "a=1", "right": "a=2"})
    replicates = ReplicatesSpec.model_validate({"source": "Who 2020", "claims": [written]})
    (row,) = rows_of_points(replicates, lambda claim: about)
    return row


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Two one-sided 95 % t bounds, by scipy."""
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    return interval.low, interval.high


def accurate(values: Sequence[float]) -> Make:
    return lambda job: record(job, values[job.seed])


def reading(field: str, values: Sequence[float]) -> Make:
    """Trainings with this value at their reading."""

    def make(job: Job) -> Record:
        made = record(job)
        at = {name: {**made.metrics[name], field: values[job.seed]} for name in ("best_accuracy", "early_stop", "end")}
        curve = [row | {field: values[job.seed]} if field in row else row for row in made.metrics["curve"]]
        return replace(made, metrics=made.metrics | at | {"curve": curve})

    return make


def falling(rates: Sequence[float], lost: Sequence[int] = (), **what: Any) -> Make:
    """Trainings whose loss is exp(-rate * step / 10) on a grid of 10 steps up to 100; those lost diverge at step 30."""

    def make(job: Job) -> Record:
        made = record(job, diverged=30 if job.seed in lost else None, **what)
        ends = 30 if job.seed in lost else 100
        curve = [{"step": at, "train_loss": math.exp(-rates[job.seed] * at / 10)} for at in range(10, ends + 1, 10)]
        metrics = {**made.metrics, "curve": [{"step": 0, "train_loss": None}, *curve], "best_accuracy": None}
        if "end" in metrics:
            metrics["end"] = {**curve[-1], "test_loss": 0.3, "test_accuracy": 0.5}
        return replace(made, metrics=metrics | {"early_stop": None})

    return make


ONE, OTHER = (0.52, 0.55, 0.51, 0.56, 0.53), (0.50, 0.52, 0.50, 0.53, 0.50)


@pytest.mark.parametrize(
    ("limits", "verdict"), [({"least": 1}, "holds"), ({"most": 1}, "fails"), ({"least": 2.5}, "undecided")]
)
def test_accuracies_of_two_points_are_compared_seed_by_seed(limits: dict[str, float], verdict: str) -> None:
    row = judged(point(accurate(ONE), LEFT), point(accurate(OTHER), RIGHT), **limits)
    differences = [100 * (one - other) for one, other in zip(ONE, OTHER, strict=True)]
    assert row["verdict"] == verdict and row["n"] == SEEDS
    assert (row["low"], row["high"]) == pytest.approx(bounds(differences))
    assert (row["left"], row["right"]) == ("a=1", "a=2")
    assert row["compared"] == "dense: accuracy, points, left minus right"
    assert len(row.made_from) == 2 * SEEDS


def test_without_a_right_side_the_value_itself_is_claimed() -> None:
    row = judged(point(accurate(ONE)), None, least=50, most=56)
    assert row["verdict"] == "holds" and row["estimate"] == pytest.approx(100 * sum(ONE) / SEEDS)


@pytest.mark.parametrize(("measure", "field"), [("loss", "test_loss"), ("train_loss", "train_loss")])
def test_losses_are_compared_as_differences_or_as_ratios(measure: str, field: str) -> None:
    one, other = (0.30, 0.33, 0.29, 0.31, 0.30), (0.40, 0.46, 0.41, 0.40, 0.42)
    left, right = point(reading(field, one), LEFT), point(reading(field, other), RIGHT)
    row = judged(left, right, measure=measure, most=-0.08)
    assert (row["verdict"], row["high"]) == (
        "holds",
        pytest.approx(bounds([a - b for a, b in zip(one, other, strict=True)])[1]),
    )
    assert judged(left, right, measure=measure, least=-0.05)["verdict"] == "fails"
    row = judged(left, right, measure=measure, compare="ratio", most=0.8)
    logs = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    assert row["verdict"] == "holds" and row["estimate"] == pytest.approx(math.exp(sum(logs) / SEEDS))
    assert (row["low"], row["high"]) == pytest.approx([math.exp(bound) for bound in bounds(logs)])
    assert judged(left, right, measure=measure, compare="ratio", least=1)["verdict"] == "fails"


def test_a_loss_of_0_has_no_ratio() -> None:
    left, right = point(reading("test_loss", (0.0, *[0.1] * 4)), LEFT), point(reading("test_loss", [0.2] * 5), RIGHT)
    row = judged(left, right, measure="loss", compare="ratio", most=1)
    assert row["verdict"] == "undecided" and "left dense: not above 0 in 1 of 5, which have no ratio" in row["note"]


FAST, SLOW = (1.0, 1.1, 0.9, 1.0, 1.2), (0.4, 0.35, 0.5, 0.4, 0.45)
AT = {"measure": "steps_to", "reaches": {"train_loss": 0.1}}


def first(rate: float) -> int:
    """The first multiple of 10 at which exp(-rate * step / 10) is 0.1 or less."""
    return 10 * math.ceil(math.log(10) / rate)


def test_steps_to_a_loss_are_those_of_its_closed_form() -> None:
    left, right = point(falling(FAST), LEFT, NONE), point(falling(SLOW), RIGHT, NONE)
    row = judged(left, right, **AT, most=0.8)
    logs = [math.log(first(a) / first(b)) for a, b in zip(FAST, SLOW, strict=True)]
    assert row["verdict"] == "holds" and row["estimate"] == pytest.approx(math.exp(sum(logs) / SEEDS))
    assert (row["low"], row["high"]) == pytest.approx([math.exp(bound) for bound in bounds(logs)])
    assert judged(left, right, **AT, least=1)["verdict"] == "fails"
    assert judged(left, None, **AT, most=40)["estimate"] == pytest.approx(math.prod(map(first, FAST)) ** 0.2)
    assert row["compared"] == "dense: steps to a training loss of 0.1, ratio, left over right"


@pytest.mark.parametrize(
    ("limits", "verdict"), [({"most": 0.8}, "holds"), ({"least": 1.0}, "fails"), ({"least": 0.1}, "undecided")]
)
def test_what_is_never_reached_is_later_than_the_length(limits: dict[str, float], verdict: str) -> None:
    never = (0.1, 0.05, 0.1, 0.2, 0.1)  # at step 100 above 0.13
    row = judged(point(falling(FAST), LEFT, NONE), point(falling(never), RIGHT, NONE), **AT, **limits)
    assert row["verdict"] == verdict and row["low"] is None and "right dense censored: 5" in row["note"]
    assert row["estimate"] == pytest.approx(math.prod(first(rate) / 100 for rate in FAST) ** 0.2)


def test_a_training_that_diverges_before_is_later_than_the_length_as_well() -> None:
    left, right = point(falling(FAST), LEFT, NONE), point(falling(SLOW, lost=(1, 3)), RIGHT, NONE)
    row = judged(left, right, **AT, most=0.8)
    steps = [100 if seed in (1, 3) else first(rate) for seed, rate in enumerate(SLOW)]
    ratios = [first(rate) / step for rate, step in zip(FAST, steps, strict=True)]
    assert row["n"] == SEEDS and row["estimate"] == pytest.approx(math.prod(ratios) ** 0.2)
    assert row["verdict"] == "holds" and "right dense diverged before: 2" in row["note"]
    assert judged(right, left, **AT, most=0.8)["verdict"] == "fails"


def test_epochs_are_told_from_the_length() -> None:
    ten = ("train.length=20ep", "train.evaluate_every=1ep")  # 20 epochs are the 100 steps of the curve
    row = judged(point(falling(FAST), NONE, *ten), None, measure="epochs_to", reaches={"train_loss": 0.1}, most=8)
    assert row["estimate"] == pytest.approx(math.prod(first(rate) / 5 for rate in FAST) ** 0.2)


@pytest.mark.parametrize(
    ("limits", "verdict"), [({"least": 5}, "holds"), ({"most": 0}, "fails"), ({"least": 20}, "undecided")]
)
def test_shares_that_diverged_have_exact_bounds(limits: dict[str, float], verdict: str) -> None:
    right, left = point(falling(SLOW), RIGHT, NONE), point(falling(SLOW, lost=range(SEEDS)), LEFT, NONE)
    row = judged(left, right, measure="diverged", **limits)
    assert (row["verdict"], row["estimate"], row["n"]) == (verdict, 100, SEEDS)
    assert row["low"] == pytest.approx(100 * (2 * 0.05**0.2 - 1), abs=1e-4)
    assert "left dense diverged: 5 of 5; right dense diverged: 0 of 5" in row["note"]
    alone = judged(left, None, measure="diverged", least=50)
    assert (alone["verdict"], alone["low"]) == ("holds", pytest.approx(100 * 0.05**0.2))


def test_more_seeds_of_the_same_shares_would_decide() -> None:
    left, right = point(falling(SLOW, lost=range(SEEDS)), LEFT, NONE), point(falling(SLOW), RIGHT, NONE)
    row = judged(left, right, measure="diverged", least=40)
    assert row["seeds_needed"] == 10  # 2 * 0.05^(1/10) - 1 is 0.48


def test_a_diverged_side_is_not_shown_to_be_more_accurate() -> None:
    def make(job: Job) -> Record:
        return record(job, ONE[job.seed], diverged=30 if job.seed == 4 else None)

    row = judged(point(make, LEFT), point(accurate(OTHER), RIGHT), least=1)
    assert (row["verdict"], row["low"], row["n"]) == ("undecided", None, 4)
    assert "left dense diverged: 1" in row["note"]
    assert judged(point(accurate(OTHER), RIGHT), point(make, LEFT), most=-1)["verdict"] == "undecided"


def test_a_diverged_side_is_not_shown_to_be_of_lower_loss() -> None:
    lower, higher = (
        reading("test_loss", (0.30, 0.33, 0.29, 0.31, 0.30)),
        reading("test_loss", (0.5, 0.6, 0.5, 0.5, 0.6)),
    )

    def lost(job: Job) -> Record:
        return record(job, diverged=30) if job.seed == 4 else lower(job)

    assert judged(point(lower, LEFT), point(higher, RIGHT), measure="loss", most=-0.1)["verdict"] == "holds"
    row = judged(point(lost, LEFT), point(higher, RIGHT), measure="loss", most=-0.1)
    assert (row["verdict"], row["high"]) == ("undecided", None) and row["low"] is not None


def taking(seconds: Sequence[float], environment: dict[str, Any] = HERE) -> Make:
    def make(job: Job) -> Record:
        made = record(job, environment=environment)
        return replace(made, manifest=replace(made.manifest, seconds=seconds[job.seed]))

    return make


def test_seconds_are_compared_in_one_environment_only() -> None:
    one, other = (1.0, 1.1, 0.9, 1.0, 1.05), (2.0, 2.1, 1.9, 2.2, 2.0)
    left, right = point(taking(one), LEFT), point(taking(other), RIGHT)
    row = judged(left, right, measure="seconds", most=0.6)
    logs = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    assert (row["verdict"], row["high"]) == ("holds", pytest.approx(math.exp(bounds(logs)[1])))
    assert judged(left, right, measure="seconds", least=1)["verdict"] == "fails"
    elsewhere = point(taking(other, HERE | {"threads": 2}), RIGHT)
    row = judged(left, elsewhere, measure="seconds", most=0.6)
    assert row["verdict"] == "undecided" and "seconds of different environments: threads" in row["note"]


def test_points_of_environments_that_differ_in_more_than_rounding_are_not_compared() -> None:
    def make(job: Job) -> Record:
        return record(job, OTHER[job.seed], environment=HERE | {"torch": "2.9.0"})

    row = judged(point(accurate(ONE), LEFT), point(make, RIGHT), least=1)
    assert row["verdict"] == "undecided" and "left and right are of different environments: torch" in row["note"]


def test_early_stop_steps_of_two_points_are_a_ratio() -> None:
    steps = (30, 40, 30, 40, 30)
    left = point(lambda job: record(job, step=steps[job.seed]), LEFT)
    right = point(lambda job: record(job, step=90), RIGHT)
    row = judged(left, right, measure="early_stop_step", most=0.5)
    assert row["verdict"] == "holds" and row["estimate"] == pytest.approx(math.prod(s / 90 for s in steps) ** 0.2)
    assert judged(left, right, measure="early_stop_step", least=1)["verdict"] == "fails"


def ranged(*accuracies: float | None) -> list[Study]:
    """A study for each value of the swept key; None where all diverge. Seed 0 is half a point less accurate."""

    def make(accuracy: float | None) -> Make:
        lost = None if accuracy else 30
        return lambda job: record(job, (accuracy or 0.5) - 0.005 * (job.seed == 0), diverged=lost)

    return [point(make(each), f"train.optimizer.lr={10.0**-place}") for place, each in enumerate(accuracies, 1)]


def test_good_values_are_counted_seed_by_seed() -> None:
    wide, narrow = ranged(0.5, 0.79, 0.8, 0.81, 0.6), ranged(None, 0.7, 0.85, 0.7, 0.6)
    claim = {"measure": "good_values", "over": "lr", "within": 3}
    row = judged(wide, narrow, **claim, least=2)
    assert (row["verdict"], row["estimate"], row["n"]) == ("holds", 2, SEEDS)
    assert "right diverged: 5 of 25 trainings" in row["note"]
    assert judged(narrow, wide, **claim, least=0)["verdict"] == "fails"
    assert row["compared"] == "dense: number of values of lr within 3 points of the best, left minus right"
    alone = judged(wide, None, **claim, least=3, most=3)
    assert (alone["verdict"], alone["estimate"]) == ("holds", 3)


def test_a_range_that_may_go_on_beyond_its_end_bounds_the_verdict() -> None:
    open_ended, narrow = ranged(0.79, 0.8, 0.81, 0.6), ranged(0.5, 0.85, 0.7, 0.6)
    claim = {"measure": "good_values", "over": "lr", "within": 3}
    row = judged(open_ended, narrow, **claim, least=1)
    assert row["verdict"] == "holds" and "left: good at the end of the values in 5 seeds" in row["note"]
    assert judged(narrow, open_ended, **claim, least=-3)["verdict"] == "undecided"


def looked_at(values: Sequence[float], change: str) -> Study:
    """A study of which an analysis of its dense networks measured this."""
    study = point(accurate(ONE), change, "analyses=[{name: hessian, of: dense}]")
    jobs = [job for job in study.plan if job.kind is Kind.ANALYSIS]
    study.made[measured.__wrapped__] = {  # type: ignore[attr-defined]
        job.key: Measured(job, {"trace": values[job.seed]}, [], []) for job in jobs
    }
    return study


def test_what_analyses_measure_is_compared_between_points() -> None:
    one, other = (2.0, 2.2, 1.9, 2.1, 2.0), (6.0, 6.5, 5.5, 7.0, 6.1)
    left, right = looked_at(one, LEFT), looked_at(other, RIGHT)
    claim = {"analysis": "hessian", "networks": "dense", "value": "trace"}
    row = judged(left, right, **claim, most=-3)
    assert (row["verdict"], row["high"]) == (
        "holds",
        pytest.approx(bounds([a - b for a, b in zip(one, other, strict=True)])[1]),
    )
    assert judged(left, right, **claim, least=0)["verdict"] == "fails"
    row = judged(left, right, **claim, compare="ratio", most=0.5)
    logs = [math.log(a / b) for a, b in zip(one, other, strict=True)]
    assert (row["verdict"], row["high"]) == ("holds", pytest.approx(math.exp(bounds(logs)[1])))
    assert judged(left, right, **claim, compare="ratio", least=1)["verdict"] == "fails"
    negative = judged(left, looked_at((-1.0, *other[1:]), RIGHT), **claim, compare="ratio", most=0.5)
    assert negative["verdict"] == "undecided" and "right: trace is not above 0 in 1 of 5" in negative["note"]


def test_a_difference_of_differences_is_taken_within_each_seed() -> None:
    def make(gain: float, dense: Sequence[float]) -> Make:
        return lambda job: record(job, dense[job.seed] + (gain + 0.001 * job.seed if job.level else 0.0))

    claim = {"column": "ticket", "against": "dense", "densities": [0.5]}
    left, right = point(make(0.03, ONE), LEFT), point(make(0.01, OTHER), RIGHT)
    row = judged(left, right, **claim, least=1)
    assert row["estimate"] == pytest.approx(2) and row["verdict"] == "holds" and len(row.made_from) == 4 * SEEDS
    assert judged(left, right, **claim, most=1)["verdict"] == "fails"
    assert row["compared"] == "ticket against dense: accuracy, points, left minus right"


def test_a_seed_that_is_not_finished_on_one_side_leaves_a_claim_undecided() -> None:
    right = point(accurate(OTHER), RIGHT)
    lacking = next(job.key for job in right.plan if job.kind is Kind.DENSE and job.seed == 2)
    right = Study(right.plan, {key: each for key, each in right.found.items() if key != lacking}, right.store)
    row = judged(point(accurate(ONE), LEFT), right, least=1)
    assert row["verdict"] == "undecided" and "right dense: 4 of 5 seeds finished" in row["note"]
    shares = judged(point(accurate(ONE), LEFT), right, measure="diverged", most=50)
    assert shares["verdict"] == "undecided"


def test_claims_over_points_are_told_with_both_points() -> None:
    (told,) = claims_in_words([judged(point(accurate(ONE), LEFT), point(accurate(OTHER), RIGHT), least=1)])
    assert told.figures[0] == "dense: accuracy, points, left minus right (left a=1; right a=2), claimed at least 1"
