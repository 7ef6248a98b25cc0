"""A store that is only looked at: it shows what any other shows, and nothing of it changes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lottery.errors import DamagedFile, MachineError
from lottery.files import write
from lottery.store.notes import remember
from lottery.store.place import Place
from lottery.store.read_only import READS, REFUSED, read_only_store
from lottery.store.store import Store
from tests.support.boards import contents, finish
from tests.support.clocks import Clock

KEY = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_each_method_of_a_place_is_known_to_read_or_refused() -> None:
    methods = {name for name in vars(Place) if not name.startswith("_")}
    assert methods == READS | REFUSED | {"leases", "put_aside"}
    assert not READS & REFUSED


def test_finished_jobs_are_read_as_in_any_store(store: Store) -> None:
    key = finish(store, 1)
    looked = read_only_store(store.root)
    assert looked.find(key) == store.find(key)
    assert looked.read(key, "metrics.json") == b"{}"
    assert list(looked.keys()) == [key]


def test_a_damaged_job_is_missing_and_stays_where_it_is(store: Store) -> None:
    key = finish(store, 1)
    (store.folder(key) / "metrics.json").write_bytes(b"{} ")
    before = contents(store.root)
    looked = read_only_store(store.root)
    assert looked.find(key) is None
    with pytest.raises(DamagedFile):
        looked.read(key, "metrics.json")
    assert contents(store.root) == before


def test_what_would_write_is_refused_and_leaves_no_trace(store: Store) -> None:
    finish(store, 1)
    before = contents(store.root)
    looked = read_only_store(store.root)
    remember(looked, "kind", "name", {"a": 1})
    looked.log("event")
    with pytest.raises(MachineError, match="only looked at"):
        looked.commit(KEY, {"a": b""}, kind="dense")
    with pytest.raises(MachineError, match="only looked at"):
        looked.record_failure(KEY, label="", message="")
    with looked.lease(KEY) as mine:
        assert not mine
    assert contents(store.root) == before


def test_a_lease_is_seen_without_a_file_being_made_to_ask_for_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.lease(KEY):
        monkeypatch.setattr("lottery.files.clock.tempfile", None)
        assert read_only_store(store.root).leases.held() == {KEY: f"process {os.getpid()} on {os.uname().nodename}"}


def test_a_lease_of_another_machine_with_a_slow_clock_is_seen_once_it_has_beaten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = read_only_store(store.root)
    monkeypatch.setattr("lottery.store.leases._names_here", lambda: set())
    with store.lease(KEY):
        path = next((store.root / "leases").glob("*.lease"))
        os.utime(path, (time.time() - 1000, time.time() - 1000))
        assert looked.leases.held() == {}
        os.utime(path, (time.time() - 990, time.time() - 990))
        assert list(looked.leases.held()) == [KEY]


def test_a_lease_that_beats_no_more_is_gone_after_twice_its_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    looked = read_only_store(store.root)
    monkeypatch.setattr("lottery.store.leases._names_here", lambda: set())
    with store.lease(KEY, duration=10_000):
        path = next((store.root / "leases").glob("*.lease"))
        text = path.read_bytes()
        aside = path.with_name("x")
        write.write_atomic(aside, text)  # nobody beats for this one
        os.replace(aside, path)
        ahead = time.time() + 50_000
        os.utime(path, (ahead, ahead))  # of a clock that is far ahead
        assert list(looked.leases.held()) == [KEY]
        clock.advance(8_000)
        assert looked.leases.held() == {}
