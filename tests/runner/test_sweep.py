"""A sweep is run as its points one by one are: each shared job once, stopped and gone on with, in several processes."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery.errors import Interrupted, RecipeError
from lottery.recipe.sweep import Sweep, parse_sweep
from lottery.results.sweep import swept_study
from lottery.runner.events import Event, SweptOutcome
from tests.support.forked import register_forked
from tests.support.micro import MICRO
from tests.support.restarts import contents

NORMS = MICRO + "sweep: {model.norm: [none, batch], prune.levels: [1, 2]}\n"


def sweep(text: str = NORMS, *overrides: str) -> Sweep:
    return parse_sweep(text, "micro.yaml", overrides)


def run(swept: Sweep, store: Path, **options: Any) -> SweptOutcome:
    """Run a sweep on the CPU, deterministic."""
    return lottery.run(swept, store=store, data=store, device="cpu", deterministic=True, **options)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the points of NORMS commit where each is run by itself."""
    store = tmp_path_factory.mktemp("quiet")
    for point in sweep().points:
        lottery.run(point.recipe, store=store, data=store, device="cpu", deterministic=True)
    return contents(store)


def test_a_sweep_commits_what_its_points_do_and_trains_what_they_share_once(
    tmp_path: Path, quiet: dict[str, bytes]
) -> None:
    started: list[Event] = []
    outcome = run(sweep(), tmp_path, on_event=lambda event: started.append(event) if event.kind == "start" else None)
    assert contents(tmp_path) == quiet
    assert len(started) == outcome.total == outcome.count("done") == 8  # of 14: levels 1 and 2 share all but one
    assert outcome.exit_code == 0
    assert [len(point.plan) for point in outcome.points] == [3, 4, 3, 4]
    assert all(point.exit_code == 0 for point in outcome.points)
    assert {event.label.partition(": ")[0] for event in started} == {point.label for point in sweep().points}


def test_a_sweep_that_is_stopped_in_the_middle_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, quiet: dict[str, bytes]
) -> None:
    done: list[str] = []

    def stop(event: Event) -> None:
        done.extend([event.key] * (event.kind == "done"))
        if len(done) == 5 and event.kind == "start":  # in the middle of a job of the third point
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        run(sweep(), tmp_path, on_event=stop, checkpoint_seconds=0)
    assert 0 < len(contents(tmp_path)) < len(quiet)
    outcome = run(sweep(), tmp_path)
    assert contents(tmp_path) == quiet
    assert (outcome.count("done"), outcome.count("found")) == (3, 5)


@pytest.mark.parametrize("way", [pytest.param("two processes", marks=pytest.mark.slow), "workers of an executor"])
def test_a_sweep_gives_the_same_bytes_wherever_it_is_run(
    way: str, tmp_path: Path, quiet: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    register_forked(monkeypatch)
    options: dict[str, Any] = {"jobs": 2} if way == "two processes" else {"on": "forked"}
    outcome = run(sweep(), tmp_path, **options)
    assert contents(tmp_path) == quiet
    assert (outcome.exit_code, outcome.count("done")) == (0, 8)
    narrow = run(sweep().at(["prune.levels=2"]), tmp_path, **options)
    assert (narrow.exit_code, narrow.count("found"), narrow.total) == (0, 8, 8)


def test_nothing_is_trained_where_one_point_cannot_be_and_every_such_point_is_named(tmp_path: Path) -> None:
    text = MICRO + "sweep: {train.batch_size: [50, 100, 200]}\n"
    with pytest.raises(RecipeError) as caught:
        run(sweep(text, "rewind=20it", "train.length=1ep", "train.evaluate_every=1ep"), tmp_path)
    assert [line.partition(": ")[2].partition(": ")[0] for line in caught.value.problems] == [
        "train.batch_size=100",
        "train.batch_size=200",
    ]
    assert not (tmp_path / "jobs").exists() or not contents(tmp_path)


def test_data_may_be_swept_each_with_its_fingerprint(tmp_path: Path) -> None:
    together = (
        "data: [digits, {name: matrix_factorization, size: 12, rank: 2}], model: [lenet, {name: deep_linear, width: 4}]"
    )
    text = MICRO + f"sweep: {{zip: {{{together}}}}}\n"
    outcome = run(sweep(text, "prune.levels=0"), tmp_path)
    prints = [point.plan.fingerprint for point in outcome.points]
    assert (len(set(prints)), outcome.exit_code) == (2, 0)
    found = swept_study(sweep(text, "prune.levels=0"), store=tmp_path)  # the store knows both data sets
    assert (found.missing, [study.plan.fingerprint for study in found.studies]) == (0, prints)


@pytest.mark.slow
def test_tuned_rates_analyses_and_growing_levels_work_inside_points(tmp_path: Path) -> None:
    text = MICRO + "sweep: {model.norm: [none, batch]}\n"
    tuned = ["tune={trials: 2}", "train.optimizer=[{name: adam}]", "analyses=[{name: slice, of: dense, points: 5}]"]
    outcome = run(sweep(text, *tuned, "prune.levels=1", "branches=[reinit]"), tmp_path)
    assert (outcome.exit_code, outcome.messages) == (0, [])
    kinds = [{job.kind.value for job in point.plan} for point in outcome.points]
    assert kinds[0] == kinds[1] >= {"trial", "choice", "dense", "ticket", "branch", "analysis"}
    rates = lottery.table(sweep(text, *tuned, "prune.levels=1", "branches=[reinit]"), store=tmp_path, view="rates")
    assert list(rates.columns[:1]) == ["model.norm"]
    assert list(dict.fromkeys(rates["model.norm"])) == ["none", "batch"]
    grows = ["prune={fraction: 0.5, levels: auto, frontier: {most_levels: 2, first_seeds: 3}}", "compare={margin: 99}"]
    plans: list[int] = []
    grown = run(sweep(text, *grows, "seeds=3"), tmp_path, on_plan=lambda plan: plans.append(len(plan)))
    assert grown.exit_code == 0
    assert plans == sorted(plans) and plans[-1] == grown.total > plans[0]


@pytest.mark.slow
def test_two_ranks_train_the_points_one_after_the_other(tmp_path: Path) -> None:
    (recipe := tmp_path / "swept.yaml").write_text(NORMS)
    command = [
        sys.executable,
        "-m",
        "lottery",
        "run",
        str(recipe),
        "--store",
        str(tmp_path / "store"),
        "--device",
        "cpu",
    ]
    ran = subprocess.run([*command, "--ranks", "2"], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines()[-1] == "8 done"
    found = swept_study(sweep(), store=tmp_path / "store")
    assert not found.missing
    assert {record.manifest.environment.get("ranks") for each in found.studies for record in each.found.values()} == {2}


def test_a_job_that_diverges_is_told_of_once_with_the_first_point_that_has_it(tmp_path: Path) -> None:
    text = MICRO + "sweep: {prune.levels: [1, 2]}\n"
    outcome = run(sweep(text, "train.optimizer={name: sgd, lr: 1e30}"), tmp_path)
    assert outcome.exit_code == 1
    assert [line.partition(": ")[0] for line in outcome.messages] == ["prune.levels=1"]
    assert all(point.count("diverged") == 1 for point in outcome.points)


def test_what_points_are_warned_of_alike_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="lottery"):
        run(sweep(MICRO + "sweep: {prune.levels: [0, 1]}\n", "data.limit=8", "train.batch_size=4"), tmp_path)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "leaves no training example of class" in warning
