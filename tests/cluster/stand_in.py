"""A stand-in for Slurm: `sbatch`, `squeue` and `scancel` that really start processes on this machine and keep a queue.

`stand_in.py sbatch ...`, through small files of these names on a PATH. The queue is a folder, `STAND_IN_SLURM`: a
folder for each job, and in it its script, what was asked for, and how it stands. So many jobs run at once as
`STAND_IN_SLOTS` says; the others wait. A minute of `--time` lasts `STAND_IN_MINUTE` seconds.

What is asked of the real one and not understood here is an error, so that a test shows it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

QUEUE = Path(os.environ.get("STAND_IN_SLURM", "."))
SLOTS = int(os.environ.get("STAND_IN_SLOTS", "8"))
MINUTE = float(os.environ.get("STAND_IN_MINUTE", "60"))
PARTITIONS = ("debug", "gpu")


def sbatch(arguments: list[str]) -> None:
    """Put the script on stdin into the queue, once for each number of `--array`, and print the job's number."""
    parser = argparse.ArgumentParser("sbatch", allow_abbrev=True)
    parser.add_argument("--parsable", action="store_true", required=True)
    for option in ("job-name", "output", "chdir"):
        parser.add_argument(f"--{option}", required=True)
    parser.add_argument("--array", default="1-1")
    parser.add_argument("--partition", default="debug")
    parser.add_argument("--time", default="0")
    parser.add_argument("--signal", default="")
    for option in ("account", "qos", "gpus", "cpus-per-task", "mem", "constraint", "nodes", "ntasks", "open-mode"):
        parser.add_argument(f"--{option}")
    given = parser.parse_args(arguments)
    if given.partition not in PARTITIONS:
        sys.exit(
            f"sbatch: error: invalid partition specified: {given.partition}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified"
        )
    script = sys.stdin.read()
    if not script.startswith("#!"):
        sys.exit("sbatch: error: This does not look like a batch script.")
    first, last = map(int, re.fullmatch(r"(\d+)-(\d+)", given.array).groups())  # type: ignore[union-attr]
    with _alone():
        number = 1 + max((int(path.name.split("_")[0]) for path in QUEUE.glob("*_*")), default=0)
        for task in range(first, last + 1):
            folder = QUEUE / f"{number}_{task}"
            folder.mkdir()
            (folder / "script").write_text(script)
            about = {**vars(given), "task": task, "number": number, "state": "PENDING", "status": 0}
            _put(folder, about)
            subprocess.Popen(  # one that outlives us, as slurmd does
                [sys.executable, __file__, "tend", folder.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    print(number)


def tend(arguments: list[str]) -> None:
    """Wait for a slot, run one job's script, signal it before its time is up, and note how it ended."""
    folder = QUEUE / arguments[0]
    while (process := _started(folder)) is None:
        if _get(folder)["state"] != "PENDING":
            return
        time.sleep(0.05)
    status, timed_out = _in_time(process, _get(folder))
    with _alone():
        about = _get(folder)
        ended = "TIMEOUT" if timed_out else "FAILED" if status else "COMPLETED"
        _put(folder, {**about, "state": "CANCELLED" if about["state"] == "COMPLETING" else ended, "status": status})


def _started(folder: Path) -> subprocess.Popen[bytes] | None:
    """Return the process of a job that waits, started now; None while no slot is free, or where it waits no more."""
    with _alone():
        about = _get(folder)
        running = sum(_get(other)["state"] in ("RUNNING", "COMPLETING") for other in QUEUE.glob("*_*"))
        if about["state"] != "PENDING" or running >= SLOTS:
            return None
        shown = {"A": str(about["number"]), "a": str(about["task"]), "%": "%"}
        path = re.sub("%(.)", lambda found: shown[found[1]], about["output"])
        (folder / "script").chmod(0o700)
        with open(path, "ab") as out:
            process = subprocess.Popen(
                [str(folder / "script")],
                cwd=about["chdir"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "SLURM_JOB_ID": str(about["number"]), "SLURM_ARRAY_TASK_ID": str(about["task"])},
            )
        _put(folder, {**about, "state": "RUNNING", "pid": process.pid})
        return process


def _in_time(process: subprocess.Popen[bytes], about: dict[str, Any]) -> tuple[int, bool]:
    """Return a process's wait status, and True if its time was up."""
    limit = int(about["time"]) * MINUTE
    if not limit:
        return _status(process.wait()), False
    name, seconds = re.fullmatch(r"B:(\w+)@(\d+)", about["signal"]).groups()  # type: ignore[union-attr]
    notice = int(seconds) * MINUTE / 60
    for wait, number in ((limit - notice, signal.Signals[f"SIG{name}"]), (notice, signal.SIGTERM), (5, signal.SIGKILL)):
        try:
            return _status(process.wait(max(0, wait))), number is signal.SIGKILL
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    return _status(process.wait()), True


def _status(code: int) -> int:
    """Return an exit code as the system's `wait` has it."""
    return -code if code < 0 else code << 8


def squeue(arguments: list[str]) -> None:
    """Print a line for each job of a name."""
    parser = argparse.ArgumentParser("squeue")
    for option in ("noheader", "me", "array"):
        parser.add_argument(f"--{option}", action="store_true", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--states", choices=["all"], required=True)
    parser.add_argument("--Format", choices=["ArrayJobID:|,ArrayTaskID:|,State:|,exit_code:|"], required=True)
    given = parser.parse_args(arguments)
    for about in (_get(folder) for folder in sorted(QUEUE.glob("*_*"))):
        if about["job_name"] == given.name:
            print(about["number"], about["task"], about["state"], about["status"], "", sep="|")


def scancel(arguments: list[str]) -> None:
    """Take waiting jobs of a name from the queue, and send SIGTERM to those that run."""
    parser = argparse.ArgumentParser("scancel")
    for option in ("me", "quiet"):
        parser.add_argument(f"--{option}", action="store_true")
    parser.add_argument("--name", required=True)
    given = parser.parse_args(arguments)
    with _alone():
        for folder in QUEUE.glob("*_*"):
            about = _get(folder)
            if about["job_name"] == given.name and about["state"] == "PENDING":
                _put(folder, {**about, "state": "CANCELLED"})
            elif about["job_name"] == given.name and about["state"] == "RUNNING":
                _put(folder, {**about, "state": "COMPLETING"})
                with suppress(ProcessLookupError):
                    os.kill(about["pid"], signal.SIGTERM)


@contextmanager
def _alone() -> Iterator[None]:
    with open(QUEUE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _get(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "about.json").read_text()))


def _put(folder: Path, about: dict[str, Any]) -> None:
    new = folder / f"new-{os.getpid()}"
    new.write_text(json.dumps(about))
    new.replace(folder / "about.json")


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "tend": tend}[sys.argv[1]](sys.argv[2:])
