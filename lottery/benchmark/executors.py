"""Cases of executors: what their workers cost beside `--jobs`, between two jobs, and where they have nothing to do.

They take minutes a turn, and are measured where they are named.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from lottery.benchmark.case import Case, Turn
from lottery.errors import MachineError
from lottery.registry import executors

JOBS, WORKERS = 200, 4
RECIPE = """
name: bench
data: {{name: mnist, validation: 5000}}
model: lenet
init: glorot_normal
train: {{optimizer: {{name: sgd, lr: 0.1}}, batch_size: 128, length: {steps}it, evaluate_every: {steps}it}}
prune: {{fraction: 0.2, levels: 0}}
rewind: init
seeds: {seeds}
"""
STEPS = 1500  # about a second
LONG = 10_000_000  # steps of a training that is in hand while others have nothing to do
ALIKE = 1 / 1.15  # of the time with --jobs, at most 1.15 of it
OVERHEAD = 0.05  # seconds between two jobs of a worker at most
IDLE = 0.02  # of a core at most, for a worker that has nothing to do
SETTLE_SECONDS, IDLE_SECONDS = 5.0, 20.0  # before the measurement, and of it


def executor_cases(ready: Callable[[Path], object]) -> Iterator[Case]:
    """Yield the cases of every executor that can be used here; `ready` reads their data."""
    for entry in executors:
        if _usable(entry.name, entry.traits.package):
            against = f"{JOBS} jobs of LeNet, {WORKERS} workers of {entry.name} against --jobs {WORKERS}"
            between = f"{1000 * OVERHEAD:g} ms against the time between two jobs of a worker of {entry.name}"
            yield Case(f"on-{entry.name}", against, ALIKE, partial(_against, entry.name), ready, named_only=True)
            yield Case(f"between-{entry.name}", between, 1.0, partial(_between, entry.name), ready, named_only=True)
    idle = f"{100 * IDLE:g} % of a core against what a worker takes that has nothing to do"
    yield Case("idle-worker", idle, 1.0, _idle, ready, named_only=True)


def _usable(name: str, package: str | None) -> bool:
    found = package is None or importlib.util.find_spec(package) is not None
    return found and (name != "slurm" or shutil.which("sbatch") is not None)


def _against(executor: str, data: Path) -> Turn:
    """Measure the whole command with processes of its own and with workers of an executor."""
    with _store() as store:
        base = _run(store, data, "--jobs", str(WORKERS))
    with _store() as store:
        return base, _run(store, data, "--on", f"{{name: {executor}, workers: {WORKERS}}}"), None


def _between(executor: str, data: Path) -> Turn:
    """Measure the time from the end of a job to the start of the next, as the logs of the workers have it."""
    with _store() as store:
        _run(store, data, "--on", f"{{name: {executor}, workers: {WORKERS}}}")
        return OVERHEAD, gap(store / "events"), None


def gap(events: Path) -> float:
    """Return the mean seconds between the end of a job and the start of the next in the same worker."""
    gaps = []
    for path in events.glob("*.jsonl"):
        ended: datetime | None = None
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            at = datetime.fromisoformat(entry["time"])
            if entry["event"] == "start" and ended is not None:
                gaps.append((at - ended).total_seconds())
            ended = at if entry["event"] == "done" else None
    if not gaps:
        raise MachineError(f"{events}: no worker ran two jobs; there are too few to measure this")
    return statistics.mean(gaps)


def _idle(data: Path) -> Turn:
    """Measure a worker while the only training that is left is in the hands of another one."""
    with _store() as store:
        recipe = _recipe(store, LONG, 1)
        command = [*_lottery("work", recipe, store, data), "--deterministic"]
        busy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(store, "start", busy)
            idle = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                _wait_for(store, "begun", idle)
                time.sleep(SETTLE_SECONDS)
                before, began = _processor_seconds(idle.pid), time.monotonic()
                time.sleep(IDLE_SECONDS)
                taken = (_processor_seconds(idle.pid) - before) / (time.monotonic() - began)
            finally:
                _end(idle)
        finally:
            _end(busy)
    return IDLE, max(taken, 1e-6), None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(store: Path, event: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until an event has been logged twice: by both workers, or of both jobs."""
    while sum(path.read_text().count(f'"{event}"') for path in store.glob("events/*.jsonl")) < 2:
        if process.poll() is not None:
            raise MachineError(f"lottery work: left with exit code {process.returncode}")
        time.sleep(0.2)


def _processor_seconds(pid: int) -> float:
    """Return the time on a processor that a process has had so far, that of its system calls included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _run(store: Path, data: Path, *options: str) -> float:
    """Return the seconds of `lottery run`, from its start to its table."""
    recipe = _recipe(store, STEPS, JOBS)
    began = time.perf_counter()
    done = subprocess.run([*_lottery("run", recipe, store, data), *options], capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise MachineError(f"lottery run {' '.join(options)}: {done.stderr.strip().splitlines()[-1]}")
    return seconds


def _recipe(folder: Path, steps: int, seeds: int) -> Path:
    path = folder / "bench.yaml"
    path.write_text(RECIPE.format(steps=steps, seeds=seeds), encoding="utf-8")
    return path


def _lottery(command: str, recipe: Path, store: Path, data: Path) -> Sequence[str]:
    places = ("--store", str(store), "--data", str(data.absolute()), "--device", "cpu")
    return (sys.executable, "-m", "lottery", command, str(recipe), *places)


@contextmanager
def _store() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
