"""The ranks of a run on this machine: started, passed signals, and ended where one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lottery.distributed.place import MEETING
from lottery.signals import signals_to

GRACE_SECONDS = 30.0  # for the others to leave by themselves once one has died, which they notice at once
POLL_SECONDS = 0.05
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # torch logs from C++ that no parameter is unused: SharedObjective knows
LOOPBACK = {"linux": "lo", "darwin": "lo0"}  # the ranks of one machine are nobody else's business


def launch(ranks: int, command: Sequence[str]) -> int:
    """Run a command in so many processes that find their place in the environment, and return an exit code.

    Signals are passed on to all. It is the code of rank 0; 3 where that, or another before it, was killed.
    """
    with tempfile.TemporaryDirectory(prefix="lottery-ranks-") as folder:
        meeting = f"file://{Path(folder).resolve()}/meeting"
        processes = [_start(rank, ranks, command, meeting) for rank in range(ranks)]
        try:
            with _passing_signals_on(processes):
                killed = _wait(processes)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
    if killed is not None:
        rank, number = killed
        print(
            f"lottery: rank {rank} was killed (signal {number}), out of memory?; all {ranks} have stopped. Run the "
            "same command again: it goes on from the last checkpoint",
            file=sys.stderr,
        )
    return processes[0].returncode if processes[0].returncode >= 0 else 3


def leave_with_launcher() -> None:
    """Have this rank save and leave, as if told to, where the process that launched it is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _start(rank: int, ranks: int, command: Sequence[str], meeting: str) -> subprocess.Popen[bytes]:
    place = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": ranks}
    own = {MEETING: meeting, **{name: str(value) for name, value in place.items()}}
    inside = {"GLOO_SOCKET_IFNAME": LOOPBACK[sys.platform]} if sys.platform in LOOPBACK else {}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # closed when this process is gone, however it went
        env={**QUIET, **inside, **os.environ, **own},
        start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on once
    )


@contextmanager
def _passing_signals_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    with signals_to(pass_on):
        yield


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int] | None:
    """Wait until all have left, not longer than the grace once rank 0 has, or one that met an error.

    Return the rank and the signal of the first one that was killed, if any.
    """
    end, killed = None, None
    while True:
        codes = [process.poll() for process in processes]
        if killed is None:
            killed = next(((rank, -code) for rank, code in enumerate(codes) if code is not None and code < 0), None)
        if end is None and (codes[0] is not None or any(code not in (None, 0, 1) for code in codes)):
            end = time.monotonic() + GRACE_SECONDS
        if None not in codes or (end is not None and time.monotonic() > end):
            return killed
        time.sleep(POLL_SECONDS)
