"""A plan is run: finished jobs are skipped, the others claimed, resumed, trained and committed.

Any number of processes may do so on one store.
"""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from lottery import registry
from lottery.device import prepared
from lottery.engines.cohort import Cohort
from lottery.errors import DamagedFile, Interrupted, LotteryError, MachineError
from lottery.plan.agenda import BAD, Agenda, ranks
from lottery.plan.jobs import Job
from lottery.plugins.faults import plugin_failure
from lottery.runner.back_off import BackOff
from lottery.runner.context import RunContext
from lottery.runner.ends import failed_since, forget_damaged, longer, waits_for
from lottery.runner.estimate import steps_of
from lottery.runner.events import ENDS, Event
from lottery.runner.execute import Progress, execute
from lottery.runner.finished import finished
from lottery.store.maintenance import known_failures

IDLE = "idle"  # an event of one walk, which `work` keeps to itself
WAITING = "waiting"  # an event of one job, which `_together` keeps to itself
NO_MEMORY = re.compile(r"can't allocate memory|CU[A-Z]+_STATUS_\w*ALLOC\w*_FAILED")
TELL_SECONDS = 5.0  # between two lines about one training in the store's log: hundreds of processes write there
FIRST_SECONDS = 1.0  # until the first one, so that short trainings are seen too; the next ones come ever later
MOST_ROWS = 1000  # of a curve in one line
DAMAGES = 10  # times a job's input may turn out damaged before the job counts as failed


def work(*contexts: RunContext) -> Generator[Event]:
    """Run what is missing of a plan and is not being run by another process, until all jobs have ended.

    Of several plans, the points of a sweep, the next is begun where all that is left of one is in the hands of other
    processes, or waits for it. What the longest chain of jobs waits for comes first in each. A failing or diverging job
    ends itself and what depends on it, nothing else. Where results decide what is run, the plan then goes on with what
    they ask for, and an event `planned` says so.

    Raises:
        Interrupted: Where the run is told to stop.
        MachineError: Where memory runs out, or a longer plan does not fit on the disk.
    """
    back_off, looks, place = BackOff(contexts[0].stop), 0, 0
    walks = [(context, _walk(context)) for context in contexts]
    while walks:
        context, walk = walks[place]
        event = next(walk, None)
        if event is None:
            del walks[place]
        elif event.kind == IDLE:
            looks, place = looks + event.about["looks"], place + 1
        else:
            looks = 0
            back_off.reset()
            job = context.plan.jobs.get(event.key)
            yield event if job is None else replace(event, label=context.label(job))
        if place == len(walks) and walks:
            back_off.pause(looks)  # the rest is in the hands of other processes
            looks, place = 0, 0


def _walk(context: RunContext) -> Generator[Event]:
    """Run what is missing of one plan, as `work` does; an event IDLE says that there is nothing to do just now."""
    ended: dict[str, str] = {}
    damages: dict[str, int] = {}
    before = _failures(context)
    while True:
        yield from _found(context, ended)
        rank = ranks(context.plan.needs, steps_of(context)) if len(ended) < len(context.plan) else {}
        while len(ended) < len(context.plan):
            agenda = Agenda(context.plan.needs, rank, ended)
            for event in _through(context, agenda, ended, before):
                yield event
                if event.kind == "damaged":
                    yield from _damaged(context, event, ended, damages)
        more = longer(context, ended)
        if more is None:
            return
        context = more
        yield Event("planned")


def run_job(context: RunContext, job: Job) -> Iterator[Event]:
    """Run one job of a plan whose needs are done, and wait where another process is at it.

    Raises:
        Interrupted: Where the run is told to stop.
        MachineError: Where memory runs out.
    """
    before, done = _failures(context), dict.fromkeys(job.needs, "found")
    back_off = BackOff(context.stop)
    while True:
        kinds = []
        for event in _attend(context, job, done, before):
            kinds.append(event.kind)
            yield event
        if kinds:
            return
        _check(context)
        back_off.pause(1)  # it is in the hands of another process


def _check(context: RunContext) -> None:
    """Raise Interrupted where the run is told to stop."""
    if context.stop.told:
        raise Interrupted(context.stop.signal or 0)


def _failures(context: RunContext) -> Mapping[str, str]:
    """Return the failures that are tried again: those that were there before this run."""
    return known_failures(context.store) if context.failures is None else context.failures


def _found(context: RunContext, ended: dict[str, str]) -> Iterator[Event]:
    """Yield an event for each job that is done already, in the order of the plan."""
    context.store.expect(context.plan.jobs.keys() - ended.keys())
    for job in context.plan:
        if job.key not in ended and (found := finished(context.store, job)) is not None:
            ended[job.key] = found.kind
            yield found
        _check(context)


def _through(context: RunContext, agenda: Agenda, ended: dict[str, str], before: Mapping[str, str]) -> Iterator[Event]:
    """Attend to the best of what is ready, again and again, until all has ended or some input was damaged."""
    while len(ended) < len(context.plan):
        ready = list(agenda)
        for keys in ([key] for key in ready) if context.cohort is None else [ready]:
            kinds = []
            for event in _attend_some(context, keys, ended, before):
                kinds.append(event.kind)
                if event.kind in ENDS:
                    ended[event.key] = event.kind
                    agenda.end(event.key, event.kind)
                yield event
            _check(context)
            if "damaged" in kinds:
                return
            if kinds:
                break  # something better may be ready now
        else:
            yield Event(IDLE, about={"looks": len(ready)})
            _check(context)


