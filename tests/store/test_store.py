"""Jobs are committed whole and once, damage is found and put aside, checkpoints survive, counting is fast."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery.errors import DamagedFile, LotteryError, MachineError, Nondeterminism, UsageError
from lottery.files.tensors import encode
from lottery.store.maintenance import collect, find_garbage, summarize
from lottery.store.manifest import seal
from lottery.store.store import Store
from tests.support.faults import Crash, Disk, contents, crash_after, crash_before, crash_within, refuses
from tests.support.stored import FILES, KEY, OTHER, bytes_of, commit


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def folder(store: Store, key: str = KEY) -> Path:
    return store.root / "jobs" / key[:2] / key


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "a störe")


# Committing and reading


def test_a_store_creates_nothing_until_something_is_written(store: Store) -> None:
    assert store.find(KEY) is None and list(store.manifests()) == [] and summarize(store).finished == 0
    assert find_garbage(store) == [] and store.state(KEY) == "missing" and store.holder(KEY) is None
    assert store.checkpoint_step(KEY) is None and store.remembered_data("x") == [] and store.failure(KEY) is None
    assert (store.free_bytes() or 0) > 0 and list(store.verify()) == []
    store.drop_checkpoints(KEY)
    store.clear_failure(KEY)
    assert not store.root.exists()


def test_a_committed_job_is_found_with_all_that_was_said_of_it(store: Store) -> None:
    files = {**FILES, "weights.safetensors": encode({"w": torch.arange(50.0)})}
    made = commit(store, files=files, parent=OTHER, seconds=1.5, status="diverged")
    found = Store(store.root).find(KEY)
    assert found == made
    assert found.as_dict() == {
        "schema": 1,
        "key": KEY,
        "kind": "dense",
        "status": "diverged",
        "parent": OTHER,
        "label": "dense seed 0",
        "files": {n: {"size": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in files.items()},
        "seconds": 1.5,
        "environment": {"torch": "2"},
        "created": made.created,
    }
    assert made.created.endswith("+00:00") and store.state(KEY) == "diverged"
    assert store.read_json(KEY, "metrics.json") == {"accuracy": 0.5}
    assert torch.equal(store.read_tensors(KEY, "weights.safetensors")["w"], torch.arange(50.0))


def test_a_relative_root_stays_where_it_was_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store(Path("runs"))
    monkeypatch.chdir("elsewhere")
    commit(store)
    assert (tmp_path / "runs" / "jobs" / "ab" / KEY / "manifest.json").is_file()


def test_a_file_that_the_job_does_not_have_is_no_damage(store: Store) -> None:
    commit(store)
    with pytest.raises(LotteryError, match=r"no file 'mask.safetensors'; it has metrics.json, weights.safetensors"):
        store.read(KEY, "mask.safetensors")
    assert store.find(KEY) is not None


@pytest.mark.parametrize("key", ["", "ab", "AB" + "0" * 62, "../" + "0" * 61, "g" * 64, "0" * 64 + "\n"])
def test_what_is_no_key_is_refused(store: Store, key: str) -> None:
    for use in (store.find, commit_of(store), store.holder, store.checkpoint_step, store.failure, store.state):
        with pytest.raises(UsageError, match="is no key"):
            use(key)
    assert not store.root.exists()


def commit_of(store: Store) -> Any:
    return lambda key: commit(store, key)


@pytest.mark.parametrize("name", ["manifest.json", "../evil", "/tmp/evil", "a/b", ".."])
def test_hostile_names_of_files_are_not_committed(store: Store, name: str) -> None:
    with pytest.raises(UsageError):
        commit(store, files={name: b"x"})
    assert contents(store.root) == {}


def test_a_key_is_found_by_its_first_digits(store: Store) -> None:
    commit(store)
    commit(store, OTHER)
    assert store.resolve("ab00") == KEY and store.resolve(OTHER) == OTHER
    for prefix, why in (("ab", "start of a key"), ("xyz1", "start of a key"), ("abcd", "no key")):
        with pytest.raises(UsageError, match=why):
            store.resolve(prefix)
    commit(store, "ab00" + "f" * 60)
    with pytest.raises(UsageError, match="starts 2 keys"):
        store.resolve("ab00")


# First writer wins


def test_the_first_of_two_equal_commits_stays(store: Store) -> None:
    first = commit(store, seconds=1)
    assert commit(store, seconds=2) == first
    assert set(contents(store.root)) == {f"jobs/ab/{KEY}/{name}" for name in (*FILES, "manifest.json")}


def test_a_different_second_result_is_reported_by_file_and_put_aside(store: Store) -> None:
    first = commit(store)
    with pytest.raises(Nondeterminism, match=r"gave another metrics.json;") as caught:
        commit(store, files={**FILES, "metrics.json": b"{}"})
    assert store.find(KEY) == first and bytes_of(store) == FILES
    (aside,) = (store.root / "quarantine").iterdir()
    assert str(aside) in str(caught.value) and (aside / "metrics.json").read_bytes() == b"{}"
    with pytest.raises(Nondeterminism, match="status done and diverged"):
        commit(store, status="diverged")


def test_a_different_result_of_another_environment_is_logged_and_dropped(store: Store) -> None:
    first = commit(store)
    assert commit(store, files={"metrics.json": b"{}"}, environment={"torch": "3"}) == first
    assert bytes_of(store) == FILES and not (store.root / "quarantine").exists()
    (log,) = (store.root / "events").iterdir()
    assert json.loads(log.read_text())["event"] == "mixed environments"


@pytest.mark.parametrize("kind", ["folder", "file", "link", "empty"])
def test_a_commit_onto_something_invalid_puts_that_aside(store: Store, tmp_path: Path, kind: str) -> None:
    place = folder(store)
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.write_bytes(b"x")
    elif kind == "link":
        (tmp_path / "precious").mkdir()
        place.symlink_to(tmp_path / "precious")
    else:
        place.mkdir()
        if kind == "folder":
            (place / "metrics.json").write_bytes(b"x")
    commit(store)
    assert bytes_of(store) == FILES and not place.is_symlink()
    assert (store.root / "quarantine").exists() == (kind != "empty")


RACE = """
import os, sys
from pathlib import Path
from lottery.errors import Nondeterminism
from lottery.store.store import Store
root, same = Path(sys.argv[1]), sys.argv[2] == "same"
waits, begins = os.pipe()
children = []
for number in range(8):
    pid = os.fork()
    if pid == 0:
        os.close(begins)
        os.read(waits, 1)  # until the parent closes its end
        outcome = 1
        try:
            content = b"x" * 100_000 if same else str(number).encode()
            Store(root).commit("ab" * 32, {"a": content, "b": b"y"}, kind="dense")
            outcome = 0
        except Nondeterminism:
            outcome = 7
        finally:
            os._exit(outcome)
    children.append(pid)
