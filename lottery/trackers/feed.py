"""What happens in a run, passed on to its trackers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lottery.plan.swept import SweptPlan
from lottery.store.store import Store
from lottery.trackers.describe import TRACKED, describe
from lottery.trackers.sink import Sink
from lottery.trackers.teller import News, Teller

if TYPE_CHECKING:
    from lottery.catalogue.trackers._tracker import Tracker, Training
    from lottery.plan.jobs import Plan
    from lottery.runner.events import Event
    from lottery.signals import Stop

PATIENCE = 60.0  # seconds that a finished run waits for its trackers
HURRY = 3.0  # seconds that one waits that is told to stop, or that failed

KINDS = ("progress", "done", "found", "diverged", "failed")


class Feed:
    """Tells trackers of the trainings of a run.

    Args:
        sinks: The trackers.
        points: The plans of a sweep in words, in order; empty words where there is none.
        own: True if only what this process trains is to be told, as each of several workers tells its own.
    """

    def __init__(self, sinks: Sequence[Sink], points: Sequence[str] = ("",), *, own: bool = False):
        self._sinks, self._points, self._own = sinks, points, own
        self._plans: Sequence[Plan] = ()
        self._known: dict[str, tuple[Training, str] | None] = {}
        self._begun: set[str] = set()

    def plan(self, plan: Plan | SweptPlan) -> None:
        """Take in the plan, or a longer one."""
        self._plans = plan.points if isinstance(plan, SweptPlan) else [plan]
        self._known = {key: known for key, known in self._known.items() if known is not None}

    def event(self, event: Event) -> None:
        """Take in an event of the run."""
        if event.kind == "start":
            self._begun.add(event.key)
        if event.kind not in KINDS or (self._own and event.key not in self._begun):
            return
        if (known := self._training(event.key)) is not None:
            news = News(*known, event.kind, event.about.get("rows", ()))
            for sink in self._sinks:
                sink.tell(news)

    def _training(self, key: str) -> tuple[Training, str] | None:
        """Return the training of this key with the reading that its study reports; None for a job of another kind."""
        if key not in self._known:
            places = zip(self._points, self._plans, strict=True)
            found = next(((point, plan, plan.jobs[key]) for point, plan in places if key in plan.jobs), None)
            self._known[key] = None
            if found is not None and found[2].kind in TRACKED:
                point, plan, job = found
                self._known[key] = describe(plan, job, point), plan.recipe.report
        return self._known[key]


@contextmanager
def following(
    trackers: Sequence[tuple[str, Tracker]],
    store: Store,
    stop: Stop,
    points: Sequence[str] = ("",),
    *,
    own: bool = False,
) -> Iterator[Feed]:
    """Yield what passes on the events of a run, and wait for the trackers at its end, but not for long.

    Args:
        trackers: The trackers, each with its name.
        store: The store of the run; what is finished is read there.
        stop: What tells the run to stop: nothing is waited for then, or but a moment.
        points: See `Feed`.
        own: See `Feed`.
    """
    sinks = [Sink(name, Teller(tracker, Store(store.name))) for name, tracker in trackers]
    finished = False
    try:
        yield Feed(sinks, points, own=own)
        finished = True
    finally:
        for sink in sinks:
            sink.finish(PATIENCE if finished else HURRY)
        for sink in sinks:
            sink.close(lambda: finished and stop.told)
