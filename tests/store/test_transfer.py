"""Jobs go from store to store whole, verified and once; what contradicts itself is told and stays where it is."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lottery.errors import MachineError, UsageError
from lottery.plan.kinds import Kind
from lottery.runner.run import work
from lottery.store.maintenance import find_garbage
from lottery.store.manifest import Manifest, seal
from lottery.store.ssh import Remote
from lottery.store.store import Store
from lottery.store.transfer import Transfer, transfer
from tests.support.calls import Call, call
from tests.support.faults import Crash, Disk, contents, crash_before, crash_within
from tests.support.micro import micro, micro_text, prepared
from tests.support.s3_server import s3_server

__all__ = ["call"]
FIRST, SECOND, THIRD = ("ab" + digit * 62 for digit in "012")
FILES = {"job.json": b"{}", "metrics.json": b'{"accuracy": 0.5}'}

Move = Callable[[Store, Store], Transfer]


def commit(store: Store, key: str, files: dict[str, bytes] | None = None, **about: Any) -> Manifest:
    about = {"kind": "dense", "label": f"dense {key[2]}", "environment": {"deterministic": True}, **about}
    return store.commit(key, FILES if files is None else files, **about)


def jobs_of(store: Store) -> dict[str, bytes]:
    """Return every file of every finished job, manifests too, by its path."""
    return contents(store.root / "jobs") if (store.root / "jobs").is_dir() else {}


@pytest.fixture
def near(tmp_path: Path) -> Store:
    return Store(tmp_path / "near")


@pytest.fixture
def far(tmp_path: Path) -> Store:
    return Store(tmp_path / "far away")


@pytest.fixture(params=["folders", "pull by ssh", "push by ssh"])
def move(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Move:
    """What copies from its first store to its second; by ssh, a stand-in of which runs the command here."""
    if request.param == "folders":
        return transfer
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nwhile [ "$1" != host ]; do shift; done\nshift\ncd /\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")

    def by_ssh(source: Store, target: Store) -> Transfer:
        pulls = request.param == "pull by ssh"
        remote = Remote.parse(f"host:{(source if pulls else target).root}")
        assert remote is not None
        return remote.pull(target, _quiet) if pulls else remote.push(source, _quiet)

    return by_ssh


def _quiet(done: int, total: int) -> None:
    assert 0 < done <= total


def test_what_is_missing_arrives_byte_for_byte_and_a_second_time_nothing_does(
    near: Store, far: Store, move: Move
) -> None:
    for key in (FIRST, SECOND, "cd" + "3" * 62):
        commit(far, key, {**FILES, "weights.safetensors": bytes(1000)})
    far.remember_data("a" * 64, "b" * 64)
    far.place.write("studies/mine.0123456789ab.json", b"{}")
    commit(near, THIRD)
    before = jobs_of(far)
    found = move(far, near)
    assert (len(found.copied), found.same, found.fine) == (3, 0, True)
    copies = list(far.root.parent.rglob("studies/mine.0123456789ab.json"))
    assert len(copies) == 1 + (move is not transfer)  # by ssh they come along, to the mirror if they are pulled
    assert jobs_of(near).items() >= before.items()
    assert jobs_of(far) == before
    assert near.remembered_data("a" * 64) == ["b" * 64]
    assert all(problem is None for _, problem in near.verify())
    again = move(far, near)
    assert (again.copied, again.same, again.fine) == ({}, 3, True)


def test_stores_that_are_moved_both_ways_hold_the_same_jobs(near: Store, far: Store, move: Move) -> None:
    commit(near, FIRST)
    commit(far, SECOND)
    move(near, far)
    move(far, near)
    assert jobs_of(near) == jobs_of(far)


def test_a_key_with_other_bytes_is_told_and_neither_it_nor_what_builds_on_it_is_copied(
    near: Store, far: Store, move: Move
) -> None:
    commit(near, FIRST)
    commit(far, FIRST, {**FILES, "metrics.json": b'{"accuracy": 0.6}'})
    commit(far, SECOND, {**FILES, "job.json": json.dumps({"start": FIRST}).encode()})  # built on it
    commit(far, THIRD, parent=SECOND)  # and on that
    commit(far, "cd" + "3" * 62)
    before = jobs_of(near)
    found = move(far, near)
    assert [(each.key, each.files, each.alarm) for each in found.different] == [(FIRST, ("metrics.json",), True)]
    assert not found.fine
    assert found.left_out.keys() == {SECOND, THIRD}
    assert list(found.copied) == ["cd" + "3" * 62]
    assert {path: jobs_of(near)[path] for path in before} == before


@pytest.mark.parametrize("environment", [{"deterministic": False}, {"deterministic": True, "device": "another"}])
def test_other_bytes_of_another_machine_or_a_run_that_is_not_deterministic_are_told_without_alarm(
    near: Store, far: Store, environment: dict[str, Any]
) -> None:
    ours = {"deterministic": environment["deterministic"]}
    commit(near, FIRST, environment=ours)
    commit(far, FIRST, {**FILES, "metrics.json": b"{}"}, environment=environment)
    found = transfer(far, near)
    assert [each.alarm for each in found.different] == [False]
    assert found.fine


def test_jobs_that_differ_in_their_seconds_only_are_the_same(near: Store, far: Store) -> None:
    commit(near, FIRST, seconds=1.0)
    commit(far, FIRST, seconds=2.0)
    assert transfer(far, near).same == 1


@pytest.mark.parametrize("harm", ["flip", "truncate", "manifest", "missing"])
def test_a_damaged_job_is_told_left_alone_and_not_copied_and_the_others_are(
    near: Store, far: Store, move: Move, harm: str
) -> None:
    commit(far, FIRST)
    commit(far, SECOND)
    harmed = far.folder(FIRST) / ("manifest.json" if harm == "manifest" else "metrics.json")
    if harm == "missing":
        harmed.unlink()
    else:
        data = harmed.read_bytes()
        harmed.write_bytes(data[:-3] if harm == "truncate" else data[:-1] + bytes([data[-1] ^ 1]))
    before = jobs_of(far)
    found = move(far, near)
    assert list(near.keys()) == [SECOND]
    assert len(found.damaged) == 1
    assert not found.fine
    assert jobs_of(far) == before


def test_after_a_crash_at_any_operation_each_job_is_there_or_not_and_the_next_transfer_ends_the_work(
    tmp_path: Path, far: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    disk.heal()
    monkeypatch.setattr("lottery.store.transfer.AT_ONCE", 1)  # operations are counted one after the other
    commit(far, FIRST)
    commit(far, SECOND)
    whole = jobs_of(far)
    for fault in (crash_before, crash_within):
        for at in itertools.count():
            near = Store(tmp_path / f"{fault.__name__} {at}")
            disk.arm(at, fault)
            try:
                transfer(far, near)
                ended = True
            except Crash:
                ended = False
            disk.heal()
            near = Store(near.root)
            assert all(problem is None for _, problem in near.verify())
            transfer(far, near)
            assert {path: data for path, data in jobs_of(near).items() if ".tmp-" not in path} == whole
            if ended:
                break
        assert at > 10


def test_what_is_damaged_on_its_way_by_ssh_is_not_taken_in(
    near: Store, far: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    harm = "for f in $(find . -path '*incoming*' -name metrics.json); do printf x >> $f; done"
    ssh.write_text(
        f'#!/bin/sh\nwhile [ "$1" != host ]; do shift; done\nshift\n(cd {tmp_path}; {harm})\nexec sh -c "$*"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    far = Store(tmp_path / "far")
    commit(near, FIRST)
    remote = Remote.parse(f"host:{far.root}")
    assert remote is not None
    with pytest.raises(MachineError, match=r"ssh: .*metrics\.json"):
        remote.push(near, _quiet)
    assert [path.name for path in far.root.iterdir()] == ["jobs"]
    assert list(far.keys()) == []


def test_a_pull_by_ssh_that_was_cut_off_leaves_nothing_that_the_next_one_keeps(
    near: Store, far: Store, move: Move, request: pytest.FixtureRequest
) -> None:
    if "pull by ssh" not in request.node.name:
        pytest.skip("there is no mirror in another transfer")
    commit(far, FIRST)
    move(far, near)
    (mirror,) = (near.root / "notes" / "mirrors").iterdir()
    (mirror / "fetching").touch()
    (mirror / "jobs" / "ab" / FIRST / "metrics.json").write_bytes(b"half")
    move(far, near)
    assert [path.name for path in (mirror / "jobs" / "ab" / FIRST).iterdir()] == ["manifest.json"]
    assert not (mirror / "fetching").exists()


def test_jobs_go_by_an_object_store_byte_for_byte_and_a_damaged_one_stays_where_it_is(
    near: Store, far: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("obstore")
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
    commit(far, FIRST)
    commit(far, SECOND, {"metrics.json": b'{"accuracy": 0.25}'})  # bytes that no other job brings to the cache
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert len(transfer(far, Store("s3://bucket/runs")).copied) == 2
        assert transfer(far, Store("s3://bucket/runs")).same == 2
        harmed = next(name for name in server.objects if SECOND in name and "metrics" in name)
        server.put(harmed, b"{}")
        for pack in [name for name in server.objects if "/packs/" in name]:  # which has the bytes as they were
            del server.objects[pack]
        shutil.rmtree(tmp_path / "cache")
        found = transfer(Store("s3://bucket/runs"), near)
        assert (list(found.copied), len(found.damaged)) == ([FIRST], 1)
        assert harmed in server.objects
    assert jobs_of(near).items() <= jobs_of(far).items()


def test_what_a_push_by_ssh_that_was_cut_off_has_left_can_go_once_it_is_old(near: Store) -> None:
    commit(near, FIRST)
    left = near.root / "incoming.tmp-1-00000000-0123456789ab"
    left.mkdir()
    assert find_garbage(near) == []
    os.utime(left, (0, 0))
    assert [item for item, _, _ in find_garbage(near)] == [left]


@pytest.mark.parametrize(
    ("place", "host", "folder"),
    [
        ("host:runs", "host", "runs"),
        ("me@host.org:/data/a store", "me@host.org", "/data/a store"),
        ("host:~/runs/", "host", "runs"),
    ],
)
def test_a_place_with_a_host_is_another_machines(place: str, host: str, folder: str) -> None:
    assert Remote.parse(place) == Remote(host, folder)


@pytest.mark.parametrize("place", ["runs", "./host:runs", "s3://bucket/runs", "-oProxyCommand=x:runs", "a b:runs"])
def test_other_places_are_none_of_ssh(place: str) -> None:
    assert Remote.parse(place) is None


# The commands


def test_seeds_of_two_machines_that_are_joined_leave_nothing_to_run(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seeds, name in (([0], "here"), ([1], "there"), ([0, 1], "both")):
        context = prepared(micro(f"seeds={seeds}"), tmp_path / name)
        list(work(context))
    done = call("store", "pull", "there", "--store", "here")
    assert (done.code, done.out[:13]) == (0, "4 jobs copied")
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(micro_text("seeds=[0, 1]"))
    tables = [call("table", str(recipe), "--store", name, "--format", "csv") for name in ("here", "both")]
    assert tables[0].out == tables[1].out
    assert "missing" not in tables[0].err
    assert sum(job.kind is Kind.TICKET for job in context.plan) == 4


def test_the_command_refuses_what_is_no_other_store_and_tells_of_contradictions(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commit(Store(tmp_path / "here"), FIRST)
    commit(Store(tmp_path / "there"), FIRST, {"job.json": b"[]"})
    same = call("store", "push", "here", "--store", "here")
    assert (same.code, same.err) == (
        2,
        "lottery: here: is the store itself; name another one, or this one by --store\n",
    )
    none = call("store", "pull", "nowhere", "--store", "here")
    assert none.code == 2
    assert "nowhere: has no finished jobs" in none.err
    told = call("store", "pull", "there", "--store", "here")
    assert told.code == 1
    assert "1 job with other bytes here than in there" in told.out
    assert "dense 0: job.json, metrics.json" in told.out
    as_json = call("store", "pull", "there", "--store", "here", "--json")
    assert json.loads(as_json.out)["different"][0]["alarm"] is True


def test_a_place_by_ssh_without_rsync_is_refused(near: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="host:runs: this machine has no rsync"):
        Remote("host", "runs").pull(near, _quiet)


@pytest.mark.slow
def test_a_pull_of_nothing_new_from_ten_thousand_jobs_takes_less_than_two_seconds(near: Store, far: Store) -> None:
    about: dict[str, Any] = {"schema": 1, "kind": "dense", "status": "done", "parent": None, "label": "", "seconds": 1}
    about |= {"files": {"metrics.json": {"size": 2, "sha256": "0" * 64}}, "environment": {}, "created": "2026"}
    for number in range(10_000):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        for store in (near, far):
            store.folder(key).mkdir(parents=True)
            (store.folder(key) / "manifest.json").write_bytes(seal({**about, "key": key}))
    began = time.process_time()
    assert transfer(far, near).same == 10_000
    assert time.process_time() - began < 2
