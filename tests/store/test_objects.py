"""Object stores: lost replies, few requests, a cache that is never believed, leases without anybody else's clock."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lottery.cli.main import main
from lottery.errors import MachineError, UsageError
from lottery.files import write
from lottery.store.maintenance import collect, find_garbage, summarize
from lottery.store.manifest import seal
from lottery.store.objects import bucket, events, garbage
from lottery.store.objects.bucket import Bucket, open_bucket
from lottery.store.objects.cache import Cache
from lottery.store.objects.leases import BEATS, ObjectLeases
from lottery.store.objects.objects import Objects
from lottery.store.store import Store
from tests.support.clocks import Clock
from tests.support.places import OBJECTS, Ground, HttpGround, MemoryGround, ground, look_always
from tests.support.s3_server import S3Server, s3_server
from tests.support.stored import FILES, KEY, OTHER, bytes_of, commit

HOUR = 3600.0


def objects_of(store: Store) -> Objects:
    assert isinstance(store.place, Objects)
    return store.place


@pytest.fixture(params=OBJECTS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    look_always(monkeypatch)
    with ground(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpGround]:
    look_always(monkeypatch)
    with ground("http", tmp_path) as found:
        assert isinstance(found, HttpGround)
        yield found


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[MemoryGround]:
    with ground("memory", tmp_path) as found:
        assert isinstance(found, MemoryGround)
        yield found


# Faults on the way


def work(store: Store, key: str) -> None:
    """What a process does for one job."""
    with store.lease(key) as mine:
        assert mine
        assert store.find(key) is None and store.load_checkpoint(key) is None
        store.save_checkpoint(key, 1, {"state": b"1"})
        commit(store, key)
        store.drop_checkpoints(key)
    objects_of(store).chores.wait()


@pytest.mark.parametrize("client", ["gives up", "asks again"])
@pytest.mark.parametrize(
    "fault", ["lost", *(pytest.param(each, marks=pytest.mark.slow) for each in ("reset", "error"))]
)
def test_a_request_that_fails_or_loses_its_reply_never_makes_own_work_anothers(
    http: HttpGround, fault: str, client: str
) -> None:
    if client == "asks again":
        http.objects = http.retrying
    for at in range(100):
        key, store, count = f"{at:064x}", http.open(), iter(range(10_000))
        http.server.fault = lambda method, path: fault if next(count) == at else None  # noqa: B023
        try:
            work(store, key)
        except MachineError as error:
            assert client == "gives up" and "\n" not in str(error)
        done = next(count) <= at
        http.server.fault = lambda method, path: None
        http.rest()
        assert bytes_of(http.open(), key) in ({}, FILES)
        commit(http.open(), key)
        assert bytes_of(http.open(), key) == FILES and http.quarantine() == {}
        assert not [path for path in http.contents() if path.startswith("events/")]  # nothing was second or damaged
        if done:
            return
    raise AssertionError("it never ends")


def test_a_commit_whose_reply_is_lost_is_this_process_s_own(http: HttpGround) -> None:
    http.server.fault = lambda method, path: "lost" if method == "PUT" and path.endswith("manifest.json") else None
    store = http.open()
    made = commit(store, seconds=1.0)
    http.server.fault = lambda method, path: None
    assert store.find(KEY) == made == http.open().find(KEY)
    assert commit(http.open(), seconds=2.0) == made


def test_large_files_go_in_parts(http: HttpGround) -> None:
    files = {"weights.safetensors": os.urandom(6_000_000)}
    commit(http.open(), files=files)
    assert bytes_of(http.open()) == files
    assert sum("weights" in path for method, path in http.server.requests if method == "PUT") == 2


# Few requests


class Counting(Bucket):
    """Counts what is waited for, one after the other, and all."""

    def __init__(self, objects: Any):
        super().__init__(objects, "memory://place")
        self.waited, self.all = 0, 0

    def _asked(self, *arguments: Any) -> Any:
        self.all += 1
        self.waited += threading.current_thread() is threading.main_thread()
        return super()._asked(*arguments)

    def at_once(self, requests: Any) -> None:
        self.waited += 1
        super().at_once(requests)


def test_a_job_waits_for_five_requests_one_after_the_other_at_most(memory: MemoryGround, tmp_path: Path) -> None:
    counting = Counting(memory.objects)
    store = Store(Objects(counting, Cache(tmp_path / "cache")))
    for number in range(3):
        key = f"{number:064x}"
        before = counting.waited
        assert store.find(key) is None  # as `lottery.runner.run` does
        with store.lease(key) as mine:
            assert mine and store.find(key) is None and store.failure(key) is None
            assert store.load_checkpoint(key) is None
            commit(store, key, parent=None if number == 0 else f"{number - 1:064x}")
            store.drop_checkpoints(key)
            assert store.find(key) is not None and store.read(key, "metrics.json")
            store.clear_failure(key)
        store.log("done", key=key)
        if number:
            assert bytes_of(store, f"{number - 1:064x}") == FILES  # what it builds on
            assert counting.waited - before <= 5
    objects_of(store).chores.wait()


def test_who_waits_for_a_job_of_another_asks_the_store_once_in_two_seconds(
    memory: MemoryGround, tmp_path: Path, clock: Clock
) -> None:
    counting = Counting(memory.objects)
    waiting = Store(Objects(counting, Cache(tmp_path / "cache")))
    holder = memory.open()
    with holder.lease(KEY) as mine:
        assert mine
        for _ in range(2):  # the first time it learns whose the job is
            counting.all = 0
            for _ in range(100):
                with waiting.lease(KEY) as theirs:
                    assert not theirs and waiting.find(KEY) is None
                clock.advance(0.1)
        assert counting.all <= 6
        commit(holder)
    memory.rest()
    clock.advance(3)
    assert waiting.find(KEY) is not None


def test_many_jobs_that_are_missing_are_looked_for_with_few_requests(
    memory: MemoryGround, tmp_path: Path, clock: Clock
) -> None:
    counting = Counting(memory.objects)
    store = Store(Objects(counting, Cache(tmp_path / "cache")))
    for number in range(200):  # a plan is gone through in twenty seconds
        assert store.state(f"{number:064x}") == "missing"
        clock.advance(0.1)
    assert counting.all <= 10 * (4 + 4)  # in two seconds four listings, and four looks at single jobs


def test_a_lease_is_given_back_where_the_look_at_its_job_fails(http: HttpGround) -> None:
    http.server.fault = lambda method, path: "error" if method == "GET" and path.startswith("partial") else None
    store = http.open()
    with pytest.raises(MachineError), store.lease(KEY):
        raise AssertionError("it is not had")
    http.server.fault = lambda method, path: None
    http.rest()
    assert http.open().holder(KEY) is None and had(store)


def fill(memory: MemoryGround, count: int) -> None:
    import obstore

    environment = {"torch": "2.13.0", "device": "cpu", "threads": 2, "deterministic": True, "precision": "fp32"}
    about = {"schema": 1, "kind": "ticket", "status": "done", "parent": KEY, "label": "ticket level 3 seed 0"}
    about |= {"seconds": 1.5, "environment": environment, "created": "2026"}
    for number in range(count):
        key, metrics = hashlib.sha256(str(number).encode()).hexdigest(), json.dumps({"accuracy": number}).encode()
        sha256 = hashlib.sha256(metrics).hexdigest()
        files = {"metrics.json": {"size": len(metrics), "sha256": sha256}}
        obstore.put(memory.objects, f"jobs/{key[:2]}/{key}/metrics.json.{sha256}", metrics)
        obstore.put(memory.objects, f"jobs/{key[:2]}/{key}/manifest.json", seal({**about, "files": files, "key": key}))


def found_and_read(store: Store, keys: list[str]) -> int:
    store.expect(keys)
    return sum(store.find(key) is not None and len(store.read(key, "metrics.json")) > 0 for key in keys)


def test_thousands_of_finished_jobs_are_looked_at_with_few_requests(memory: MemoryGround, tmp_path: Path) -> None:
    count = 600
    fill(memory, count)
    keys = sorted(hashlib.sha256(str(number).encode()).hexdigest() for number in range(count))
    for machine, most in (("first", 2 * count + 20), ("first", 1), ("second", 5)):
        counting = Counting(memory.objects)
        store = Store(Objects(counting, Cache(tmp_path / machine)))
        assert found_and_read(store, keys) == count
        assert counting.all <= most, machine  # on the first machine once; then its pack serves all others
    counting = Counting(memory.objects)
    assert summarize(Store(Objects(counting, Cache(tmp_path / "second")))).finished == count
    assert counting.all <= 6


# Logs


def test_a_long_log_is_a_few_objects_and_is_read_from_any_byte(memory: MemoryGround, monkeypatch: Any) -> None:
    look_always(monkeypatch)
    monkeypatch.setattr(events, "PART_BYTES", 1000)
    store, told = memory.open(), b""
    for number in range(60):
        store.log("progress", number=number)
        memory.rest()  # as after three seconds
    parts = {path: data for path, data in memory.contents().items() if path.startswith("events/")}
    told = b"".join(data for _, data in sorted(parts.items()))
    assert [json.loads(line)["number"] for line in told.splitlines()] == list(range(60)) and len(parts) < 8
    other = memory.open()
    ((name, size),) = other.place.sizes("events").items()
    assert size == len(told)
    for offset in (0, 1, 999, 1000, 1001, len(told) // 2, len(told) - 1, len(told)):
        assert other.place.tail(f"events/{name}", offset, 10_000_000) == told[offset:]
        assert other.place.tail(f"events/{name}", offset, 50) == told[offset : offset + 50]


# The cache


def test_what_was_read_once_is_read_from_this_machines_disk_and_verified_again(place: Ground, tmp_path: Path) -> None:
    commit(place.open())
    cache = Cache(tmp_path / "cache")
    assert bytes_of(place.made(cache)) == FILES
    place.put(place.path(KEY, "weights.safetensors"), b"\0" * 200)
    assert bytes_of(place.made(cache)) == FILES  # the bytes that were committed
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(b"x" + path.read_bytes()[1:])
    store = place.made(cache)
    assert store.find(KEY) is not None and store.read(KEY, "metrics.json") == FILES["metrics.json"]
    assert place.quarantine() == {}  # the cache is damaged, the job is not
    assert dict(place.made(cache).verify())[KEY] is not None and place.made(cache).find(KEY) is None


def test_the_cache_keeps_what_was_used_last_within_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lottery.store.objects.cache.SWEEP_BYTES", 0)
    cache = Cache(tmp_path, most_bytes=10_000)
    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(20)]
    for age, name in enumerate(names):
        cache.put(name, b"x" * 1000)
        os.utime(tmp_path / name, (age, age))
    assert sum(cache.has(name) for name in names) == 10 and cache.has(names[-1]) and not cache.has(names[0])
    cache.put(names[0], b"x" * 1001)
    assert not cache.has(names[0])  # a tenth of all is the most that one may take


def test_a_disk_that_refuses_only_makes_the_cache_useless(memory: MemoryGround, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file in the way")
    store = memory.made(Cache(tmp_path / "cache"))
    commit(store)
    assert bytes_of(store) == FILES


def test_processes_share_a_cache(memory: MemoryGround, tmp_path: Path) -> None:
    commit(memory.open())

    def read(number: int) -> bool:
        return bytes_of(memory.made(Cache(tmp_path / "cache"))) == FILES

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(32)))


# Leases


def had(store: Store, duration: float = HOUR) -> bool:
    with store.lease(KEY, duration=duration) as mine:
        return mine


def leave(place: Ground, **about: Any) -> None:
    """A lease of somebody else."""
    told = {"holder": "process 7 on elsewhere", "machine": "0" * 8, "pid": 7, "token": "t", "duration": HOUR, "beat": 0}
    path = f"leases/{KEY}.lease"
    if isinstance(place, HttpGround):
        place.server.put(path, json.dumps({**told, **about}).encode())
    else:
        place.put(path, json.dumps({**told, **about}).encode())


def test_a_lease_is_had_by_one_at_a_time_and_given_back(place: Ground) -> None:
    store, other = place.open(), place.open()
    with store.lease(KEY) as mine, store.lease(KEY) as again, other.lease(KEY) as theirs:
        assert (mine, again, theirs) == (True, False, False)
        assert str(other.holder(KEY)).startswith(f"process {os.getpid()} on ") and store.state(KEY) == "running"
        assert summarize(other).running.keys() == {KEY}
    assert store.holder(KEY) is None
    place.rest()
    assert other.holder(KEY) is None and summarize(other).running == {} and had(other)
    place.rest()
    commit(store)
    assert had(store)
    place.rest()
    assert not [path for path in place.contents() if path.startswith("leases/")]  # of a finished job none is left


def test_of_many_that_ask_at_once_one_has_the_lease(place: Ground) -> None:
    barrier = threading.Barrier(8)

    def one(number: int) -> bool:
        store = place.open()
        barrier.wait()
        with store.lease(KEY) as mine:
            barrier.wait()  # nobody gives it back before all have asked
            return mine

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(8))) == 1


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_taken_at_once(place: Ground) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    leave(place, machine=write.machine_id(), pid=gone.pid)
    assert place.open().holder(KEY) is None and had(place.open())


def test_the_lease_of_another_machine_is_taken_after_twice_its_duration_by_the_own_clock(
    place: Ground, clock: Clock
) -> None:
    leave(place)
    store = place.open()
    for _ in range(4):  # 0, 0.6, 1.2 and 1.8 hours after it was first seen
        assert not had(store)
        clock.advance(0.6 * HOUR)
    assert had(store)


def test_a_lease_that_claims_longer_than_the_own_ones_last_is_left_as_long(place: Ground, clock: Clock) -> None:
    leave(place)
    store = place.open()
    for _ in range(4):  # 0 to 1.8 hours after it was first seen
        assert not had(store, HOUR / 10)
        clock.advance(0.6 * HOUR)
    assert had(store, HOUR / 10)


def test_the_lease_of_another_machine_stays_while_it_changes(place: Ground, clock: Clock) -> None:
    store = place.open()
    for beat in range(10):
        leave(place, beat=beat)
        assert not had(store)
        clock.advance(1.5 * HOUR)
    leave(place, beat=11, pid=os.getpid())  # a process number of another machine means nothing here
    assert not had(store) and store.holder(KEY) == "process 7 on elsewhere"


@pytest.mark.parametrize("ahead", [-1e9, 1e9])
def test_the_clock_of_the_store_decides_nothing(http: HttpGround, clock: Clock, ahead: float) -> None:
    leave(http)
    data, etag, written = http.server.objects[f"leases/{KEY}.lease"]
    http.server.objects[f"leases/{KEY}.lease"] = data, etag, written + ahead
    store = http.open()
    assert not had(store)
    clock.advance(1.9 * HOUR)
    assert not had(store)
    clock.advance(0.2 * HOUR)
    assert had(store)


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 5000, b"[1]", b'{"duration": -1}'])
def test_what_tells_no_holder_is_taken_over(place: Ground, clock: Clock, content: bytes) -> None:
    place.put(f"leases/{KEY}.lease", content)
    store = place.open()
    assert store.holder(KEY) is None and had(store) == (content == b"")
    clock.advance(2.1 * HOUR)
    assert had(store)


def test_a_heart_beats_until_the_lease_is_given_back(http: HttpGround) -> None:
    beats = threading.Semaphore(0)

    def seen(method: str, path: str) -> None:
        if method == "PUT" and path.startswith("leases/"):
            beats.release()

    http.server.fault = seen
    with http.open().lease(KEY, duration=0.05 * BEATS) as mine:
        assert mine
        for _ in range(4):
            assert beats.acquire(timeout=60)
        assert json.loads(http.contents()[f"leases/{KEY}.lease"])["beat"] >= 2


def test_a_lease_that_was_taken_over_is_neither_kept_nor_given_back(place: Ground) -> None:
    store = place.open()
    with store.lease(KEY, duration=HOUR) as mine:
        assert mine
        leave(place)
        leases = store.leases
        assert isinstance(leases, ObjectLeases)
        leases.beat(KEY, leases._held[KEY])
        assert place.open().holder(KEY) == "process 7 on elsewhere"
    place.rest()
    assert place.open().holder(KEY) == "process 7 on elsewhere"


# Garbage


def test_files_without_a_manifest_and_leases_that_nobody_has_go_after_a_day(
    http: HttpGround, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(http.open())
    commit(http.open(), files={"metrics.json": b"{}"}, environment={"torch": "3"})  # another result, which is not kept
    assert had(http.open(), HOUR)
    http.rest()
    http.server.put(f"jobs/ab/{OTHER}/metrics.json.{'0' * 64}", b"12")
    http.server.put(f"partial/{OTHER}/000000000001-x/state.{'0' * 64}", b"123")
    leave(http)
    assert find_garbage(http.open()) == []
    monkeypatch.setattr(garbage, "WRITTEN_SECONDS", -1e6)
    monkeypatch.setattr(garbage, "LEASE_SECONDS", -1e6)
    items = find_garbage(http.open())
    assert sorted(size for _, size, reason in items if "lease" not in reason) == [2, 2, 3] and len(items) == 4
    collect(http.open(), items)
    http.rest()
    assert bytes_of(http.open()) == FILES and find_garbage(http.open()) == []
    assert {path.partition("/")[0] for path in http.contents()} == {"jobs", "notes", "events"}


# What is refused


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    with s3_server() as found:
        for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
            monkeypatch.delenv(name)
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(bucket, "RETRIES", {"max_retries": 0})
        monkeypatch.setattr(bucket, "FIRST_RETRIES", {"max_retries": 0})
        yield found


def test_a_url_names_a_bucket_and_a_prefix_and_variables_the_server_and_its_credentials(server: S3Server) -> None:
    made = commit(Store("s3://bucket/some/runs/"))
    assert Store("s3://bucket/some/runs").find(KEY) == made and Store("s3://bucket/other").find(KEY) is None
    assert all(path.startswith("some/runs/jobs/ab/") for path in server.objects)
    assert Store("s3://bucket/some/runs").name == "s3://bucket/some/runs"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("http://host/x", "is no place for a store; name a folder, or a bucket and a prefix after s3://"),
        ("s3://", "is no place for a store"),
        ("ftp://bucket/x", "is no place for a store"),
        ("s3://key:secret@bucket/x", "has no credentials in it; set AWS_ACCESS_KEY_ID"),
        ("az://container/x?sig=secret", "has no credentials in it; set AZURE_STORAGE"),
    ],
)
def test_a_url_that_is_no_place_is_bad_usage(place: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        open_bucket(place)
    assert "secret" not in str(caught.value)


def test_a_server_that_refuses_is_one_line_without_secrets(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(place: str) -> str:
        with pytest.raises(MachineError) as caught:
            commit(Store(place))
        assert "\n" not in str(caught.value) and "verysecret" not in str(caught.value) and place in str(caught.value)
        return str(caught.value)

    assert "there is no such bucket" in refused("s3://another/runs")
    server.fault = lambda method, path: "error" if method == "PUT" else None
    assert "cannot put" in refused("s3://bucket/runs")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "cannot be reached" in refused("s3://bucket/runs")


def test_the_command_line_says_so_in_one_line_and_leaves_with_3(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lottery", "status", "--store", "s3://another/runs"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 3
    assert (
        capsys.readouterr().err
        == "lottery: s3://another/runs: there is no such bucket, or it is not yours; create it\n"
    )


def test_without_obstore_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lottery.store.objects")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"pip install 'lottery\[cloud\]'"):
        Store("s3://bucket/runs")
