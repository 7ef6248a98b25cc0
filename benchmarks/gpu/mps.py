"""NVIDIA's Multi-Process Service for a while: kernels of several processes then run at the same time.

Source: NVIDIA's documentation of MPS: `-f` keeps the daemon in the foreground, `quit` ends it; clients find it by
CUDA_MPS_PIPE_DIRECTORY.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.gpu.stage import NotHere

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
READY_SECONDS, ANSWER_SECONDS, END_SECONDS = 10.0, 5.0, 5.0


@contextmanager
def without() -> Iterator[Mapping[str, str]]:
    """Yield the variables under which a process finds no service, though one may be running."""
    with tempfile.TemporaryDirectory() as folder:
        yield {PIPES: folder}


@contextmanager
def service() -> Iterator[Mapping[str, str]]:
    """Run a service of this process's own, and yield the variables by which clients find it.

    It has folders of its own, so that another one on the machine is left alone; it ends with the block, and with this
    process's group where that is killed.

    Raises:
        NotHere: It is not installed, or may not be started.
    """
    with tempfile.TemporaryDirectory(prefix="mps", dir="/tmp", ignore_cleanup_errors=True) as folder:  # for sockets
        found = {PIPES: str(Path(folder) / "pipes"), LOGS: str(Path(folder) / "logs")}
        for each in found.values():
            Path(each).mkdir()
        said = Path(folder) / "said"
        with said.open("wb") as output:
            try:
                daemon = subprocess.Popen(
                    [CONTROL, "-f"], env={**os.environ, **found}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            except OSError as error:
                raise NotHere(f"{CONTROL} cannot be started: {error.strerror or error}") from error
        try:
            _wait_until_ready(daemon, found, said)
            yield found
        finally:
            _end(daemon, found)


def servers(variables: Mapping[str, str]) -> str:
    """Return the process ids of the servers that clients of this service have had started; empty for none."""
    return (_ask("get_server_list", variables) or "").strip()


def _wait_until_ready(daemon: subprocess.Popen[bytes], variables: Mapping[str, str], said: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        if daemon.poll() is not None:
            last = said.read_text(errors="replace").strip().rpartition("\n")[2]
            raise NotHere(f"{CONTROL} left with exit code {daemon.returncode}: {last or 'it says nothing'}")
        if _ask("get_server_list", variables) is not None:
            return
        time.sleep(0.1)
    raise NotHere(f"{CONTROL} does not answer")


def _ask(command: str, variables: Mapping[str, str]) -> str | None:
    """Return the daemon's answer; None where there is none."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [CONTROL],
            input=f"{command}\n",
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            env={**os.environ, **variables},
        )
        return done.stdout if done.returncode == 0 else None
    return None


def _end(daemon: subprocess.Popen[bytes], variables: Mapping[str, str]) -> None:
    """End the daemon and its servers: as NVIDIA says to, and by a signal where that does not do it."""
    if daemon.poll() is None:
        _ask("quit", variables)
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            daemon.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(END_SECONDS)
            return