os.close(begins)
print(sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


@pytest.mark.parametrize("before", ["nothing", "a damaged folder"])
@pytest.mark.parametrize("same", ["same", "different"])
def test_of_eight_processes_one_commits_and_the_others_agree_or_report(store: Store, same: str, before: str) -> None:
    if before != "nothing":
        folder(store, "ab" * 32).mkdir(parents=True)
        (folder(store, "ab" * 32) / "a").write_bytes(b"torn")
    done = subprocess.run([sys.executable, "-c", RACE, store.root, same], capture_output=True, text=True)
    assert done.stdout == f"{[0] * 8 if same == 'same' else [0] + [7] * 7}\n", done.stderr
    assert [key for key, problem in store.verify() if problem is None] == ["ab" * 32]
    assert [path.name for path in (store.root / "jobs" / "ab").iterdir()] == ["ab" * 32]


# Crashes and refusals at every operation


@pytest.mark.parametrize(("store_is", "operations"), [("used", 10), ("new", 16)])
def test_after_a_crash_anywhere_in_a_commit_the_job_is_there_or_not_and_a_repeat_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_is: str, operations: int
) -> None:
    # mkdir, three files written and synced, folder, rename, parent; a new store makes three folders first
    disk, old = Disk(monkeypatch), {OTHER: FILES} if store_is == "used" else {}
    for fault in (crash_before, crash_after, crash_within):
        for at in itertools.count():
            disk.heal()
            root = tmp_path / f"{fault.__name__} {at}"
            for key in old:
                commit(Store(root), key)
            disk.arm(at, fault)
            try:
                commit(Store(root))
            except Crash:
                disk.heal()
            else:
                break
            fresh = Store(root)
            assert bytes_of(fresh) in ({}, FILES) and {key: bytes_of(fresh, key) for key in old} == old
            assert not (root / "quarantine").exists()
            commit(fresh)
            assert bytes_of(fresh) == FILES
            assert [problem for _, problem in fresh.verify()] == [None] * (1 + len(old))
        assert at == operations


