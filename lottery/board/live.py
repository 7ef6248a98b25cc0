"""The progress of running jobs, from the logs of their processes and from their checkpoints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.errors import LotteryError
from lottery.executors.news import event_of
from lottery.plan.kinds import STATE_VALUES_FILE
from lottery.runner.events import Event
from lottery.store.event_log import EventLog

if TYPE_CHECKING:
    from lottery.store.store import Store

MOST_POINTS = 400  # of one curve that are kept; above, every second one is left out
HOLDER = re.compile(r"process (\d+) on (.+)")
DRAWN = ("validation_accuracy", "validation_r2", "validation_loss", "train_loss")

Point = tuple[int, Mapping[str, float]]  # a step, and what was measured then


@dataclass(frozen=True)
class Progress:
    """The progress of a running job.

    Attributes:
        step: The step that it has come to; of an analysis the number of parts that are done.
        total: The step at which it ends; 0 where that is not known.
        seconds_left: Time that it takes yet at the pace of this session; None where nothing tells.
        images_per_second: Training examples a second; 0 where nothing tells.
        curve: What was measured on the way, thinned where it is long.
    """

    step: int = 0
    total: int = 0
    seconds_left: float | None = None
    images_per_second: float = 0.0
    curve: tuple[Point, ...] = ()


class Live:
    """The progress of the jobs of a store that somebody runs.

    What a process logs of them is a row of the curve every few seconds. What it logged before this object was made is
    looked up once, as is the curve in a job's newest checkpoint, which has what a session before this one measured.
    """

    def __init__(self, store: Store):
        self._store = store
        self._log = EventLog(store)
        self._jobs: dict[str, _Job] = {}

    def read(self) -> list[Event]:
        """Return the events that are new, after taking in what they tell of running jobs."""
        events = [event for entry in self._log.read() if (event := event_of(entry)) is not None]
        for event in events:
            if event.kind == "progress" and event.key in self._jobs:
                self._jobs[event.key].add(event.about)
        return events

    def progress(self, held: Mapping[str, str]) -> dict[str, Progress]:
        """Return the progress of each job that has a holder, by key; the others are forgotten."""
        self._jobs = {key: job for key, job in self._jobs.items() if key in held and job.holder == held[key]}
        if new := held.keys() - self._jobs.keys():
            self._look_up({key: held[key] for key in new})
        return {key: self._jobs[key].progress() for key in held}

    def label(self, key: str) -> str:
        """Return the words that the log has for a running job; empty where it has none."""
        return self._jobs[key].label if key in self._jobs else ""

    def _look_up(self, held: Mapping[str, str]) -> None:
        """Take in what was logged and saved of jobs before they were seen to run."""
        for key, holder in held.items():
            self._jobs[key] = _Job(holder, self._saved_curve(key))
        for holder in dict.fromkeys(held.values()):
            if (found := HOLDER.fullmatch(holder)) is None:
                continue
            host = re.sub(r"[^A-Za-z0-9.-]", "_", found[2])
            self._take_in(self._log.earlier(f"{host}-{found[1]}-"), holder)

    def _take_in(self, entries: Iterable[dict[str, Any]], holder: str) -> None:
        for entry in entries:
            event = event_of(entry)
            job = None if event is None else self._jobs.get(event.key)
            if event is not None and job is not None and job.holder == holder:
                job.label = event.label
                if event.kind == "progress":
                    job.add(event.about)

    def _saved_curve(self, key: str) -> list[Point]:
        """Return the curve in a job's newest checkpoint; empty where there is none, as of an analysis."""
        with suppress(LotteryError, ValueError, KeyError, TypeError):
            saved = self._store.read_checkpoint(key, STATE_VALUES_FILE)
            if saved is not None:
                return [point for row in json.loads(saved)["training"]["curve"] if (point := _point(row)) is not None]
        return []


class _Job:
    def __init__(self, holder: str, curve: list[Point]):
        self.holder, self.label = holder, ""
        self._curve, self._about = _thinned(curve), dict[str, Any]()

    def add(self, about: Mapping[str, Any]) -> None:
        """Take in what a process has logged of its progress."""
        self._about = dict(about)
        for row in (*about.get("rows", ()), {"step": about["step"], **about["row"]}):
            point = _point(row)
            if point is None or (self._curve and self._curve[-1][1] == point[1]):  # told again
                continue
            while self._curve and self._curve[-1][0] >= point[0]:  # it has started again from a checkpoint
                self._curve.pop()
            self._curve.append(point)
        self._curve = _thinned(self._curve)

    def progress(self) -> Progress:
        about, curve = self._about, tuple(self._curve)
        if not about:
            return Progress(step=curve[-1][0] if curve else 0, curve=curve)
        done, total = about["step"] - about["first"], int(about["total"])
        left = about["seconds"] / done * (total - about["step"]) if total and done > 0 else None
        return Progress(int(about["step"]), total, left, float(about["images_per_second"]), curve)


def _point(row: Any) -> Point | None:
    """Return a row of a curve, without what is no finite number; None where nothing of it can be drawn."""
    if not isinstance(row, Mapping) or not _is_number(row.get("step")):
        return None
    values = {name: float(row[name]) for name in DRAWN if _is_number(row.get(name))}
    return (int(row["step"]), values) if values else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _thinned(curve: list[Point]) -> list[Point]:
    """Return a curve with every second point left out, but for both ends, as often as it takes."""
    while len(curve) > MOST_POINTS:
        curve = [*curve[:-1:2], curve[-1]]
    return curve
