"""Leases: one holder at a time, and nobody has to delete the file of one that is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lottery.errors import MachineError, UsageError
from lottery.store.maintenance import collect, find_garbage
from lottery.store.store import Store
from tests.support.faults import Disk, refuses

KEY = "ab" * 32
SHORT = 0.3  # seconds: of leases that nobody keeps alive
LONG = 1.5  # seconds: of leases that are kept alive or found alive, however busy the machine

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
    process = other_process(store, LONG, 60)
    assert said(process) == "True"
    yield process
    process.kill()
    process.wait()


def had(store: Store, duration: float = SHORT) -> bool:
    with store.lease(KEY, duration=duration) as mine:
        return mine


def waited_for(store: Store, limit: float, duration: float = SHORT) -> float:
    """Seconds until the lease was had, asking again and again as a run does."""
    began = time.monotonic()
    while not had(store, duration):
        assert time.monotonic() - began < limit
        time.sleep(0.02)
    return time.monotonic() - began


def fabricate(store: Store, *, pid: int, host: str, start: int | None = None, duration: float = SHORT) -> Path:
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
        assert had(store, 30.0) is False
        with store.lease("cd" * 32) as another_job:
            assert another_job
    assert store.holder(KEY) is None and had(store, 30.0)
    assert list((store.root / "leases").iterdir()) == []


def test_a_lease_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lease(KEY):
        _ = 1 / 0
    assert had(store)


def test_a_live_process_keeps_its_lease_longer_than_the_lease_lasts(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    end = time.monotonic() + 2 * LONG
    while time.monotonic() < end:
        assert not had(store, LONG)
        time.sleep(0.05)
    assert store.holder(KEY) == f"process {holder.pid} on {socket.gethostname()}"


def test_of_racing_processes_exactly_one_holds(store: Store) -> None:
    processes = [other_process(store, 30, 60) for _ in range(4)]
    assert sorted(said(process) for process in processes) == ["False", "False", "False", "True"]
    for process in processes:
        process.kill()
        process.wait()


def test_the_lease_of_a_killed_process_is_taken_over_at_once(store: Store, holder: subprocess.Popen[str]) -> None:
    assert not had(store, LONG)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert store.holder(KEY) is None
    assert had(store, LONG)


def test_the_lease_of_a_process_that_is_stopped_is_taken_over_when_it_expires(
    store: Store, holder: subprocess.Popen[str]
) -> None:
    assert not had(store, LONG)
    holder.send_signal(signal.SIGSTOP)
    assert waited_for(store, 20, LONG) > LONG / 2


@pytest.mark.skipif(sys.platform != "linux", reason="when a process began is read from /proc")
def test_a_reused_process_number_does_not_keep_a_lease(store: Store) -> None:
    fabricate(store, pid=os.getppid(), host=this_host(store), start=1)
    assert had(store)


def test_the_lease_of_another_host_is_taken_over_when_it_expires(store: Store) -> None:
    path = fabricate(store, pid=os.getpid(), host="elsewhere", duration=LONG)
    assert not had(store, LONG)
    assert store.holder(KEY) == f"process {os.getpid()} on elsewhere"
    assert waited_for(store, 20, LONG) > LONG / 2
    assert not path.exists()


def test_the_lease_of_another_host_stays_while_its_heart_beats(store: Store) -> None:
    path = fabricate(store, pid=os.getpid(), host="elsewhere", duration=LONG)
    end = time.monotonic() + 2 * LONG
    while time.monotonic() < end:
        assert not had(store, LONG)
        os.utime(path)
        time.sleep(0.05)


@pytest.mark.parametrize("content", ["", "filelock/2\n", "\0" * 5000, "1\nelsewhere\n"])
def test_a_file_that_tells_no_holder_is_taken_over(store: Store, content: str) -> None:
    fill(store, content)
    assert store.holder(KEY) is None
    waited_for(store, 20)


@pytest.mark.parametrize("theirs", [SHORT / 2, 2 * SHORT])
def test_a_lease_of_another_length_is_taken_over_too(store: Store, theirs: float) -> None:
    fabricate(store, pid=os.getpid(), host="elsewhere", duration=theirs)
    assert waited_for(store, 20) >= 2 * SHORT


def test_where_names_cannot_be_exchanged_a_dead_holder_still_loses_its_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import SoftFileLease  # with all its modules

    library = SoftFileLease.__module__.partition(".")[0]
    for name, module in list(sys.modules.items()):
        if name.startswith(library) and "exchange_names" in vars(module):
            monkeypatch.setattr(module, "exchange_names", lambda *names: False)  # as on a network folder
    fabricate(store, pid=os.getpid(), host="elsewhere", duration=LONG)
    assert not had(store, LONG)
    assert waited_for(store, 20, LONG) >= 2 * LONG


def test_files_of_holders_that_are_gone_are_garbage_after_a_minute(store: Store) -> None:
    path = fabricate(store, pid=os.getpid(), host="elsewhere")
    assert find_garbage(store) == []
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert [(item, reason) for item, _, reason in find_garbage(store)] == [(path, "lease that has expired")]
    collect(store, find_garbage(store))
    assert not path.exists()


def test_a_lease_that_cannot_be_written_is_a_machine_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    had(store)
    Disk(monkeypatch).arm(None, refuses(errno.EROFS))
    with pytest.raises(MachineError, match=str(store.root)):
        had(store)


def test_a_lease_on_what_is_no_key_is_refused(store: Store) -> None:
    with pytest.raises(UsageError):
        store.lease("../x")