def test_after_a_crash_anywhere_in_a_checkpoint_the_old_or_the_new_one_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    states = {step: (step, {"state.json": str(step).encode(), "state.bin": bytes(step)}) for step in (10, 20, 30)}
    for fault in (crash_before, crash_after, crash_within):
        for at in itertools.count():
            disk.heal()
            store = Store(tmp_path / f"{fault.__name__} {at}")
            store.save_checkpoint(KEY, *states[10])
            store.save_checkpoint(KEY, *states[20])
            disk.arm(at, fault)
            try:
                store.save_checkpoint(KEY, *states[30])
            except Crash:
                disk.heal()
            else:
                break
            fresh = Store(store.root)
            assert fresh.load_checkpoint(KEY) in (states[20], states[30])
            assert not (store.root / "quarantine").exists()
            fresh.save_checkpoint(KEY, *states[30])
            assert fresh.load_checkpoint(KEY) == states[30]
        assert at == 10 + 4  # a commit; then the oldest is renamed, the folder synced twice, and it is removed


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_refusal_at_any_operation_is_a_machine_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    disk = Disk(monkeypatch)
    for at in itertools.count():
        store = Store(tmp_path / str(at))
        commit(store, OTHER)
        store.save_checkpoint(KEY, 10, {"state.json": b"10"})
        disk.arm(at, refuses(code))
        try:
            commit(store)
            store.save_checkpoint(KEY, 20, {"state.json": b"20"})
        except MachineError as error:
            assert str(tmp_path) in str(error) and "\n" not in str(error)
        else:
            break
        disk.heal()
        assert bytes_of(store) in ({}, FILES) and bytes_of(store, OTHER) == FILES
        assert store.load_checkpoint(KEY) in ((10, {"state.json": b"10"}), (20, {"state.json": b"20"}))
        assert [name for name in contents(store.root) if ".tmp-" in name] == []
        commit(store)
        store.save_checkpoint(KEY, 20, {"state.json": b"20"})
        assert bytes_of(store) == FILES and store.load_checkpoint(KEY) == (20, {"state.json": b"20"})
    assert at == 10 + 8


def test_a_full_disk_does_not_stop_a_run_at_its_log(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.log("start", key=KEY, place=Path("x"))
    disk = Disk(monkeypatch)
    disk.arm(None, refuses(errno.ENOSPC))
    store.log("lost")
    disk.heal()
    store.log("end")
    (log,) = (store.root / "events").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "end"]
    assert f"-{os.getpid()}-" in log.name and lines[0]["key"] == KEY and lines[0]["place"] == "x"


