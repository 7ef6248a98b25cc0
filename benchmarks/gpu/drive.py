"""Stages are run one after the other: each in a process of its own, none longer than its limit, all within a total."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.child import NOT_HERE
from benchmarks.gpu.stage import Measurement, Stage

TOTAL_SECONDS = 480.0
DRY_SHARE = 4.0  # limits of a dry run are so many times as long: processors are slow, and nothing is lent
GRACE_SECONDS = 5.0  # between being told to end and being killed, for what a stage has to close
TICK_SECONDS = 0.1
LAST_LINES = 40  # of the output of a stage that failed
ROOT = Path(__file__).parents[2]
GOOD = ("done", "not here", "left out")


@dataclass
class Ended:
    """A stage that has ended.

    Attributes:
        stage: The stage.
        how: `done`, `failed` (it raised, or a check did not come out), `cut` at its limit, `killed`, `not here` where
            this machine cannot run it, or `left out` where its limit no longer fitted.
        seconds: How long it took.
        measurements: What it wrote down, also before it was cut.
        environment: The machine, where the stage says what it is.
        output: The last lines of its output.
    """

    stage: Stage
    how: str
    seconds: float = 0.0
    measurements: list[Measurement] = field(default_factory=list)
    environment: Mapping[str, Any] = field(default_factory=dict)
    output: Sequence[str] = ()

    @property
    def good(self) -> bool:
        """True unless it went wrong."""
        return self.how in GOOD


Kept = Callable[[str, Measurement, Mapping[str, Any]], None]  # of a stage's name, and the machine as far as it is known


def drive(
    stages: Sequence[Stage],
    *,
    dry: bool,
    log: Path,
    told: Callable[[str], None],
    kept: Kept = lambda stage, found, environment: None,
    done: Callable[[Sequence[Ended]], None] = lambda ended: None,
    total: float = TOTAL_SECONDS,
) -> list[Ended]:
    """Run the stages in order and return how each ended, whatever happens to one of them.

    A stage begins only where its whole limit fits into what is left of the total; a shorter one after it still may.

    Args:
        stages: The stages, those that are worth most first.
        dry: Whether they only try themselves on the CPU; limits and total are longer then.
        log: Folder of the logs, for stages that add to them.
        told: Called with each line of progress.
        kept: Called with each measurement as soon as it is written down.
        done: Called after each stage with those that have ended.
        total: Seconds for all of them.
    """
    share = DRY_SHARE if dry else 1.0
    end, ended = time.monotonic() + share * total, list[Ended]()
    for place, stage in enumerate(stages, 1):
        left, limit = end - time.monotonic(), share * stage.limit
        said = f"[{place}/{len(stages)}] {stage.name}: {stage.what}"
        if left < limit:
            told(f"{said}: left out, {left:.0f} s are left and it may take {limit:.0f} s")
            ended.append(Ended(stage, "left out"))
            done(ended)
            continue
        told(f"{said} (at most {limit:.0f} s)")
        known = {name: value for each in ended for name, value in each.environment.items()}
        ended.append(_run(stage, limit, dry, log, told, partial(kept, stage.name), known))
        told(f"    {ended[-1].how} after {ended[-1].seconds:.1f} s")
        if not ended[-1].good:
            for line in ended[-1].output:
                told(f"    | {line}")
        done(ended)
    return ended


def _run(
    stage: Stage,
    limit: float,
    dry: bool,
    log: Path,
    told: Callable[[str], None],
    kept: Callable[[Measurement, Mapping[str, Any]], None],
    known: Mapping[str, Any],
) -> Ended:
    """Run one stage in a process."""
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder) / "measurements.jsonl", Path(folder) / "output"
        file.touch()
        given = {"file": str(file), "dry": dry, "limit": limit, "log": str(log.absolute())}
        began = time.monotonic()
        with output.open("wb") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.child", stage.call, json.dumps(given)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,  # a group of its own, which is ended whole
            )
        reader = _Reader(file, told, kept, known)
        cut = False
        try:
            while process.poll() is None and not cut:
                time.sleep(TICK_SECONDS)
                reader.read()
                cut = time.monotonic() - began >= limit
        finally:
            _end(process)
        reader.read()
        how = "cut" if cut else _how(process.returncode, reader.measurements)
        lines = tuple(output.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:])
        return Ended(stage, how, time.monotonic() - began, reader.measurements, reader.environment, lines)


class _Reader:
    """Reads what a stage writes down while it does, tells of it and has it kept; `known` is of the machine already."""

    def __init__(
        self,
        file: Path,
        told: Callable[[str], None],
        kept: Callable[[Measurement, Mapping[str, Any]], None],
        known: Mapping[str, Any],
    ):
        self._file, self._told, self._kept, self._known, self._read = file, told, kept, known, 0
        self.measurements: list[Measurement] = []
        self.environment: dict[str, Any] = {}

    def read(self) -> None:
        """Read the lines that are whole by now."""
        with self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                message = json.loads(line)
                self.environment |= message.get("environment", {})
                if "measurement" in message:
                    self.measurements.append(Measurement(**message["measurement"]))
                    self._told(f"    {self.measurements[-1].in_words()}")
                    self._kept(self.measurements[-1], {**self._known, **self.environment})


def _how(code: int | None, measurements: Sequence[Measurement]) -> str:
    if code is None or code < 0:
        return "killed"
    if code == NOT_HERE:
        return "not here"
    return "failed" if code or any(each.holds is False for each in measurements) else "done"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a stage: tell its group to end, kill it where it does not; a driver may hold it for a while.

    What the group's leader started may outlive it, so the group is killed in any case.
    """
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    _signal(process, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
