"""A stand-in for Slurm: `sbatch`, `squeue` and `scancel` that really start processes on this machine and keep a queue.

`python -m tests.cluster.stand_in sbatch ...`, through small files of these names that `slurm_here` puts on a PATH. The
queue is a folder, `STAND_IN_SLURM`: a folder for each job, and in it what it is, how it stands, its script. So many jobs
run at once as `STAND_IN_SLOTS` says; the others wait. A minute of `--time` lasts `STAND_IN_MINUTE` seconds.

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
LIVING = ("PENDING", "RUNNING", "COMPLETING")


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
    ignored = "account qos gpus cpus-per-task mem constraint nodes ntasks open-mode comment export".split()
    for option in (*ignored, "requeue", "no-requeue"):
        parser.add_argument(f"--{option}", **({"action": "store_true"} if "requeue" in option else {}))  # type: ignore[arg-type]
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
            about = {**vars(given), "task": task, "number": number, "state": "PENDING", "reason": "Priority"}
            _put(folder, about)
            subprocess.Popen(  # one that outlives us, as slurmd does
                [sys.executable, "-m", "tests.cluster.stand_in", "tend", folder.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
    print(number)


def tend(arguments: list[str]) -> None:
    """Wait for a slot, run one job's script, signal it before its time is up, and note how it ended."""
    folder = QUEUE / arguments[0]
    while True:
        with _alone():
            about = _get(folder)
            if about["state"] != "PENDING":
                return
            running = sum(_get(other)["state"] in ("RUNNING", "COMPLETING") for other in QUEUE.glob("*_*"))
            if running < SLOTS:
                _put(folder, about := {**about, "state": "RUNNING", "reason": "None"})
                break
            _put(folder, {**about, "reason": "Resources"})
        time.sleep(0.05)
    path = about["output"].replace("%A", str(about["number"])).replace("%a", str(about["task"])).replace("%%", "%")
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
        _put(folder, {**about, "pid": process.pid})
        code, timed_out = _in_time(process, about)
        if code:
            out.write(f"slurmstepd: error: {'DUE TO TIME LIMIT' if timed_out else code}\n".encode())
    with _alone():
        state, reason = ("TIMEOUT", "TimeLimit") if timed_out else ("FAILED", "NonZeroExitCode")
        if code == 0:
            state, reason = "COMPLETED", "None"
        if code < 0 and not timed_out:
            reason = f"RaisedSignal:{-code}"
        if _get(folder)["state"] == "COMPLETING":
            state, reason = "CANCELLED", "None"
        _put(folder, {**about, "state": state, "reason": reason})


def _in_time(process: subprocess.Popen[bytes], about: dict[str, Any]) -> tuple[int, bool]:
    """Return a process's exit code, and True if its time was up."""
    limit = int(about["time"]) * MINUTE
    found = re.fullmatch(r"B:(\w+)@(\d+)", about["signal"])
    if not limit:
        return process.wait(), False
    if found:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(max(0.0, limit - int(found[2]) * MINUTE / 60)), False
        process.send_signal(signal.Signals[f"SIG{found[1]}"])
        limit = int(found[2]) * MINUTE / 60
    with suppress(subprocess.TimeoutExpired):
        return process.wait(limit), False
    for number in (signal.SIGTERM, signal.SIGKILL):
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(5), True
    return process.wait(), True


def squeue(arguments: list[str]) -> None:
    """Print a line for each job of a name."""
    parser = argparse.ArgumentParser("squeue")
    for option in ("noheader", "me", "array"):
        parser.add_argument(f"--{option}", action="store_true", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--states", default="")
    parser.add_argument("--format", required=True)
    given = parser.parse_args(arguments)
    for folder in sorted(QUEUE.glob("*_*")):
        about = _get(folder)
        if about["job_name"] == given.name and (given.states == "all" or about["state"] in LIVING):
            shown = {"i": folder.name, "T": about["state"], "r": about["reason"], "%": "%"}
            print(re.sub(r"%(.)", lambda found: shown[found[1]], given.format))


def scancel(arguments: list[str]) -> None:
    """Take waiting jobs of a name from the queue, or signal the scripts of those that run."""
    parser = argparse.ArgumentParser("scancel")
    for option in ("batch", "me", "quiet"):
        parser.add_argument(f"--{option}", action="store_true")
    parser.add_argument("--name", required=True)
    parser.add_argument("--state", choices=["PENDING", "RUNNING"])
    parser.add_argument("--signal")
    given = parser.parse_args(arguments)
    if given.signal and not given.batch:
        sys.exit("scancel: the stand-in signals batch scripts only")
    with _alone():
        for folder in QUEUE.glob("*_*"):
            about = _get(folder)
            if about["job_name"] != given.name or (given.state and about["state"] != given.state):
                continue
            if about["state"] == "PENDING" and not given.signal:
                _put(folder, {**about, "state": "CANCELLED", "reason": "None"})
            elif about["state"] == "RUNNING":
                if not given.signal:
                    _put(folder, {**about, "state": "COMPLETING"})
                with suppress(ProcessLookupError, KeyError):  # it has not been started yet, or has just ended
                    os.kill(about["pid"], signal.Signals[f"SIG{given.signal or 'TERM'}"])


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