# Damage


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    for length in (0, 1, len(data) // 2, len(data) - 1):
        yield f"cut to {length}", data[:length]
    yield "one byte more", data + b"\0"
    for bit in (0, 7, *range(13, 8 * len(data), max(1, 8 * len(data) // 60)), 8 * len(data) - 1):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit}", bytes(flipped)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_every_cut_and_flipped_bit_is_found_put_aside_and_mended_by_a_new_commit(store: Store, name: str) -> None:
    commit(store)
    commit(store, OTHER)
    sibling = contents(folder(store, OTHER))
    path, data = folder(store) / name, (folder(store) / name).read_bytes()
    for what, damaged in damages(data):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=r"manifest.json|metrics.json|weights.safetensors") as caught:
            bytes_read = [store.read(KEY, each) for each in FILES]
            pytest.fail(f"{what} of {name} was read as {bytes_read}")
        assert "lottery run computes it again" in str(caught.value) and "\n" not in str(caught.value)
        assert store.find(KEY) is None and not folder(store).exists()
        (aside,) = (store.root / "quarantine").iterdir()
        assert (aside / name).read_bytes() == damaged
        shutil.rmtree(aside)
        commit(store)
        assert bytes_of(store) == FILES
    assert contents(folder(store, OTHER)) == sibling


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_files_missing_swapped_between_jobs_or_replaced_by_links_are_found(store: Store, name: str) -> None:
    for other in ("swapped", "missing", "link", "folder"):
        commit(store)
        commit(store, OTHER, {**FILES, "metrics.json": b'{"accuracy": 0.6}'})
        mine, theirs = folder(store) / name, folder(store, OTHER) / name
        bad = [KEY]
        if other == "swapped":
            data = mine.read_bytes()
            if data != theirs.read_bytes():
                bad = sorted([KEY, OTHER])
            mine.write_bytes(theirs.read_bytes())
            theirs.write_bytes(data)
        else:
            mine.unlink()
        if other == "link":
            mine.symlink_to(theirs)
        if other == "folder":
            mine.mkdir()
        found = [key for key, problem in store.verify() if problem]
        assert found == ([] if other == "swapped" and name == "weights.safetensors" else bad), other
        assert summarize(store).quarantined == len(found)
        for key in found:
            assert store.find(key) is None
        shutil.rmtree(store.root)


def test_a_damaged_job_is_missing_and_the_event_says_why(store: Store) -> None:
    commit(store)
    (folder(store) / "metrics.json").write_bytes(b"short")
    assert store.find(KEY) is None and list(store.manifests()) == []
    (log,) = (store.root / "events").iterdir()
    event = json.loads(log.read_text())
    assert event["event"] == "damaged" and event["key"] == KEY and "has 5 bytes, 17 were committed" in event["problem"]


def test_reading_a_job_that_is_not_there_says_that_it_will_be_computed(store: Store) -> None:
    with pytest.raises(DamagedFile, match="is not there; the next lottery run computes it again"):
        store.read(KEY, "metrics.json")


def test_a_job_that_another_process_mended_meanwhile_is_not_put_aside_for_the_old_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store)
    (folder(store) / "metrics.json").unlink()
    disk, other = Disk(monkeypatch), Store(store.root)

    def after_the_other(operation: str, path: Path, action: Any) -> Any:
        if operation == "rename" and not mended:
            mended.append(path)
            assert other.find(KEY) is None
            commit(other)
        return action()

    mended: list[Path] = []
    disk.arm(None, after_the_other)
    assert store.find(KEY) is None
    assert len(mended) == 1 and bytes_of(store) == FILES
    assert len(list((store.root / "quarantine").iterdir())) == 1


# Hostile stores


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["metrics.json", "weights.safetensors", "manifest.json"])
def test_a_pickle_in_place_of_any_file_is_never_run(store: Store, tmp_path: Path, name: str) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    commit(store)
    (folder(store) / name).write_bytes(bomb)
    with pytest.raises(DamagedFile):
        _ = store.read_json(KEY, "metrics.json"), store.read_tensors(KEY, "weights.safetensors")
    commit(store, OTHER, {"metrics.json": bomb, "weights.safetensors": bomb})  # even one with a true hash
    for read, file in ((store.read_json, "metrics.json"), (store.read_tensors, "weights.safetensors")):
        with pytest.raises(DamagedFile):
            read(OTHER, file)
    store.save_checkpoint(KEY, 1, {"state.json": b"1"})
    (checkpoint,) = (store.root / "partial" / KEY).iterdir()
    (checkpoint / ("manifest.json" if name == "manifest.json" else "state.json")).write_bytes(bomb)
    assert store.load_checkpoint(KEY) is None
    (store.root / "failures").mkdir()
    (store.root / "failures" / f"{KEY}.json").write_bytes(bomb)
    assert store.failure(KEY) is None
    assert not (tmp_path / "executed").exists()


def rewrite(store: Store, **changes: Any) -> None:
    """Forge a manifest: the seal is right, the content is not."""
    body = json.loads((folder(store) / "manifest.json").read_bytes())
    del body["sha256"]
    (folder(store) / "manifest.json").write_bytes(seal({**body, **changes}))


RECORD = {"size": 5, "sha256": hashlib.sha256(b"outer").hexdigest()}


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../../../outside": RECORD}},
        {"files": {"/etc/hostname": RECORD}},
        {"files": {"..": RECORD}},
        {"files": {"": RECORD}},
        {"files": {"link": RECORD}},
        {"files": {"link/inner": RECORD}},
        {"files": {"manifest.json": RECORD}},
        {"files": {"a" * 65: RECORD}},
        {"files": {"metrics.json": {"size": -1, "sha256": RECORD["sha256"]}}},
        {"files": {"metrics.json": {"size": True, "sha256": RECORD["sha256"]}}},
        {"files": {"metrics.json": {"size": 2**80, "sha256": RECORD["sha256"]}}},
        {"files": {"metrics.json": {"size": 17, "sha256": "0" * 63 + "\n"}}},
        {"files": {"metrics.json": {"size": 17}}},
        {"files": ["metrics.json"]},
        {"key": OTHER},
        {"parent": "../x"},
        {"status": "running"},
        {"seconds": -1},
        {"environment": []},
        {"schema": 0},
        {"surprise": 1},
    ],
)
def test_a_hostile_manifest_is_put_aside_and_nothing_outside_is_touched(
    store: Store, tmp_path: Path, changes: dict[str, Any]
) -> None:
    commit(store)
    (tmp_path / "outside").write_bytes(b"outer")
    (folder(store) / "link").symlink_to(tmp_path / "outside")
    rewrite(store, **changes)
    with pytest.raises(DamagedFile):
        store.read(KEY, next(iter(changes.get("files", ["metrics.json"]))))
    assert store.find(KEY) is None and not folder(store).exists()
    assert (tmp_path / "outside").read_bytes() == b"outer"
    assert {path.name for path in tmp_path.iterdir()} == {"outside", store.root.name}


