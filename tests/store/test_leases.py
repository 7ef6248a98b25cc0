"""Leases: one holder at a time, and nobody has to delete the file of one that is gone."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lottery.errors import MachineError, UsageError
from lottery.files.clock import FileClock
from lottery.store.maintenance import collect, find_garbage
from lottery.store.store import Store
from tests.support.clocks import Clock
from tests.support.faults import Disk, refuses

KEY = "ab" * 32
HOUR = 3600.0  # seconds that no test takes: leases of this length expire when the clock is put forward
SHORT = 1.5  # seconds: of leases that are watched with a true clock

HOLDER = """
import sys, time
from pathlib import Path
from lottery.store.store import Store
with Store(Path(sys.argv[1])).lease("ab" * 32, duration=float(sys.argv[2])) as mine:
    print(mine, flush=True)
    time.sleep(float(sys.argv[3]) if mine else 0)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def other_process(store: Store, duration: float, seconds: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", HOLDER, str(store.root), str(duration), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def holder(store: Store) -> Iterator[subprocess.Popen[str]]:
    process = other_process(store, HOUR, 60_000)
    assert said(process) == "True"
    yield process
    process.kill()
    process.wait()


def had(store: Store, duration: float = HOUR) -> bool:
    with store.lease(KEY, duration=duration) as mine:
        return mine


def hours_until_had(store: Store, clock: Clock) -> float:
    """Hours that pass until the lease is had, in steps of half an hour; five at most."""
    for halves in range(11):
        if had(store):
            return halves / 2
        clock.advance(HOUR / 2)
    raise AssertionError("it is never had")


def fabricate(store: Store, *, pid: int, host: str, start: int | None = None, duration: float = HOUR) -> Path:
    """A lease as filelock writes it, by somebody else."""
    lines = ["filelock/2", f"pid={pid}", f"host={host}", "mode=lease", f"token={'0' * 32}", f"duration={duration!r}"]
    return fill(store, "".join(f"{line}\n" for line in [*lines, *([f"start={start}"] if start is not None else [])]))


def fill(store: Store, content: str) -> Path:
    path = store.root / "leases" / f"{KEY}.lease"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


def this_host(store: Store) -> str:
    """How filelock names this machine."""
    with store.lease(KEY):
        text = (store.root / "leases" / f"{KEY}.lease").read_text()
    (store.root / "leases").rmdir()
    return next(line for line in text.splitlines() if line.startswith("host=")).removeprefix("host=")


def test_a_lease_is_had_by_one_at_a_time_and_given_back(store: Store) -> None:
    with store.lease(KEY) as mine, store.lease(KEY) as again, Store(store.root).lease(KEY) as other:
        assert (mine, again, other) == (True, False, False)
        assert store.holder(KEY) == f"process {os.getpid()} on {socket.gethostname()}"
        assert had(store) is False
        with store.lease("cd" * 32) as another_job:
            assert another_job
    assert store.holder(KEY) is None and had(store)
    assert list((store.root / "leases").iterdir()) == []


def test_a_lease_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lease(KEY):
        _ = 1 / 0
    assert had(store)


@pytest.mark.slow  # its heart beats by the true clock
def test_a_live_process_keeps_its_lease_longer_than_the_lease_lasts(store: Store) -> None:
    process = other_process(store, SHORT, 60)
    assert said(process) == "True"
    end = time.monotonic() + 2 * SHORT
    while time.monotonic() < end:
        assert not had(store, SHORT)
        time.sleep(0.05)
    assert store.holder(KEY) == f"process {process.pid} on {socket.gethostname()}"
    process.kill()
    process.wait()


def test_of_racing_processes_exactly_one_holds(store: Store) -> None:
    processes = [other_process(store, HOUR, 60_000) for _ in range(4)]
    assert sorted(said(process) for process in processes) == ["False", "False", "False", "True"]
    for process in processes:
        process.kill()
        process.wait()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(store: Store, holder: subprocess.Popen[str]) -> None:
    assert not had(store)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert store.holder(KEY) is None
    assert had(store)


def test_the_lease_of_a_process_that_is_stopped_is_taken_over_when_it_expires(
    store: Store, holder: subprocess.Popen[str], clock: Clock
) -> None:
    holder.send_signal(signal.SIGSTOP)
    assert hours_until_had(store, clock) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began is read from /proc")
def test_a_reused_process_number_does_not_keep_a_lease(store: Store) -> None:
    fabricate(store, pid=os.getppid(), host=this_host(store), start=1)
    assert had(store)


def test_the_lease_of_another_host_is_taken_over_when_it_expires(store: Store, clock: Clock) -> None:
    path = fabricate(store, pid=os.getpid(), host="elsewhere")
    assert not had(store)
    assert store.holder(KEY) == f"process {os.getpid()} on elsewhere"
    assert hours_until_had(store, clock) == 1
    assert not path.exists()


def test_the_lease_of_another_host_stays_while_its_heart_beats(store: Store, clock: Clock) -> None:
    path = fabricate(store, pid=os.getpid(), host="elsewhere")
    for _ in range(10):
        assert not had(store)
        clock.advance(HOUR / 2)
        os.utime(path, (time.time(), time.time()))
    assert hours_until_had(store, clock) == 1


@pytest.mark.parametrize("content", ["", "filelock/2\n", "\0" * 5000, "1\nelsewhere\n"])
def test_a_file_that_tells_no_holder_is_taken_over(store: Store, clock: Clock, content: str) -> None:
    fill(store, content)
    assert store.holder(KEY) is None
    assert hours_until_had(store, clock) <= 2.5


@pytest.mark.parametrize("theirs", [HOUR / 2, 2 * HOUR])
def test_a_lease_of_another_length_is_taken_over_too(store: Store, clock: Clock, theirs: float) -> None:
    fabricate(store, pid=os.getpid(), host="elsewhere", duration=theirs)
    assert hours_until_had(store, clock) == 2


def test_where_names_cannot_be_exchanged_a_dead_holder_still_loses_its_lease(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import SoftFileLease  # with all its modules

    library = SoftFileLease.__module__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.startswith(library) and "exchange_names" in vars(module):
            monkeypatch.setattr(module, "exchange_names", lambda *names: False)  # as on a network folder
    fabricate(store, pid=os.getpid(), host="elsewhere")
    assert hours_until_had(store, clock) == 2


def test_files_of_holders_that_are_gone_are_garbage_after_a_minute(store: Store) -> None:
    path = fabricate(store, pid=os.getpid(), host="elsewhere", duration=SHORT)
    assert find_garbage(store) == []
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert [(item, reason) for item, _, reason in find_garbage(store)] == [(path, "lease that has expired")]
    collect(store, find_garbage(store))
    assert not path.exists()


@pytest.mark.parametrize("ahead", [-24 * HOUR, 24 * HOUR])
def test_ages_are_told_by_the_clock_of_the_file_system_however_wrong_the_own_one_is(
    store: Store, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    own = time.time
    monkeypatch.setattr(time, "time", lambda: own() + ahead)
    lease = fabricate(store, pid=4711, host="elsewhere")
    draft = store.root / "jobs" / "ab" / f"{KEY}.tmp-4711-00000000-0123456789ab"  # of another machine
    draft.mkdir(parents=True)
    assert store.holder(KEY) == "process 4711 on elsewhere"
    assert store.leases.held() == {KEY: "process 4711 on elsewhere"}
    assert find_garbage(store) == []
    for path in (lease, draft):
        os.utime(path, (own() - 3 * HOUR, own() - 3 * HOUR))
    assert store.holder(KEY) is None and store.leases.held() == {}
    assert {(item, reason) for item, _, reason in find_garbage(store)} == {
        (lease, "lease that has expired"),
        (draft, "left by a process that is gone"),
    }
    assert [path.name for path in lease.parent.iterdir()] == [lease.name]  # asking leaves nothing


def test_where_no_file_can_be_made_the_own_clock_tells_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(dir: Path) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert FileClock(tmp_path).now() > 1000
    assert FileClock(tmp_path / "nowhere").now() == pytest.approx(1000)
    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert FileClock(tmp_path).now() == pytest.approx(1000)


def test_a_lease_that_cannot_be_written_is_a_machine_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    had(store)
    Disk(monkeypatch).arm(None, refuses(errno.EROFS))
    with pytest.raises(MachineError, match=str(store.root)):
        had(store)


def test_a_lease_on_what_is_no_key_is_refused(store: Store) -> None:
    with pytest.raises(UsageError):
        store.lease("../x")
