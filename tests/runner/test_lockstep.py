"""A run with `lockstep`: jobs are begun together and stepped as one, and end, are saved and committed as any."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery.analysis.costs import rows
from lottery.errors import RecipeError, UsageError
from lottery.files.tensors import part
from lottery.plan.kinds import Kind
from lottery.recipe.schema import Recipe
from lottery.results.artifacts import read_state
from lottery.results.record import Record, records
from lottery.results.study import study_of
from lottery.runner import step_times
from lottery.runner.events import Request
from lottery.runner.parallelism import _need
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from tests.support.micro import micro
from tests.support.restarts import contents, run_until_stopped

STUDY = (
    "train.optimizer=[{name: adam, lr: 3e-3}, {name: momentum, lr: 0.05}]",
    "train.batch_size=50",
    "train.length=40it",
    "train.evaluate_every=10it",
    "train.schedule=cosine",
    "prune={scope: layer, fraction: 0.4, levels: 2}",
    "rewind=15it",
    "branches=[reinit]",
    "seeds=2",
)


def recipe(*changes: str) -> Recipe:
    return micro(*STUDY, *changes)


def request(store: Path, *changes: str, **options: Any) -> Request:
    return Request(recipe(*changes), store, store, device="cpu", **{"lockstep": 3, **options})


def found(asked: Request) -> dict[str, Record]:
    return dict(records(prepare(asked).plan, Store(asked.store)))


def test_jobs_in_lockstep_have_the_curves_that_each_has_alone(tmp_path: Path) -> None:
    list(work(prepare(request(tmp_path / "dense", "train.engine=dense", lockstep=1))))
    events = [event for event in work(prepare(request(tmp_path / "lockstep"))) if event.kind in ("start", "done")]
    assert [event.kind for event in events[:6]] == ["start"] * 3 + ["done"] * 3
    dense, together = found(request(tmp_path / "dense")), found(request(tmp_path / "lockstep"))
    assert dense.keys() == together.keys() and len(dense) > 12
    for key, alone in dense.items():
        curves = [
            [(row["step"], row["validation_loss"]) for row in each.metrics["curve"]] for each in (together[key], alone)
        ]
        assert curves[0] == [pytest.approx(row, rel=1e-3) for row in curves[1]]
    assert {engine for each in together.values() for engine in each.manifest.engines} == {"lockstep"}


def test_a_run_in_lockstep_that_is_stopped_anywhere_goes_on_from_there(tmp_path: Path) -> None:
    list(work(prepare(request(tmp_path / "whole"))))
    stopped = request(tmp_path / "stopped", checkpoint_seconds=0)
    for steps in (17, 110):
        run_until_stopped(stopped, steps)
        assert len(list((tmp_path / "stopped" / "partial").iterdir())) == 3  # none of those begun together is lost
    list(work(prepare(stopped)))
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_a_job_that_diverges_leaves_the_others_of_its_cohort_as_they_are_without_it(tmp_path: Path) -> None:
    rates = "train.optimizer=[{name: momentum, lr: 0.05}, {name: momentum, lr: 1.0e+30}]"
    well = "train.optimizer={name: momentum, lr: 0.05}"
    list(work(prepare(request(tmp_path / "well", well))))
    events = list(work(prepare(request(tmp_path / "broken", rates, lockstep=4))))
    assert "diverged" in {event.kind for event in events}
    broken = found(request(tmp_path / "broken", rates))
    for key, alone in found(request(tmp_path / "well", well)).items():
        assert broken[key].metrics == alone.metrics


@pytest.mark.parametrize(
    ("changes", "options", "why"),
    [
        ((), {"deterministic": True}, "--lockstep 3: .* leave out --deterministic"),
        (("train.engine=sparse",), {}, "--lockstep 3: is an engine, and so is train.engine: sparse"),
        (("model={name: lenet, norm: batch}",), {}, "--lockstep 3: trains networks without normalization"),
        (("train.clip=1.0",), {}, "--lockstep 3: knows no train.clip"),
    ],
)
def test_what_cannot_be_run_in_lockstep_is_refused_before_any_training(
    tmp_path: Path, changes: tuple[str, ...], options: dict[str, Any], why: str
) -> None:
    with pytest.raises((UsageError, RecipeError), match=why):
        prepare(request(tmp_path, *changes, **options))


def test_the_state_of_a_rewind_point_has_the_generators_that_it_has_alone(tmp_path: Path) -> None:
    states = []
    for name, lockstep in (("alone", 1), ("together", 3)):
        asked = request(tmp_path / name, "train.engine=auto", lockstep=lockstep)
        list(work(context := prepare(asked)))
        keys = [job.key for job in context.plan if job.kind is Kind.REWIND]
        states.append([part(read_state(context.store, key)[0], "rng/") for key in keys])
    assert len(states[0]) == 4
    assert all(torch.equal(one["cpu"], other["cpu"]) for one, other in zip(*states, strict=True))


def test_seconds_of_jobs_in_lockstep_add_up_to_those_of_the_run(tmp_path: Path) -> None:
    context = prepare(request(tmp_path, "train.length=200it", "branches="))
    began = time.monotonic()
    list(work(context))
    took = time.monotonic() - began
    manifests = [context.store.find(job.key) for job in context.plan]
    seconds = [manifest.seconds for manifest in manifests if manifest is not None]
    assert len(seconds) == len(manifests) and all(each > 0 for each in seconds)
    assert took / 2 < sum(seconds) <= took


def test_seconds_of_jobs_in_lockstep_are_not_taken_for_those_of_a_training_alone(tmp_path: Path) -> None:
    list(work(context := prepare(request(tmp_path, "train.optimizer={name: momentum, lr: 0.05}", "branches="))))
    notes = {str(row["note"]) for row in rows(study_of(context.plan, context.store))}
    assert all("seconds in lockstep" in note for note in notes)
    dense = next(job for job in context.plan if job.kind is Kind.DENSE)
    assert step_times.OtherJobs(context.store, context.machine).seconds(context, dense) is None


def test_networks_in_lockstep_are_tried_for_the_memory_that_a_process_needs(tmp_path: Path) -> None:
    sizes = ("model={name: lenet, widths: [2000, 1000]}", "branches=")  # 10 MB each, with its state three times as much
    few, many = (_need(prepare(request(tmp_path, *sizes, lockstep=number))) for number in (1, 8))
    assert many > few + 5 * 10_000_000
