"""One set of tests over all places of a store: a folder, and object stores in memory, on a disk and over HTTP.

Only what separate processes do is left out for the two that other processes cannot reach: the memory of this one, and
obstore's store in a folder, whose compare-and-set is made up by the tests.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lottery.errors import DamagedFile, MachineError, Nondeterminism, UsageError
from lottery.store.maintenance import collect, find_garbage, summarize
from lottery.store.manifest import Manifest
from lottery.store.notes import recall, remember
from lottery.store.store import Store
from tests.support.faults import Crash, Disk, crash_after, crash_before, crash_within, refuses
from tests.support.places import KINDS, Ground, ground, look_always
from tests.support.stored import FILES, KEY, OTHER, bytes_of, commit


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    look_always(monkeypatch)
    with ground(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=[pytest.param(kind, marks=() if kind == "http" else pytest.mark.slow) for kind in KINDS])
def tried(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    """A place for long loops; over HTTP at every run, as in test_store.py in a folder."""
    look_always(monkeypatch)
    with ground(request.param, tmp_path) as found:
        yield found


# What a store promises


def test_a_store_has_nothing_until_something_is_written(place: Ground) -> None:
    store = place.open()
    assert store.find(KEY) is None and list(store.manifests()) == [] and summarize(store).finished == 0
    assert find_garbage(store) == [] and store.state(KEY) == "missing" and store.holder(KEY) is None
    assert store.checkpoint_step(KEY) is None and store.remembered_data("x") == [] and store.failure(KEY) is None
    assert list(store.verify()) == [] and (place.kind == "folder" or store.free_bytes() is None)
    store.drop_checkpoints(KEY)
    store.clear_failure(KEY)
    place.rest()
    assert place.contents() == {}


def test_a_committed_job_is_found_at_every_other_store_of_the_place(place: Ground) -> None:
    made, store = commit(place.open(), parent=OTHER, seconds=1.5), place.open()
    commit(store, OTHER, status="diverged")
    assert store.find(KEY) == made and bytes_of(store) == FILES == bytes_of(place.open())
    assert store.read_json(KEY, "metrics.json") == {"accuracy": 0.5} and store.state(OTHER) == "diverged"
    assert list(store.keys()) == [KEY, OTHER] == [each.key for each in place.open().manifests()]
    assert store.resolve("ab00") == KEY and dict(place.open().verify()) == {KEY: None, OTHER: None}
    with pytest.raises(UsageError, match="starts no key"):
        store.resolve("cd00")
    summary = summarize(place.open())
    assert summary.jobs == {"dense": {"diverged": 1, "done": 1}} and summary.size == 2 * sum(map(len, FILES.values()))
    assert store.read_start(KEY, "weights.safetensors", 7) == FILES["weights.safetensors"][:7]
    assert place.open().read_start(KEY, "metrics.json") == FILES["metrics.json"]


def test_a_second_result_is_settled_by_what_differs(place: Ground) -> None:
    first = commit(place.open())
    assert commit(place.open(), seconds=2.0) == first
    assert commit(place.open(), files={"metrics.json": b"{}"}, environment={"torch": "3"}) == first
    assert place.quarantine() == {}
    with pytest.raises(Nondeterminism, match=r"gave another metrics.json;") as caught:
        commit(place.open(), files={**FILES, "metrics.json": b"{}"})
    assert place.open().find(KEY) == first and bytes_of(place.open()) == FILES
    (aside,) = [path for path in place.quarantine() if path.endswith("/metrics.json")]
    assert place.quarantine()[aside] == b"{}" and aside.rpartition("/")[0] in str(caught.value)
    place.rest()
    logged = [line for path, data in place.contents().items() if path.startswith("events/") for line in data.split()]
    assert b'"nondeterminism",' in logged and b'"mixed' in logged


def test_whole_jobs_are_handed_from_place_to_place(place: Ground, tmp_path: Path) -> None:
    commit(place.open(), parent=OTHER, seconds=1.0)
    there = Store(tmp_path / "there")
    manifest, files = place.open().whole(KEY)
    there.adopt(manifest, files)
    assert there.manifest_bytes(KEY) == place.open().manifest_bytes(KEY) and bytes_of(there) == FILES
    place.open().adopt(*there.whole(KEY))  # nothing new
    commit(there, OTHER, {"metrics.json": b"1"})
    place.open().adopt(*there.whole(OTHER))
    assert place.open().manifest_bytes(OTHER) == there.manifest_bytes(OTHER)
    other = Store(tmp_path / "third")
    commit(other, KEY, {"metrics.json": b"2"})
    with pytest.raises(Nondeterminism):
        place.open().adopt(*other.whole(KEY))
    assert bytes_of(place.open()) == FILES


def test_checkpoints_failures_notes_and_data_are_found_again(place: Ground) -> None:
    store = place.open()
    for step in (5, 1000, 20):
        store.save_checkpoint(KEY, step, {"state": str(step).encode()})
    other = place.open()
    assert other.load_checkpoint(KEY) == (1000, {"state": b"1000"}) and other.checkpoint_step(KEY) == 1000
    assert other.read_checkpoint(KEY, "state") == b"1000" and other.state(KEY) == "interrupted"
    place.rest()
    assert sum(path.endswith("manifest.json") for path in place.contents()) == 2
    assert summarize(place.open()).interrupted == [KEY]
    store.drop_checkpoints(KEY)
    assert store.load_checkpoint(KEY) is None
    place.rest()
    assert [path for path in place.contents() if path.startswith("partial/")] == []
    store.record_failure(KEY, label="dense", message="boom")
    failure = place.open().failure(KEY)
    assert failure is not None and failure["message"] == "boom" and place.open().state(KEY) == "failed"
    assert list(summarize(place.open()).failed) == [KEY]
    store.clear_failure(KEY)
    assert store.failure(KEY) is None
    for fingerprint in ("f2", "f1", "f2"):
        store.remember_data("5" * 64, fingerprint)
    assert place.open().remembered_data("5" * 64) == ["f1", "f2"]
    assert list(place.open().all_remembered_data()) == [("5" * 64, "f1"), ("5" * 64, "f2")]
    remember(store, "kind", "name", {"a": [1]})
    assert recall(place.open(), "kind", "name") == {"a": [1]} and recall(store, "kind", "other") is None


def test_logs_are_read_as_they_grow(place: Ground) -> None:
    store, other = place.open(), place.open()
    store.log("one", key=KEY)
    place.rest()
    ((name, size),) = other.place.sizes("events").items()
    store.log("two")
    store.log("three")
    place.rest()
    tail = other.place.tail(f"events/{name}", size, 1 << 20)
    assert [json.loads(line)["event"] for line in tail.splitlines()] == ["two", "three"]
    assert other.place.tail(f"events/{name}", 0, 10) == b'{"time": "' and other.place.tail("events/x", 0, 10) == b""
    assert other.place.sizes("events") == {name: size + len(tail)}


# A2: a crash before and after each operation


def test_after_a_crash_anywhere_in_a_commit_the_job_is_there_or_not_and_a_repeat_is_the_same(
    tried: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, keys = Disk(monkeypatch), (f"{number:064x}" for number in itertools.count())
    commit(tried.open(), OTHER)
    for fault in (crash_before, crash_after, crash_within):
        for at in itertools.count():
            key, store = next(keys), tried.open()
            disk.arm(at, fault)
            try:
                commit(store, key)
            except Crash:
                done = False
            else:
                done = True
            disk.heal()
            if done:
                break
            assert bytes_of(tried.open(), key) in ({}, FILES) and bytes_of(tried.open(), OTHER) == FILES
            commit(tried.open(), key)
            assert bytes_of(tried.open(), key) == FILES and tried.quarantine() == {}
        assert at >= 3  # two files and a manifest at least
    assert {problem for _, problem in tried.open().verify()} == {None}


def test_after_a_crash_anywhere_in_a_checkpoint_the_old_or_the_new_one_is_loaded(
    tried: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, keys = Disk(monkeypatch), (f"{number:064x}" for number in itertools.count())
    states = {step: (step, {"state.json": str(step).encode(), "state.bin": bytes(step)}) for step in (10, 20, 30)}
    for fault in (crash_before, crash_after):
        for at in itertools.count():
            key, store = next(keys), tried.open()
            store.save_checkpoint(key, *states[10])
            store.save_checkpoint(key, *states[20])
            tried.rest()
            disk.arm(at, fault)
            try:
                store.save_checkpoint(key, *states[30])
                tried.rest()
            except Crash:
                pass
            done = len(disk.seen) <= at
            tried.rest()
            disk.heal()
            assert tried.open().load_checkpoint(key) in (states[20], states[30])
            tried.open().save_checkpoint(key, *states[30])
            tried.rest()
            assert tried.open().load_checkpoint(key) == states[30] and tried.quarantine() == {}
            if done:
                break
        assert at >= 4


# B1: refusals at each operation


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_refusal_at_any_operation_is_a_machine_error_and_loses_nothing(
    tried: Ground, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    disk, keys = Disk(monkeypatch), (f"{number:064x}" for number in itertools.count())
    commit(tried.open(), OTHER)
    for at in itertools.count():
        key, store = next(keys), tried.open()
        store.save_checkpoint(key, 10, {"state.json": b"10"})
        disk.arm(at, refuses(code))
        refused = None
        try:
            commit(store, key)
            store.save_checkpoint(key, 20, {"state.json": b"20"})
        except MachineError as error:
            refused = str(error)
        seen = len(disk.seen)
        disk.heal()
        assert refused is None or (store.name in refused and "\n" not in refused)
        assert bytes_of(tried.open(), key) in ({}, FILES) and bytes_of(tried.open(), OTHER) == FILES
        found = tried.open().load_checkpoint(key)
        assert found in ((10, {"state.json": b"10"}), (20, {"state.json": b"20"}))
        commit(tried.open(), key)
        assert bytes_of(tried.open(), key) == FILES
        if seen <= at:
            break
    assert at >= 5 and tried.quarantine() == {}


# B3: damage


def damages(data: bytes) -> Iterator[bytes]:
    for length in (0, 1, len(data) // 2, len(data) - 1):
        yield data[:length]
    yield data + b"\0"
    for bit in (0, 7, *range(13, 8 * len(data), max(1, 8 * len(data) // 12)), 8 * len(data) - 1):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_every_cut_and_flipped_bit_is_found_and_mended_by_a_new_commit(tried: Ground, name: str) -> None:
    commit(tried.open())
    commit(tried.open(), OTHER)
    sibling = {path: data for path, data in tried.contents().items() if OTHER in path}
    for number, damaged in enumerate(damages(tried.contents()[tried.path(KEY, name)])):
        tried.put(tried.path(KEY, name), damaged)
        store = tried.open()
        if number % 2:
            with pytest.raises(DamagedFile, match="lottery run computes it again"):
                pytest.fail(f"read as {[store.read(KEY, each) for each in FILES]}")
        elif not (problems := [problem for key, problem in store.verify() if key == KEY]):
            assert len(damaged) < 200, "a manifest of so many bytes is put aside"  # a stump counts as none
        else:
            assert problems[0] is not None
        assert store.find(KEY) is None and tried.open().find(KEY) is None
        if len(damaged) >= 200 or name != "manifest.json":
            assert damaged in tried.quarantine().values()
        commit(tried.open())
        assert bytes_of(tried.open()) == FILES
    assert {path: data for path, data in tried.contents().items() if OTHER in path} == sibling


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_files_missing_or_swapped_between_jobs_are_found(place: Ground, name: str) -> None:
    for other in ("swapped", "missing"):
        commit(place.open())
        commit(place.open(), OTHER, {**FILES, "metrics.json": b'{"accuracy": 0.6}'})
        mine, theirs = place.path(KEY, name), place.path(OTHER, name)
        data, bad = place.contents(), {KEY}
        if other == "swapped":
            place.put(mine, data[theirs])
            place.put(theirs, data[mine])
            bad = {KEY, OTHER} if data[mine] != data[theirs] else set()
        else:
            place.put(mine, None)
        store = place.open()
        list(store.verify())
        assert {key for key in (KEY, OTHER) if store.find(key) is None} == bad
        for key in bad:
            commit(place.open(), key, {**FILES, "metrics.json": b'{"accuracy": 0.6}'} if key == OTHER else FILES)
        assert bytes_of(place.open()) == FILES


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "manifest"])
def test_a_damaged_checkpoint_is_put_aside_and_the_older_one_used(place: Ground, damage: str) -> None:
    place.open().save_checkpoint(KEY, 10, {"state": b"ten"})
    place.open().save_checkpoint(KEY, 20, {"state": b"twenty"})
    newest = max(path for path in place.contents() if "/state" in path)
    if damage == "manifest":
        path = newest.rpartition("/")[0] + "/manifest.json"
        place.put(path, place.contents()[path].replace(b"twenty", b"other", 1).replace(b"20", b"21", 1))
    else:
        place.put(newest, {"cut": b"twent", "flip": b"twentx", "missing": None}[damage])
    assert place.open().load_checkpoint(KEY) == (10, {"state": b"ten"})
    place.rest()
    assert len({path.split("/")[1] for path in place.quarantine()}) == 1
    assert place.open().load_checkpoint(KEY) == (10, {"state": b"ten"})


def test_what_another_has_committed_meanwhile_is_not_put_aside_for_the_old_damage(place: Ground) -> None:
    commit(place.open())
    store, other = place.open(), place.open()
    place.put(place.path(KEY, "metrics.json"), b"short")
    judged = store.place.identity(f"jobs/ab/{KEY}")
    assert judged is not None and other.find(KEY) is None
    commit(other, seconds=2.0)
    assert not store.place.put_aside(f"jobs/ab/{KEY}", f"{KEY}-{judged}", judged)
    assert bytes_of(store) == FILES == bytes_of(place.open())


# Many at once


@pytest.mark.parametrize("width", [2, 8])
def test_of_stores_that_commit_at_the_same_time_one_is_first_and_the_others_agree(place: Ground, width: int) -> None:
    def one(number: int) -> Manifest:
        return commit(place.open(), seconds=float(number))

    with ThreadPoolExecutor(width) as pool:
        made = list(pool.map(one, range(width)))
    assert len({each.seconds for each in made}) == 1 and place.open().find(KEY) == made[0]
    assert [key for key, problem in place.open().verify() if problem is None] == [KEY]


@pytest.mark.parametrize("width", [2, 8])
def test_of_stores_that_differ_one_is_first_and_the_others_report_it(place: Ground, width: int) -> None:
    def one(number: int) -> bool:
        try:
            commit(place.open(), files={"metrics.json": str(number).encode()})
        except Nondeterminism:
            return False
        return True

    with ThreadPoolExecutor(width) as pool:
        assert sum(pool.map(one, range(width))) == 1
    assert {problem for _, problem in place.open().verify()} == {None}


@pytest.mark.parametrize("name", ["manifest.json", "../evil", "/tmp/evil", "a/b", ".."])
def test_hostile_names_of_files_are_not_committed(place: Ground, name: str) -> None:
    with pytest.raises(UsageError):
        commit(place.open(), files={name: b"x"})
    assert place.contents() == {}


# Garbage


def test_leftovers_go_and_results_never(place: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(place.open())
    place.open().save_checkpoint(KEY, 1, {"state": b"12345"})
    place.open().save_checkpoint(OTHER, 1, {"state": b"12345"})
    commit(place.open(), "cd" * 32)
    place.put(place.path("cd" * 32, "metrics.json"), None)
    assert place.open().find("cd" * 32) is None
    store = place.open()
    items = find_garbage(store)
    assert sorted({reason for _, _, reason in items}) == ["checkpoints of a finished job", "damaged, put aside"]
    precious = [(f"{store.name}/jobs/ab/{KEY}", 1, "because"), (store.name, 1, "because")]
    assert collect(store, [*items, *precious]) == sum(size for _, size, _ in items) > 0
    place.rest()
    assert find_garbage(place.open()) == [] and place.quarantine() == {}
    assert bytes_of(place.open()) == FILES and place.open().checkpoint_step(OTHER) == 1


def test_hashes_of_the_files_are_those_of_the_manifest(place: Ground) -> None:
    made = commit(place.open())
    for name, data in FILES.items():
        assert place.contents()[place.path(KEY, name)] == data
        assert made.files[name].sha256 == hashlib.sha256(data).hexdigest()