def test_a_manifest_of_a_newer_version_is_no_damage(store: Store) -> None:
    commit(store)
    rewrite(store, schema=2)
    with pytest.raises(UsageError, match="update lottery"):
        store.find(KEY)
    assert folder(store).exists()


# Checkpoints


def test_the_two_newest_checkpoints_are_kept_and_the_newest_is_loaded(store: Store) -> None:
    for step in (5, 1000, 20, 20):
        store.save_checkpoint(KEY, step, {"state": str(step).encode()})
    assert store.load_checkpoint(KEY) == (1000, {"state": b"1000"}) and store.checkpoint_step(KEY) == 1000
    assert [int(path.name[:12]) for path in sorted((store.root / "partial" / KEY).iterdir())] == [20, 1000]
    assert store.state(KEY) == "interrupted"
    store.drop_checkpoints(KEY)
    assert store.load_checkpoint(KEY) is None and list((store.root / "partial").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "missing", "manifest", "other step", "other job"])
def test_a_damaged_checkpoint_is_put_aside_and_the_older_one_used(store: Store, damage: str) -> None:
    store.save_checkpoint(KEY, 10, {"state": b"ten"})
    store.save_checkpoint(KEY, 20, {"state": b"twenty"})
    newest = max((store.root / "partial" / KEY).iterdir())
    if damage == "cut":
        (newest / "state").write_bytes(b"twent")
    elif damage == "flip":
        (newest / "state").write_bytes(b"twentx")
    elif damage == "missing":
        (newest / "state").unlink()
    elif damage == "manifest":
        (newest / "manifest.json").write_bytes(b"{}")
    elif damage == "other step":
        newest.rename(newest.with_name(newest.name.replace("000020", "000030")))
    else:
        (store.root / "partial" / OTHER).mkdir()
        newest.rename(store.root / "partial" / OTHER / newest.name)
        assert store.load_checkpoint(OTHER) is None
    assert store.load_checkpoint(KEY) == (10, {"state": b"ten"})
    assert len(list((store.root / "quarantine").iterdir())) == 1


# Notes


def test_a_failure_is_kept_until_it_is_cleared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lottery.store.store.time.time", lambda: 1e9)
    store.record_failure(KEY, label="dense", message="first")
    store.record_failure(KEY, label="dense", message="boom\n" * 100_000)
    failure = store.failure(KEY)
    assert failure is not None and failure["time"] == 1e9 and failure["label"] == "dense"
    assert failure["message"].startswith("boom") and len(failure["message"]) == 100_000
    assert store.state(KEY) == "failed" and list(summarize(store).failed) == [KEY]
    store.clear_failure(KEY)
    assert store.failure(KEY) is None and store.state(KEY) == "missing"


def test_data_is_remembered_by_what_a_recipe_says_of_it(store: Store) -> None:
    for fingerprint in ("f2", "f1", "f2"):
        store.remember_data("5" * 64, fingerprint)
    assert store.remembered_data("5" * 64) == ["f1", "f2"] and store.remembered_data("6" * 64) == []
    with pytest.raises(UsageError):
        store.remember_data("../x", "f")


# Garbage


