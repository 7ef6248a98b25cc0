"""The log of all processes, read as it grows, and what is made of lines that nobody vouches for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lottery.executors.news import event_of
from lottery.store import event_log
from lottery.store.event_log import EventLog
from lottery.store.store import Store

KEY = "ab" * 32


def said(log: EventLog) -> list[str]:
    return [entry["event"] for entry in log.read()]


def test_what_is_logged_after_the_first_look_is_read_once_from_each_process(tmp_path: Path) -> None:
    old, new = Store(tmp_path), Store(tmp_path)
    old.log("before")
    log = EventLog(Store(tmp_path))
    assert said(log) == []
    old.log("first")
    new.log("second", key=KEY)
    assert sorted(said(log)) == ["first", "second"]
    old.log("third")
    assert said(log) == ["third"]
    assert said(log) == []


def test_half_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    log, path = EventLog(Store(tmp_path)), tmp_path / "events" / "other-1-2.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"event": "one"}\n{"event": "tw')
    assert said(log) == ["one"]
    with path.open("ab") as file:
        file.write(b'o"}\n')
    assert said(log) == ["two"]


def test_what_is_no_line_of_json_is_passed_over_and_nothing_but_a_file_is_read(tmp_path: Path) -> None:
    log, folder = EventLog(Store(tmp_path)), tmp_path / "events"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(b'{"event": "secret"}\n')
    (folder / "link.jsonl").symlink_to(secret)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "a.jsonl").write_bytes(
        b'\xff\xfe\n[1, 2]\nnull\n{"event": \n\n' + b"[" * 99_999 + b'\n{"event": "good"}\n'
    )
    assert said(log) == ["good"]


def test_a_file_without_an_end_of_line_is_read_in_bounded_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MOST_BYTES", 64)
    log, path = EventLog(Store(tmp_path)), tmp_path / "events" / "a.jsonl"
    path.parent.mkdir()
    path.write_bytes(b"x" * 200 + b'\n{"event": "good"}\n')
    assert [event for _ in range(5) for event in said(log)] == ["good"]


def test_a_log_that_has_not_grown_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, opened = Store(tmp_path), list[str]()
    store.log("before")
    log, original = EventLog(store), store.place.tail

    def counting(path: str, offset: int, most: int) -> bytes:
        opened.append(path)
        return original(path, offset, most)

    monkeypatch.setattr(store.place, "tail", counting)
    assert [said(log) for _ in range(100)] == [[]] * 100
    assert opened == []
    store.log("after")
    assert said(log) == ["after"] and len(opened) == 1


PROGRESS = {"step": 5, "first": 0, "total": 9, "seconds": 1.5, "images_per_second": 9.0, "row": {"train_loss": 0.5}}
WRONG: list[dict[str, Any]] = [
    {"event": "done", "key": "../../etc/passwd", "label": "x"},
    {"event": "done", "key": KEY},
    {"event": "done", "key": KEY, "label": ["x"]},
    {"event": ["done"], "key": KEY, "label": "x"},
    {"event": "left", "key": KEY, "label": "x"},
    {"event": "progress", "key": KEY, "label": "x"},
    {"event": "progress", "key": KEY, "label": "x", "about": {**PROGRESS, "step": "5"}},
    {"event": "progress", "key": KEY, "label": "x", "about": {**PROGRESS, "total": float("nan")}},
    {"event": "progress", "key": KEY, "label": "x", "about": {**PROGRESS, "row": [1]}},
]


@pytest.mark.parametrize("entry", WRONG, ids=json.dumps)
def test_a_line_that_is_no_event_of_a_job_is_none(entry: dict[str, Any]) -> None:
    assert event_of(entry) is None


def test_events_are_taken_from_lines_with_nothing_beside_what_is_known() -> None:
    about = {**PROGRESS, "row": {"train_loss": 0.5, "validation_accuracy": "high", "other": 1}, "other": [1]}
    event = event_of({"event": "progress", "key": KEY, "label": "x", "about": about, "time": "?"})
    assert event is not None and event.about == {**PROGRESS, "rows": []}
    event = event_of({"event": "failed", "key": KEY, "label": "x", "message": "boom", "seconds": True})
    assert event is not None and event.about == {"message": "boom"}
