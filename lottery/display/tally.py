"""What is known of a run while it lasts: how many jobs have ended, which are running, how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.plan.kinds import Kind
from lottery.words import counted, duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.runner.events import Event

WORDS = {"done": "done", "diverged": "DIVERGED", "failed": "FAILED", "blocked": "blocked", "damaged": "DAMAGED"}
NO_TIME = (Kind.CHOICE, Kind.STATES)  # which as good as none is spent on


@dataclass(frozen=True)
class Running:
    """A job that is running, in words.

    Attributes:
        label: The job.
        step: The step just done, and that at which it ends.
        share: How much of it is done, from 0 to 1; None where that is not known.
        loss: Mean loss of the training set since the evaluation before.
        accuracy: Of the validation split, at the last evaluation.
        speed: Images a second.
        left: Time left.
    """

    label: str
    step: str
    share: float | None = None
    loss: str = ""
    accuracy: str = ""
    speed: str = ""
    left: str = ""

    @classmethod
    def of(cls, event: Event) -> Running:
        """Return what an event of a job that is running says of it."""
        about: dict[str, Any] = event.about
        if event.kind != "progress":
            return cls(event.label, "starting")
        if not about["total"]:  # an analysis, which does not know how many parts it will have
            return cls(event.label, f"{about['step']} parts")
        row = about["row"]
        return cls(
            event.label,
            f"{about['step']}/{about['total']}",
            about["step"] / about["total"],
            f"{row['train_loss']:.4f}" if row.get("train_loss") is not None else "",
            _score(row),
            f"{about['images_per_second']:,.0f}",
            duration(_seconds_left(about)),
        )

    def told(self) -> str:
        """Return the line of a log on it."""
        named = {"step": self.step, "loss": self.loss, "validation": self.accuracy}
        named |= {"images/s": self.speed, "time left": self.left}
        return f"{self.label}: " + ", ".join(f"{name} {value}" for name, value in named.items() if value)


class Tally:
    """Takes in the plan and the events of a run.

    Attributes:
        total: Number of jobs of the plan.
        seen: How each job that has ended did, by key; those found done among them.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._began = clock, clock()
        self._plan: Plan | SweptPlan | None = None
        self._running: dict[str, Event] = {}
        self._seconds: dict[Kind, list[float]] = {}  # of finished jobs
        self.total = 0
        self.seen: dict[str, str] = {}

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the jobs that are going to be run, as far as they are known."""
        if self._plan is None:
            self._began = self._clock()
        self._plan, self.total = plan, len(plan)
        self.seen = {key: kind for key, kind in self.seen.items() if key in plan.jobs}

    def event(self, event: Event) -> str:
        """Take in one event; return the line on a job that has ended otherwise than by being found done, else ''."""
        if event.kind in ("start", "progress"):
            self._running[event.key] = event
            return ""
        self._running.pop(event.key, None)
        # with several processes, one may find done what another is about to report
        if event.kind == "found" or self.seen.get(event.key, "found") != "found":
            if self.seen.setdefault(event.key, event.kind) == "found":
                self._took(event, event.about.get("seconds"))
            return ""
        self.seen[event.key] = event.kind
        words = [f"[{len(self.seen)}/{self.total}]", event.label, WORDS[event.kind]]
        if "session_seconds" in event.about:
            self._took(event, event.about["session_seconds"])
            words.append(f"in {duration(event.about['session_seconds'])}")
        if event.about.get("message"):
            words.append(f"({event.about['message']})")
        if (left := self.left()) is not None:
            words.append(f"- {duration(left)} left")
        return " ".join(words)

    def running(self) -> list[Running]:
        """Return what is running, in the order in which it began."""
        return [Running.of(event) for event in self._running.values()]

    def share(self) -> float:
        """Return how much of the plan is done, from 0 to 1; what is running counts in part."""
        parts = sum(each.share or 0.0 for each in self.running())
        return min(1.0, (len(self.seen) + parts) / self.total) if self.total else 0.0

    def left(self) -> float | None:
        """Return the seconds left at the pace of the jobs of each kind that have ended; None before there is any.

        Jobs of a kind of which none has ended count as the mean of those that have.
        """
        timed = {kind: sum(each) / len(each) for kind, each in self._seconds.items()}
        if self._plan is None or not timed:
            return None
        usual = sum(timed.values()) / len(timed)
        waiting = [
            job.kind for key, job in self._plan.jobs.items() if key not in self.seen and key not in self._running
        ]
        expected = sum(0.0 if kind in NO_TIME else timed.get(kind, usual) for kind in waiting)
        at_work = [self._rest(event, timed, usual) for event in self._running.values()]
        return max([(expected + sum(at_work)) / max(1, len(at_work)), *at_work])

    def summary(self) -> str:
        """Return how far the run is, in words: `3 of 12 jobs, 2 min 10 s left`."""
        left = self.left() if len(self.seen) < self.total else None
        return f"{len(self.seen)} of {counted(self.total, 'job')}" + (f", {duration(left)} left" if left else "")

    def ended(self) -> str:
        """Return how the run ended, in words: `12 of 12 jobs in 3 min 20 s, 1 FAILED`."""
        bad = {kind: sum(end == kind for end in self.seen.values()) for kind in ("diverged", "failed", "blocked")}
        words = [f"{count} {WORDS[kind]}" for kind, count in bad.items() if count]
        took = duration(self._clock() - self._began)
        return ", ".join([f"{len(self.seen)} of {counted(self.total, 'job')} in {took}", *words])

    def _took(self, event: Event, seconds: float | None) -> None:
        job = self._plan.jobs.get(event.key) if self._plan is not None else None
        if job is not None and seconds is not None and job.kind not in NO_TIME:
            self._seconds.setdefault(job.kind, []).append(seconds)

    def _rest(self, event: Event, timed: Mapping[Kind, float], usual: float) -> float:
        """Return the seconds that a running job takes on."""
        if event.kind == "progress" and event.about["total"]:
            return _seconds_left(event.about)
        job = self._plan.jobs.get(event.key) if self._plan is not None else None
        return usual if job is None else timed.get(job.kind, usual)


def _score(row: Mapping[str, Any]) -> str:
    """Return the validation accuracy of a row in percent, or r2 as it is; empty without any."""
    if "validation_accuracy" in row:
        return f"{100 * row['validation_accuracy']:.2f} %"
    return f"{row['validation_r2']:.4f}" if "validation_r2" in row else ""


def _seconds_left(about: Mapping[str, Any]) -> float:
    steps = max(1, about["step"] - about["first"])
    return float(about["seconds"] / steps * (about["total"] - about["step"]))
