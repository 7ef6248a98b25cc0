"""A tracker that fails, hangs or is slow costs the run nothing but one warning."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery.catalogue.trackers._tracker import Training
from lottery.errors import UsageError
from lottery.runner import execute
from lottery.store.store import Store
from lottery.trackers import feed, sink
from lottery.trackers.sink import Sink
from lottery.trackers.teller import News, Teller
from tests.support.micro import micro
from tests.support.restarts import contents
from tests.support.trackers import Memory, register

STUDY = ("prune.levels=1", "train.evaluate_every=2it")
SETTINGS: dict[str, Any] = {"device": "cpu", "deterministic": True}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the study commits without any tracker."""
    store = tmp_path_factory.mktemp("untracked")
    lottery.run(micro(*STUDY), store=store, **SETTINGS)
    return contents(store)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "lottery"]


@pytest.mark.parametrize("method", ["begin", "log", "end", "close"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SystemExit(1)], ids=["full", "exits"])
def test_a_method_that_raises_costs_one_warning_and_no_result(
    method: str,
    error: BaseException,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fault(called: str, training: Training | None) -> None:
        if called == method:
            raise error

    memory = Memory(fault=fault)
    register(monkeypatch, lambda: memory)
    monkeypatch.setattr(execute, "REPORT_SECONDS", 0.0)
    outcome = lottery.run(micro(*STUDY), store=tmp_path, track="memory", **SETTINGS)
    assert outcome.exit_code == 0 and contents(tmp_path) == expected
    (said,) = warnings(caplog)
    assert said.startswith("tracker memory ") and type(error).__name__ in said
    assert "; it misses numbers of " in said and said.endswith("the same command tells it the rest")


def test_where_it_cannot_say_what_it_has_it_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(called: str, training: Training | None) -> None:
        if called == "has":
            raise ConnectionError("refused")

    memory = Memory(fault=fault)
    register(monkeypatch, lambda: memory)
    recipe = micro("prune.levels=3")  # four trainings
    lottery.run(recipe, store=tmp_path, **SETTINGS)
    lottery.run(recipe, store=tmp_path, track="memory", **SETTINGS)
    assert memory.calls == ["has"] * sink.MOST_FAILURES + ["close"]
    assert len(warnings(caplog)) == 1


def test_what_a_tracker_refused_once_is_told_again_when_the_training_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed: list[str] = []

    def fault(called: str, training: Training | None) -> None:
        if called == "log" and not failed:
            failed.append(called)
            raise ConnectionError("a moment")

    memory = Memory(fault=fault)
    register(monkeypatch, lambda: memory)
    monkeypatch.setattr(execute, "REPORT_SECONDS", 0.0)
    lottery.run(micro(*STUDY), store=tmp_path, track="memory", **SETTINGS)
    assert failed and len(warnings(caplog)) == 1
    assert [told.curve for told in memory.told.values()] == [[0, 2, 4, 6, 8, 10, 12]] * 2
    assert {told.end for told in memory.told.values()} == {"done"}


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets go of what hangs when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_tracker_that_hangs_is_left_behind_with_a_warning(
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    release: threading.Event,
) -> None:
    def fault(called: str, training: Training | None) -> None:
        if called == "log":
            release.wait()

    memory = Memory(fault=fault)
    register(monkeypatch, lambda: memory)
    for name in ("PATIENCE", "HURRY"):
        monkeypatch.setattr(feed, name, 0.05)
    monkeypatch.setattr(sink, "GRACE_SECONDS", 0.05)
    outcome = lottery.run(micro(*STUDY), store=tmp_path, track="memory", **SETTINGS)
    assert outcome.exit_code == 0 and contents(tmp_path) == expected
    (said,) = warnings(caplog)
    assert "has not taken all in time; it misses numbers of adam seed 0 dense and 1 other training;" in said


def test_who_is_told_to_stop_while_only_a_tracker_is_waited_for_leaves_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    def fault(called: str, training: Training | None) -> None:
        if called == "begin":
            assert finishing.wait(10)  # the run has ended
            os.kill(os.getpid(), signal.SIGINT)
            release.wait()

    def finish(self: Sink, seconds: float) -> None:
        finish_now(self, seconds)
        finishing.set()

    finishing, finish_now = threading.Event(), Sink.finish
    monkeypatch.setattr(Sink, "finish", finish)
    register(monkeypatch, lambda: Memory(fault=fault))
    monkeypatch.setattr(sink, "GRACE_SECONDS", 0.05)
    recipe = micro("prune.levels=1")
    lottery.run(recipe, store=tmp_path, **SETTINGS)
    begun = time.monotonic()
    outcome = lottery.run(recipe, store=tmp_path, track="memory", **SETTINGS)  # all of it is done
    assert outcome.exit_code == 0 and time.monotonic() - begun < feed.PATIENCE / 2
    assert len(warnings(caplog)) == 1


def news(number: int, kind: str = "progress") -> News:
    training = Training(f"{number:064x}", "study", f"training {number}", "dense")
    return News(training, "end", kind, [{"step": number, "validation_loss": 1.0}])


def test_no_more_waits_for_a_slow_tracker_than_is_allowed_and_what_goes_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, release: threading.Event
) -> None:
    monkeypatch.setattr(sink, "MOST_WAITING", 5)
    taken = threading.Event()

    def fault(called: str, training: Training | None) -> None:
        if called == "begin":
            taken.set()
            release.wait()

    memory = Memory(fault=fault)
    slow = Sink("memory", Teller(memory, Store(tmp_path)))
    slow.tell(news(0))
    assert taken.wait(10)
    for number in range(1, 100):
        slow.tell(news(number))
    release.set()
    slow.finish(10)
    slow.close(lambda: False)
    assert len(memory.told) == 6
    (said,) = warnings(caplog)
    assert "is too slow or hangs; it misses numbers of training 6 and others;" in said


def test_what_happens_now_is_told_before_what_was_finished_long_ago(tmp_path: Path, release: threading.Event) -> None:
    taken = threading.Event()

    def fault(called: str, training: Training | None) -> None:
        taken.set()
        release.wait()

    memory = Memory(fault=fault)
    waits = Sink("memory", Teller(memory, Store(tmp_path)))
    waits.tell(news(0))
    assert taken.wait(10)
    waits.tell(news(1, "found"))
    waits.tell(news(2))
    release.set()
    waits.finish(10)
    waits.close(lambda: False)
    assert memory.calls == ["begin", "log", "begin", "log", "has", "close"]


def test_a_tracker_that_cannot_be_made_is_warned_of_and_one_that_refuses_its_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def made(*, error: str) -> Memory:
        raise {"usage": UsageError, "other": ConnectionError}[error](f"{error} is wrong")

    register(monkeypatch, made)
    with pytest.raises(UsageError, match=r"^--track memory: usage is wrong$"):
        lottery.run(micro(*STUDY), store=tmp_path, track={"name": "memory", "error": "usage"}, **SETTINGS)
    assert not list(tmp_path.iterdir()) and not warnings(caplog)
    outcome = lottery.run(micro(*STUDY), store=tmp_path, track={"name": "memory", "error": "other"}, **SETTINGS)
    assert outcome.exit_code == 0
    assert warnings(caplog) == [
        "tracker memory cannot be used: ConnectionError: other is wrong; it is told nothing of this run"
    ]
