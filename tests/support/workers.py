"""Workers of the tests of executors: a small script in place of `lottery work`, and Slurm's stand-in on the PATH."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from lottery import registry
from lottery.catalogue.executors._workers import Launch, Workers
from tests.support import ROOT
from tests.support.clocks import until

SCRIPT = """
import os, signal, sys, threading, time

def leave(number, frame):
    print("saved", flush=True)
    os._exit(128 + number)

def hear():
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)

for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, leave)
if "--tied" in sys.argv:
    threading.Thread(target=hear, daemon=True).start()
shown = [os.environ.get(name, "none") for name in ("NOTE", "CUDA_VISIBLE_DEVICES", "LOKY_MAX_CPU_COUNT")]
with open(f"begun-{os.getpid()}.new", "w") as file:
    file.write("\\n".join([os.getcwd(), *shown]))
os.rename(f"begun-{os.getpid()}.new", f"begun-{os.getpid()}")
while not os.path.exists("leave"):
    time.sleep(0.02)
code = int(open("leave").read())
print("it is over", flush=True)
os._exit(code)
"""


CLUSTERS: list[Any] = [  # parameters of tests
    pytest.param("slurm", id="slurm-stand-in"),
    "dask",
    pytest.param("ray", marks=pytest.mark.slow),  # it takes ten seconds to start
    pytest.param("real slurm", marks=pytest.mark.cluster),
]
PACKAGES = {"dask": "distributed", "ray": "ray"}


class Place:
    """A folder in which the script runs, with a space and what a shell would take for a command in its name."""

    def __init__(self, root: Path):
        self.folder = root / "two words; $(touch hit) 'it' 100%a"
        (self.folder / "logs").mkdir(parents=True)
        (self.folder / "script.py").write_text(SCRIPT)

    def launch(self) -> Launch:
        command = (sys.executable, str(self.folder / "script.py"))
        environment = {"NOTE": 'it\'s a "note"; $HOME'}
        return Launch(command, self.folder, self.folder / "logs", environment, "micro")

    def workers(self, name: str, **keys: Any) -> Workers:
        """The workers of an executor under these keys, which are checked as the command line checks them."""
        entry = registry.executors[name]
        checked, wrong = entry.check(keys)
        assert not wrong, wrong
        workers: Workers = entry.make(self.launch(), **checked)
        return workers

    def begun(self) -> dict[int, list[str]]:
        """What the workers that have begun so far saw, by their process numbers."""
        return {int(each.name[6:]): each.read_text().split("\n") for each in self.folder.glob("begun-*[0-9]")}


def usable(executor: str, folder: Path, patched: pytest.MonkeyPatch) -> str:
    """Return the name of one of `CLUSTERS` when it can be used here; the test is skipped where it cannot."""
    if executor in PACKAGES and importlib.util.find_spec(PACKAGES[executor]) is None:
        pytest.skip(f"{PACKAGES[executor]} is not installed")
    if executor == "slurm":
        slurm_here(folder, patched)
    return executor.removeprefix("real ")


def slurm_here(folder: Path, patched: pytest.MonkeyPatch, slots: int = 8, minute: float = 60.0) -> None:
    """Put the stand-in for Slurm on the PATH, its queue into the folder, and have the executor look often."""
    (folder / "bin").mkdir()
    (folder / "queue").mkdir()
    for name in ("sbatch", "squeue", "scancel"):
        stand_in = ROOT / "tests" / "cluster" / "stand_in.py"
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{stand_in}" {name} "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    patched.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    patched.setenv("STAND_IN_SLURM", str(folder / "queue"))
    patched.setenv("STAND_IN_SLOTS", str(slots))
    patched.setenv("STAND_IN_MINUTE", str(minute))
    patched.setattr("lottery.catalogue.executors.slurm.SHORTEST", 0.2)
    patched.setattr("lottery.catalogue.executors.slurm.LONGEST", 0.4)


@contextmanager
def background(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process beside the test, ended with all that it has started."""
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def dask_scheduler(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A scheduler of Dask beside the test."""
    words = ["-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
    with background(sys.executable, *words) as process:
        until(lambda: listens(port))
        yield process


@contextmanager
def dask_worker(port: int) -> Iterator[None]:
    """A process of Dask with two threads beside the test, which waits for the scheduler if need be."""
    words = ["-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "2", "--no-dashboard"]
    with background(sys.executable, *words):
        yield


@contextmanager
def ray_head(port: int) -> Iterator[None]:
    """A Ray cluster of eight processors and one GPU, to its mind, beside the test."""
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=8", "--num-gpus=1"]
    small = ["--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    with background(sys.executable, "-m", "ray.scripts.scripts", *words, *small):
        until(lambda: listens(port))
        yield
