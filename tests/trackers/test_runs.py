"""A run tells its trackers what the store has of it, once, however it is run, stopped and continued."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery.errors import Interrupted
from lottery.runner import execute
from lottery.runner.events import Event
from tests.support import ROOT
from tests.support.calls import Call, call
from tests.support.forked import register_forked
from tests.support.micro import micro, micro_text
from tests.support.plugs import Plugs, plugs
from tests.support.trackers import Memory, Told, register

__all__ = ["call", "plugs"]

STUDY = ("branches=[reinit]", "rewind=4it", "prune.levels=1")
TRAININGS = 3  # dense, ticket, control; the rewind point is the beginning of the dense network's
SETTINGS: dict[str, Any] = {"device": "cpu", "deterministic": True, "track": "memory"}


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    made = Memory()
    register(monkeypatch, lambda: made)
    monkeypatch.setattr(execute, "REPORT_SECONDS", 0.0)
    return made


def stored(store: Path) -> dict[str, dict[str, Any]]:
    """The metrics of each finished training by its key, read without the package."""
    found = {path.parent.name: json.loads(path.read_bytes()) for path in store.glob("jobs/*/*/metrics.json")}
    return {key: metrics for key, metrics in found.items() if "curve" in metrics}


def check(memory: Memory, store: Path) -> None:
    """What was told is what lies in the store, each step once and in order."""
    assert memory.told.keys() == stored(store).keys()
    for key, metrics in stored(store).items():
        told, curve = memory.told[key], metrics["curve"]
        assert told.curve == [row["step"] for row in curve]
        assert told.series("validation/accuracy") == [(row["step"], row["validation_accuracy"]) for row in curve]
        losses = [(row["step"], row["train_loss"]) for row in curve if row["train_loss"] is not None]
        assert told.series("train/loss") == losses
        read = metrics["best_accuracy"]  # what the study reports
        assert told.series("test/accuracy") == [(read["step"], read["test_accuracy"])]
        assert told.series("test/loss") == [(read["step"], read["test_loss"])]
        assert told.series("density") == [(curve[-1]["step"], metrics["density"])]
        assert (told.end, told.summary["test/accuracy"]) == ("done", read["test_accuracy"])


def by_kind(memory: Memory) -> dict[str, Told]:
    return {told.training.kind: told for told in memory.told.values()}


def test_each_training_is_told_as_the_store_has_it(memory: Memory, tmp_path: Path) -> None:
    lottery.run(micro(*STUDY), store=tmp_path, **SETTINGS)
    assert len(memory.told) == TRAININGS and memory.closed == 1
    check(memory, tmp_path)
    about = {kind: told.training.config for kind, told in by_kind(memory).items()}
    assert {kind: (config["level"], config.get("control")) for kind, config in about.items()} == {
        "dense": (0, None),
        "ticket": (1, None),
        "branch": (1, "reinit"),
    }
    assert all(told.training.config["key"] == key for key, told in memory.told.items())


def test_what_was_finished_before_is_told_as_well_and_only_once(memory: Memory, tmp_path: Path) -> None:
    lottery.run(micro(*STUDY), store=tmp_path, **{**SETTINGS, "track": ()})
    assert not memory.calls
    lottery.run(micro(*STUDY), store=tmp_path, **SETTINGS)
    check(memory, tmp_path)
    before = memory.calls.count("log")
    lottery.run(micro(*STUDY), store=tmp_path, **SETTINGS)
    assert memory.calls.count("log") == before


@pytest.mark.parametrize("replaces", [False, True])
def test_a_run_that_is_stopped_in_a_training_and_continued_tells_no_step_twice(
    memory: Memory, tmp_path: Path, replaces: bool
) -> None:
    memory.replaces = replaces
    steps = 0

    def stops(event: Event) -> None:
        nonlocal steps
        steps += event.kind == "progress" and " level 1" in event.label
        if steps == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = micro(*STUDY, "train.length=20it", "train.evaluate_every=1it")
    with pytest.raises(Interrupted):
        lottery.run(recipe, store=tmp_path, on_event=stops, **SETTINGS)
    (half,) = [told for told in memory.told.values() if told.end is None]
    assert 0 < len(half.curve) < 17
    lottery.run(recipe, store=tmp_path, **SETTINGS)
    check(memory, tmp_path)


def test_steps_that_a_killed_run_told_after_its_last_checkpoint_are_not_told_again(
    memory: Memory, tmp_path: Path
) -> None:
    """The checkpoint is older than what was told: nothing was saved at all, and all was told but the end."""

    class Killed(BaseException):
        pass

    def dies(event: Event) -> None:
        if event.kind == "progress" and event.about["step"] == 10 and " level 1" in event.label:
            raise Killed

    recipe = micro(*STUDY, "train.length=20it", "train.evaluate_every=1it")
    with pytest.raises(Killed):
        lottery.run(recipe, store=tmp_path, on_event=dies, **SETTINGS)
    (half,) = [told for told in memory.told.values() if told.end is None]
    assert half.curve[-1] == 10
    lottery.run(recipe, store=tmp_path, **SETTINGS)
    check(memory, tmp_path)


def test_workers_of_an_executor_are_told_of_by_the_command_that_started_them_as_they_train(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_forked(monkeypatch)
    monkeypatch.setattr("lottery.runner.run.TELL_SECONDS", 0.0)
    rows: list[dict[str, Any]] = []
    outcome = lottery.run(
        micro(*STUDY, "train.evaluate_every=1it"),
        store=tmp_path,
        on="forked",
        on_event=lambda event: rows.extend(event.about.get("rows", ())),
        **SETTINGS,
    )
    assert outcome.exit_code == 0
    assert len(rows) > TRAININGS * 10 and rows[-1].keys() >= {"step", "train_loss", "validation_loss"}
    check(memory, tmp_path)


def test_each_of_several_workers_tells_what_it_trains_itself(memory: Memory, tmp_path: Path, call: Call) -> None:
    (tmp_path / "micro.yaml").write_text(micro_text(*STUDY))
    work = ("work", tmp_path / "micro.yaml", "--store", tmp_path / "store", "--device", "cpu", "--track", "memory")
    assert call(*work, "--max-jobs", 2).code == 0
    first = set(memory.told)
    assert len(first) == 1  # the other job was the rewind point
    assert call(*work).code == 0
    assert memory.calls.count("begin") == TRAININGS and "has" not in memory.calls
    check(memory, tmp_path / "store")


def test_a_sweep_tells_a_training_that_its_points_share_once(memory: Memory, tmp_path: Path) -> None:
    sweep = lottery.load_sweep(_swept(tmp_path))
    lottery.run(sweep, store=tmp_path / "store", **SETTINGS)
    check(memory, tmp_path / "store")
    names = [told.training.name for told in memory.told.values()]
    assert len(names) == len(set(names)) == 3
    assert memory.calls.count("begin") == 3


def _swept(folder: Path) -> Path:
    (path := folder / "swept.yaml").write_text(micro_text("prune.levels=1") + "sweep: {prune.fraction: [0.5, 0.75]}\n")
    return path


def test_a_diverged_training_is_told_as_that_with_the_rows_it_has(memory: Memory, tmp_path: Path) -> None:
    recipe = micro("train.optimizer={name: sgd, lr: 1e30}", "prune.levels=1", "train.length=40it")
    lottery.run(recipe, store=tmp_path, **SETTINGS)
    dense = by_kind(memory)["dense"]
    (metrics,) = [each for key, each in stored(tmp_path).items() if key == dense.training.key]
    assert (dense.end, dense.summary["diverged_at"]) == ("diverged", metrics["diverged"])
    assert dense.curve == [row["step"] for row in metrics["curve"]]


def test_the_tracker_of_the_documentation_takes_a_run_as_it_stands(plugs: Plugs) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "trackers.md").read_text("utf-8"), re.DOTALL)
    plugs.write("mytracker.py", code)
    track = "{name: jsonl, file: all.jsonl}"
    lottery.run(micro(*STUDY), store="store", plugins=["mytracker"], **{**SETTINGS, "track": track})
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    ends = {line["key"]: line["test/accuracy"] for line in lines if line.get("end") == "done"}
    assert ends == {key: metrics["best_accuracy"]["test_accuracy"] for key, metrics in stored(Path("store")).items()}


@pytest.mark.slow
def test_processes_are_told_of_by_the_command_that_started_them(memory: Memory, tmp_path: Path) -> None:
    recipe = micro(*STUDY, "seeds=2")
    assert lottery.run(recipe, store=tmp_path, jobs=2, **SETTINGS).exit_code == 0
    assert len(memory.told) == 2 * TRAININGS
    check(memory, tmp_path)
