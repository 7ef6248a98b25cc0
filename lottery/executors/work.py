"""One worker: it takes the best job that nobody has until none is left, or until its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lottery.errors import Interrupted
from lottery.executors.time_limit import TimeLimit
from lottery.runner.events import ENDS, Event, Outcome, Request, SweptOutcome, lengthen, outcome_of
from lottery.runner.prepare import prepare_all
from lottery.runner.run import work
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.signals import Stop
    from lottery.store.store import Store

TELL_SECONDS = 5.0  # between two lines about one training in the store's log: hundreds of workers write there
MOST_ROWS = 1000  # of a curve in one line, which a reader takes in at once


@dataclass(frozen=True)
class Limits:
    """Where a worker leaves, also if there is more to do.

    Attributes:
        seconds: Time that it has, saving included; None for any.
        jobs: Number of jobs that it ends; None for any.
    """

    seconds: float | None = None
    jobs: int | None = None


@dataclass(frozen=True)
class Left:
    """The end of a worker.

    Attributes:
        outcome: How the jobs of the plan have ended, as far as it has seen.
        own: Number of jobs that it has ended itself.
        why: Why it left although something was to do; empty where nothing was.
    """

    outcome: Outcome | SweptOutcome
    own: int
    why: str = ""

    def sentence(self) -> str:
        """Return what the worker did, and what is left."""
        done = f"{counted(self.own, 'job')} run here"
        missing = self.outcome.total - len(self.outcome.ended)
        if not self.why:
            return f"{done}; no job is left"
        return f"{done}; {self.why}, {missing:,} of {counted(self.outcome.total, 'job')} left: start another worker"


def work_on(
    requests: Sequence[Request],
    limits: Limits,
    stop: Stop,
    *,
    store: Store,
    failures: Mapping[str, str] | None = None,
    on_plan: Callable[[Any], None] = lambda plan: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Left:
    """Run the jobs of a request, or of those of a sweep, that nobody else runs; the store's log tells of it too.

    Args:
        requests: What is to be run, all in one place.
        limits: Where to leave.
        stop: Where a signal is noted.
        store: The store of the requests.
        failures: Digests of the failures that are tried again; None for those that are noted now.
        on_plan: Called with the plan, as `lottery.run` does, and again with each longer one.
        on_event: Called with each event.

    Raises:
        Interrupted: A signal was noted, and the state is saved.
        UsageError: A recipe cannot be run.
        MachineError: Memory runs out, or the disk is full.
    """
    limit = None if limits.seconds is None else TimeLimit(limits.seconds, stop)
    contexts = prepare_all(requests, stop, store=store)
    if failures is not None:
        contexts = [replace(context, failures=failures) for context in contexts]
    outcome = outcome_of([context.plan for context in contexts], swept=bool(requests[0].point))
    on_plan(outcome.plan)
    store.log("begun", jobs=outcome.total)
    worker = _Worker(store, limits, limit)
    with ExitStack() as stack:
        if limit is not None:
            stack.enter_context(limit.watched())
        events = stack.enter_context(closing(work(*contexts)))
        try:
            for event in events:
                if event.kind == "planned":
                    lengthen(outcome, requests, store)
                    on_plan(outcome.plan)
                    continue
                outcome.add(event)
                on_event(event)
                if worker.has_enough(event):
                    return Left(outcome, worker.own, "it has run as many as it was to")
        except Interrupted:
            if not stop.time_is_up or stop.signal is not None:
                raise
            return Left(outcome, worker.own, "its time is up")
    return Left(outcome, worker.own)


class _Worker:
    """The jobs that this process runs, as it tells of them."""

    def __init__(self, store: Store, limits: Limits, limit: TimeLimit | None):
        self._store, self._limits, self._limit = store, limits, limit
        self._running, self._told = "", 0.0
        self._rows: list[Any] = []  # of the curve, not told yet
        self.own = 0

    def has_enough(self, event: Event) -> bool:
        """Take in an event, and return True where this worker has ended as many jobs as it was to."""
        if event.kind == "start":
            self._running, self._told, self._rows = event.key, time.monotonic(), []
            self._pace()
        elif event.key == self._running:
            self._pace(reported=True)
            self._tell(event)
            if event.kind in ENDS:
                self.own, self._running = self.own + 1, ""
                return self.own == self._limits.jobs
        return False

    def _pace(self, reported: bool = False) -> None:
        if self._limit is not None:
            (self._limit.note if reported else self._limit.pause)()

    def _tell(self, event: Event) -> None:
        if event.kind != "progress":
            return
        self._rows += event.about["rows"]
        if time.monotonic() - self._told >= TELL_SECONDS:
            about = {**event.about, "rows": self._rows[-MOST_ROWS:]}
            self._store.log("progress", key=event.key, label=event.label, about=about)
            self._told, self._rows = time.monotonic(), []