def _damaged(context: RunContext, event: Event, ended: dict[str, str], damages: dict[str, int]) -> Iterator[Event]:
    """Have a job whose input was damaged tried again once that is computed again, but not for ever."""
    damages[event.key] = damages.get(event.key, 0) + 1
    if damages[event.key] >= DAMAGES:
        ended[event.key] = "failed"
        yield Event("failed", event.key, event.label, event.about)
    forget_damaged(context, ended)


def _attend(context: RunContext, job: Job, ended: dict[str, str], before: Mapping[str, str]) -> Iterator[Event]:
    """Do what can be done for one job now: nothing while its needs are missing or another process runs it."""
    if (found := finished(context.store, job)) is not None:
        yield found
        return
    needs = waits_for(context, job, ended)
    if any(end in BAD for end in needs):
        yield Event("blocked", job.key, job.label)
        return
    if any(end is None for end in needs):
        return
    with context.store.lease(job.key) as mine:
        if not mine:
            return
        found = finished(context.store, job) or failed_since(context, job, before)
        if found is not None:
            yield found
            return
        yield from _run_one(context, job)


def _attend_some(
    context: RunContext, keys: Sequence[str], ended: dict[str, str], before: Mapping[str, str]
) -> Iterator[Event]:
    """Attend to one job; with a cohort to the first of these, as many as it has, until all of them have ended."""
    jobs = [_attend(context, context.plan.jobs[key], ended, before) for key in keys]
    if context.cohort is None:
        yield from jobs[0]
        return
    with prepared(context.machine, context.plan.recipe.train.precision):  # which each job puts back as it found it
        yield from _together(context.cohort, jobs)


def _together(cohort: Cohort, jobs: Sequence[Iterator[Event]]) -> Iterator[Event]:
    """Yield the events of jobs that are begun together, as many as the cohort has, and wait for its steps.

    Raises:
        Interrupted: The run was told to stop, and all of them have saved.
    """
    live: list[Iterator[Event]] = []
    told: Interrupted | None = None
    cohort.share_time(0)  # who makes ready has that time for itself
    for job in jobs:
        if (yield from _until_it_waits(job)):
            live.append(job)
        if len(live) == cohort.size:
            break
    while live:
        cohort.share_time(sharing := len(live))
        cohort.step()
        waiting = []
        for job in live:
            try:
                if (yield from _until_it_waits(job)):
                    waiting.append(job)
                    continue
            except Interrupted as interrupted:
                told = interrupted
            cohort.share_time(sharing := sharing - 1)
        live = waiting
    if told is not None:
        raise told


def _until_it_waits(job: Iterator[Event]) -> Generator[Event, None, bool]:
    """Yield the events of a job until it waits for the cohort, and return True; False where it has ended."""
    for event in job:
        if event.kind == WAITING:
            return True
        yield event
    return False


def _why(error: Exception) -> str:
    """Return why a job failed: of an error in the code of a plugin the file and line there."""
    if isinstance(error, LotteryError):
        return str(error)
    return plugin_failure(error, registry.plugins()) or f"{type(error).__name__}: {error}"


def _run_one(context: RunContext, job: Job) -> Iterator[Event]:
    """Run a job that this process has claimed, and yield its events."""
    label = context.label(job)
    yield Event("start", job.key, job.label)
    context.store.log("start", key=job.key, label=label)
    began = time.monotonic()
    try:
        for about in _logged(context, job, execute(context, job)):
            yield Event(WAITING) if about is None else Event("progress", job.key, job.label, about)
    except (Interrupted, MachineError):
        raise
    except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError) as error:
        raise MachineError(f"{label}: {str(error).partition(chr(10))[0] or 'out of memory'}") from error
    except DamagedFile as error:
        context.store.log("damaged", key=job.key, label=label, message=str(error))
        yield Event("damaged", job.key, job.label, {"message": str(error)})
        return
    except Exception as error:
        if NO_MEMORY.search(str(error)):  # a plain RuntimeError: of torch on a CPU, of the libraries on a GPU
            raise MachineError(f"{label}: out of memory: {str(error).partition(chr(10))[0]}") from error
        message = _why(error)
        context.store.record_failure(job.key, label=label, message=f"{message}\n{traceback.format_exc()}")
        context.store.log("failed", key=job.key, label=label, message=message)
        yield Event("failed", job.key, job.label, {"message": message.partition("\n")[0]})
        return
    ended = finished(context.store, job)
    assert ended is not None
    context.store.clear_failure(job.key)
    about = {**ended.about, "session_seconds": time.monotonic() - began}
    kind = "done" if ended.kind == "found" else ended.kind
    context.store.log(kind, key=job.key, label=label, seconds=about["session_seconds"])
    yield Event(kind, job.key, job.label, about)


def _logged(context: RunContext, job: Job, every: Iterator[Progress | None]) -> Iterator[dict[str, Any] | None]:
    """Yield the progress of a job as plain values, and log some of it for those who watch the store from elsewhere.

    Of its curve each row is logged, as far as progress has them, but no more than MOST_ROWS in a line.
    """
    began = told = time.monotonic()
    rows: list[Any] = []  # that are not told yet
    for progress in every:
        if progress is None:
            yield None
            continue
        about, now = asdict(progress), time.monotonic()
        rows += about.get("rows", ())
        if now - told >= min(TELL_SECONDS, max(FIRST_SECONDS, told - began)):
            told = now
            line = {**about, "rows": rows[-MOST_ROWS:]}
            context.store.log("progress", key=job.key, label=context.label(job), about=line)
            rows = []
        yield about
