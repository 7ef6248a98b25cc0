"""A plan is run: finished jobs are skipped, the others claimed, resumed, trained and committed.

Any number of processes may do so on one store.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, replace

import torch

from lottery.errors import DamagedFile, Interrupted, LotteryError, MachineError
from lottery.plan.agenda import BAD, Agenda, ranks
from lottery.plan.jobs import Job
from lottery.runner.back_off import BackOff
from lottery.runner.context import RunContext
from lottery.runner.ends import failed_since, forget_damaged, longer, waits_for
from lottery.runner.estimate import steps_of
from lottery.runner.events import ENDS, Event
from lottery.runner.execute import execute
from lottery.runner.finished import finished
from lottery.store.maintenance import known_failures

IDLE = "idle"  # an event of one walk, which `work` keeps to itself
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
        for key in ready:
            kinds = []
            for event in _attend(context, context.plan.jobs[key], ended, before):
                kinds.append(event.kind)
                if event.kind in ENDS:
                    ended[key] = event.kind
                    agenda.end(key, event.kind)
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


def _run_one(context: RunContext, job: Job) -> Iterator[Event]:
    """Run a job that this process has claimed, and yield its events."""
    label = context.label(job)
    yield Event("start", job.key, job.label)
    context.store.log("start", key=job.key, label=label)
    began = time.monotonic()
    try:
        for progress in execute(context, job):
            yield Event("progress", job.key, job.label, asdict(progress))
    except (Interrupted, MachineError):
        raise
    except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError) as error:
        raise MachineError(f"{label}: {str(error).partition(chr(10))[0] or 'out of memory'}") from error
    except DamagedFile as error:
        context.store.log("damaged", key=job.key, label=label, message=str(error))
        yield Event("damaged", job.key, job.label, {"message": str(error)})
        return
    except Exception as error:
        if "can't allocate memory" in str(error):  # torch's own word for it on a CPU
            raise MachineError(f"{label}: out of memory: {str(error).partition(chr(10))[0]}") from error
        message = str(error) if isinstance(error, LotteryError) else f"{type(error).__name__}: {error}"
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