def test_leftovers_are_listed_with_size_and_reason_and_results_never(store: Store) -> None:
    commit(store)
    store.save_checkpoint(KEY, 1, {"state": b"12345"})
    store.save_checkpoint(OTHER, 1, {"state": b"12345"})
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    from lottery.files import write

    dead = f".tmp-{gone.pid}-{write.machine_id()}-0123456789ab"
    drafts = [folder(store).parent / f"{OTHER}{dead}", store.root / "partial" / OTHER / f"000{dead}"]
    for draft in drafts:
        draft.mkdir()
        (draft / "weights").write_bytes(b"123")
    (folder(store).parent / f"{OTHER}{write.unique()}").mkdir()  # of a process that runs
    commit(store, "cd" * 32)
    (folder(store, "cd" * 32) / "metrics.json").unlink()
    assert store.find("cd" * 32) is None
    items = {path: (size, reason) for path, size, reason in find_garbage(store)}
    (aside,) = (store.root / "quarantine").iterdir()
    assert {path: reason for path, (_, reason) in items.items()} == {
        **dict.fromkeys(drafts, "left by a process that is gone"),
        store.root / "partial" / KEY: "checkpoints of a finished job",
        aside: "damaged, put aside",
    }
    assert collect(store, [(drafts[0], 3, "")]) == 3 and len(find_garbage(store)) == len(items) - 1
    del items[drafts[0]]
    precious = [(folder(store), 1, "because"), (store.root, 1, "because")]
    assert collect(store, [*find_garbage(store), *precious]) == sum(size for size, _ in items.values())
    assert find_garbage(store) == [] and bytes_of(store) == FILES and store.checkpoint_step(OTHER) == 1


# Counting


def test_a_summary_counts_jobs_by_kind_and_state(store: Store) -> None:
    for number, (kind, status) in enumerate([("dense", "done"), ("ticket", "done"), ("ticket", "diverged")]):
        commit(store, key_of(number), {"a": b"12345"}, kind=kind, status=status)
    store.save_checkpoint(key_of(7), 1, {"a": b""})
    store.save_checkpoint(key_of(8), 1, {"a": b""})
    store.record_failure(key_of(9), label="x", message="y")
    with store.lease(key_of(8)) as mine:
        assert mine
        summary = summarize(store)
    assert summary.jobs == {"dense": {"done": 1}, "ticket": {"diverged": 1, "done": 1}}
    assert (summary.finished, summary.size, summary.quarantined) == (3, 15, 0)
    assert list(summary.running) == [key_of(8)] and summary.interrupted == [key_of(7)]
    assert list(summary.failed) == [key_of(9)]
    assert json.loads(json.dumps(summary.as_dict()))["finished"] == 3
    assert "1 diverged, 1 done" in summary.text() and "1 running, 1 interrupted, 1 failed" in summary.text()


@pytest.mark.slow
def test_ten_thousand_finished_jobs_are_counted_in_little_more_than_their_reading(store: Store) -> None:
    """0.4 s on a quiet machine, where reading alone takes half of it; a clock says nothing on a busy one."""
    environment = {"torch": "2.13.0", "device": "cpu", "threads": 2, "deterministic": True, "precision": "fp32"}
    names = ("job.json", "mask.safetensors", "metrics.json", "weights.safetensors")
    record = {"size": 1000, "sha256": "0" * 64}
    about = {"schema": 1, "kind": "ticket", "status": "done", "parent": KEY, "label": "ticket level 3 seed 0"}
    about |= {"files": dict.fromkeys(names, record), "seconds": 1.5, "environment": environment, "created": "2026"}
    for number in range(10_000):
        key = key_of(number)
        folder(store, key).mkdir(parents=True)
        (folder(store, key) / "manifest.json").write_bytes(seal({**about, "key": key}))

    def read() -> int:
        return sum(len(json.loads(path.read_bytes())["files"]) for path in store.root.glob("jobs/*/*/manifest.json"))

    def seconds(call: Callable[[], object]) -> float:
        began = time.process_time()
        call()
        return time.process_time() - began

    summary = summarize(store)
    assert summary.jobs == {"ticket": {"done": 10_000}} and summary.size == 40_000_000 and read() == 40_000
    turns = [(seconds(partial(summarize, store)), seconds(read)) for _ in range(3)]
    assert min(taken for taken, _ in turns) < 5 * min(least for _, least in turns)
