"""A plan that other processes run is watched to its end: what the store has of it counts, not what anybody says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.plan.agenda import BAD
from lottery.runner.ends import failed_since, forget_damaged, longer, waits_for
from lottery.runner.events import Event
from lottery.runner.finished import finished
from lottery.store.maintenance import failed_jobs

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext


class Watch:
    """The ends of the jobs of a plan, in a process that runs none of them.

    Args:
        context: The plan and the store; its `failures` are those that others try again.
    """

    def __init__(self, context: RunContext):
        self.context = context
        self.ended: dict[str, str] = {}
        self._before = context.failures or {}

    @property
    def left(self) -> int:
        """Number of jobs that have not ended."""
        return len(self.context.plan) - len(self.ended)

    def look(self) -> Iterator[Event]:
        """Look at every job that has not ended, and yield the events of those that have now."""
        self.context.store.expect(self.context.plan.jobs.keys() - self.ended.keys())
        failed = set(failed_jobs(self.context.store))
        for job in self.context.plan:
            if job.key not in self.ended:
                yield from self._look_at(job, failed=job.key in failed)
        yield from self._blocked()

    def look_at(self, key: str) -> Iterator[Event]:
        """Look at one job of which somebody says that it has ended, and yield its event if it has."""
        job = self.context.plan.jobs.get(key)
        if job is not None and key not in self.ended:
            for event in self._look_at(job, failed=True):
                yield event
                if event.kind in BAD:
                    yield from self._blocked()

    def forget_damaged(self) -> None:
        """Take in that files of some job were damaged: those in quarantine are missing again."""
        forget_damaged(self.context, self.ended)

    def lengthen(self) -> bool:
        """Return True if there is more to do, once all jobs have ended: the plan may have grown by their results."""
        more = longer(self.context, self.ended)
        self.context = more or self.context
        return more is not None

    def _look_at(self, job: Job, failed: bool) -> Iterator[Event]:
        event = finished(self.context.store, job)
        if event is None and failed:
            event = failed_since(self.context, job, self._before)
        if event is not None:
            self.ended[job.key] = event.kind
            yield event

    def _blocked(self) -> Iterator[Event]:
        """Yield an event for each job that cannot run any more, as one that it needs ended badly."""
        found = True
        while found:
            found = False
            for job in self.context.plan:
                if job.key not in self.ended and any(end in BAD for end in waits_for(self.context, job, self.ended)):
                    found = True
                    self.ended[job.key] = "blocked"
                    yield Event("blocked", job.key, job.label)


class Watches:
    """The ends of the jobs of several plans, the points of a sweep; a job that they share ends once at each."""

    def __init__(self, contexts: Sequence[RunContext]):
        self._each = [Watch(context) for context in contexts]

    @property
    def ended(self) -> set[str]:
        """The keys of the jobs that have ended."""
        return {key for each in self._each for key in each.ended}

    @property
    def left(self) -> int:
        """Number of jobs that have not ended."""
        return len({key for each in self._each for key in each.context.plan.jobs} - self.ended)

    def look(self) -> Iterator[Event]:
        """Look at every job that has not ended, and yield the events of those that have now."""
        for each in self._each:
            yield from (_named(event, each) for event in each.look())

    def look_at(self, key: str) -> Iterator[Event]:
        """Look at one job of which somebody says that it has ended, and yield its events if it has."""
        for each in self._each:
            yield from (_named(event, each) for event in each.look_at(key))

    def known(self, event: Event) -> Event | None:
        """Return an event as the first plan that has its job names it; None where no plan has it."""
        return next((_named(event, each) for each in self._each if event.key in each.context.plan.jobs), None)

    def forget_damaged(self) -> None:
        """Take in that files of some job were damaged: those in quarantine are missing again."""
        for each in self._each:
            each.forget_damaged()

    def lengthen(self) -> bool:
        """Return True if there is more to do, once all jobs have ended: plans may have grown by their results."""
        longer = [each.lengthen() for each in self._each]
        return any(longer)


def _named(event: Event, watch: Watch) -> Event:
    job = watch.context.plan.jobs.get(event.key)
    return event if job is None else replace(event, label=watch.context.label(job))
