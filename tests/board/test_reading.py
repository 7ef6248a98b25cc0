"""What is read of a store for its board: all that is new, whatever else happens to the files meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lottery.board import live, reading
from lottery.board.curves import drawn
from lottery.board.live import Progress
from lottery.board.reading import Reader, Snapshot
from lottery.plan.kinds import STATE_VALUES_FILE
from lottery.store.read_only import read_only_store
from lottery.store.store import Store
from tests.support.boards import contents, finish, finish_many, key_of, progress
from tests.support.clocks import Clock

Look = Callable[[], Snapshot]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def look(store: Store) -> Look:
    return Reader(read_only_store(store.root)).look


def curve(found: Snapshot, name: str = "validation_accuracy") -> list[tuple[int, float]]:
    (job,) = found.running
    return [(step, values[name]) for step, values in job.progress.curve if name in values]


def test_a_store_that_is_not_there_has_nothing(look: Look) -> None:
    assert look() == Snapshot()


def test_a_job_that_the_log_calls_done_is_there_at_the_next_look(store: Store, look: Look) -> None:
    look()
    key = finish(store, 1, "adam: dense, seed 0")
    store.log("done", key=key, label="adam: dense, seed 0")
    assert look().finished[key].label == "adam: dense, seed 0"


def test_a_job_that_no_log_tells_of_is_found_by_the_next_listing(store: Store, look: Look, clock: Clock) -> None:
    look()
    key = finish(store, 1)
    assert key not in look().keys
    clock.advance(reading.LIST_SECONDS + 1)
    assert key in look().finished


def test_many_jobs_are_read_little_by_little(store: Store, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = finish_many(store, 120)
    monkeypatch.setattr(reading, "READ_SECONDS", -1.0)
    assert look().unread == 120
    monkeypatch.setattr(reading, "READ_SECONDS", 60.0)
    found = look()
    assert found.finished.keys() == set(keys) == found.keys
    assert found.unread == 0


def test_a_job_that_is_removed_is_gone_at_the_next_listing(store: Store, look: Look, clock: Clock) -> None:
    keep, drop = finish(store, 1), finish(store, 2)
    assert look().finished.keys() == {keep, drop}
    shutil.rmtree(store.folder(drop))
    clock.advance(reading.LIST_SECONDS + 1)
    found = look()
    assert found.finished.keys() == {keep} == found.keys


def test_a_manifest_that_is_half_there_is_told_and_left_alone(store: Store, look: Look, clock: Clock) -> None:
    key = finish(store, 1)
    path = store.folder(key) / "manifest.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    before = contents(store.root)
    found = look()
    assert list(found.damaged) == [key]
    assert found.unread == 0
    assert contents(store.root) == before
    path.write_bytes(whole)
    clock.advance(reading.LIST_SECONDS + 1)
    assert look().finished.keys() == {key}


def test_the_curve_of_a_running_job_grows_by_what_its_process_logs(store: Store, look: Look) -> None:
    key = key_of(1)
    with store.lease(key):
        progress(store, key, 10, "adam: dense", train_loss=2.0, validation_accuracy=0.5)
        first = look()
        progress(store, key, 20, "adam: dense", train_loss=1.0, validation_accuracy=0.75)
        second = look()
    assert curve(first) == [(10, 0.5)]
    assert curve(second) == [(10, 0.5), (20, 0.75)]
    (job,) = second.running
    assert job.label == "adam: dense"
    assert job.holder.startswith("process ")
    assert (job.progress.step, job.progress.total) == (20, 100)
    assert job.progress.seconds_left == pytest.approx(8.0)


def test_what_was_logged_before_the_board_was_started_is_in_the_curve(store: Store) -> None:
    key = key_of(1)
    with store.lease(key):
        progress(store, key, 10, validation_accuracy=0.5)
        late = Reader(read_only_store(store.root)).look()
    assert curve(late) == [(10, 0.5)]


def test_the_curve_of_earlier_sessions_is_read_from_the_checkpoint(store: Store, look: Look) -> None:
    key = key_of(1)
    state = b'{"training": {"curve": [{"step": 5, "validation_accuracy": 0.25}, {"step": 10, "train_loss": null}]}}'
    store.save_checkpoint(key, 10, {STATE_VALUES_FILE: state})
    with store.lease(key):
        progress(store, key, 20, validation_accuracy=0.5)
        assert curve(look()) == [(5, 0.25), (20, 0.5)]


def test_a_training_that_starts_again_does_not_go_back_in_its_curve(store: Store, look: Look) -> None:
    key = key_of(1)
    with store.lease(key):
        look()
        for step, accuracy in ((10, 0.5), (20, 0.6), (10, 0.55)):
            progress(store, key, step, validation_accuracy=accuracy)
        assert curve(look()) == [(10, 0.55)]


def test_long_curves_are_thinned_and_keep_both_ends(store: Store, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_POINTS", 10)
    key = key_of(1)
    with store.lease(key):
        look()
        for step in range(1, 100):
            progress(store, key, step, train_loss=1 / step)
        steps = [step for step, _ in curve(look(), "train_loss")]
    assert len(steps) <= 10
    assert (steps[0], steps[-1]) == (1, 99)


def test_lines_that_are_no_progress_do_no_harm(store: Store, look: Look) -> None:
    key = key_of(1)
    with store.lease(key):
        look()
        store.log("progress", key=key, label="a job", about={"step": float("nan"), "row": []})
        store.log("progress", key=key, label=["a list"], about=None)
        (job,) = look().running
    assert job.progress == Progress()


def test_a_failure_has_its_traceback_and_is_gone_when_the_job_runs_again(store: Store, look: Look) -> None:
    key = key_of(1)
    store.record_failure(key, label="adam: dense", message="ValueError: no\nTraceback ...\n  at line 7")
    (failure,) = look().failures
    assert failure.first_line == "ValueError: no"
    assert "line 7" in failure.told
    with store.lease(key):
        assert look().failures == ()


def test_another_failure_of_the_same_length_is_told(store: Store, look: Look) -> None:
    key = key_of(1)
    store.record_failure(key, label="a", message="one")
    look()
    (store.root / "failures" / f"{key}.json").write_text(
        (store.root / "failures" / f"{key}.json").read_text().replace('"one"', '"two"')
    )
    store.log("failed", key=key, label="a", message="two")
    (failure,) = look().failures
    assert failure.first_line == "two"


def test_a_checkpoint_that_nobody_works_on_is_an_interrupted_job(store: Store, look: Look) -> None:
    store.save_checkpoint(key_of(1), 10, {"a": b""})
    assert look().interrupted == (key_of(1),)


def test_two_curves_are_drawn_of_what_was_measured() -> None:
    points = ((0, {"train_loss": 2.0}), (50, {"train_loss": 1.0, "validation_accuracy": 0.5}))
    accuracy, loss = drawn(Progress(total=100, curve=points))
    assert (accuracy.words, accuracy.last, accuracy.points) == ("validation accuracy", "50.00 %", "50,15")
    assert (loss.words, loss.points) == ("training loss", "0,1 50,29")
    assert (loss.between, loss.count) == ("1 to 2", 2)
    assert accuracy.between == ""


def test_nothing_is_drawn_of_a_training_that_has_just_begun() -> None:
    assert drawn(Progress()) == []
