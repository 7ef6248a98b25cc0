"""A plan is run: finished jobs are skipped, the others claimed, resumed, trained and committed.

Any number of processes may do so on one store.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace

import torch

from lottery.errors import DamagedFile, Interrupted, LotteryError, MachineError
from lottery.plan.agenda import BAD, Agenda, ranks
from lottery.plan.jobs import Job
from lottery.plan.kinds import METRICS_FILE, Kind
from lottery.results.planning import plan_with_walks
from lottery.runner.context import RunContext
from lottery.runner.estimate import steps_of
from lottery.runner.events import ENDS, Event
from lottery.runner.execute import execute
from lottery.runner.prepare import check_disk

DAMAGES = 10  # times a job's input may turn out damaged before the job counts as failed
WAIT_SECONDS = 0.1  # before looking again whether other processes have finished what the rest waits for


def work(context: RunContext) -> Iterator[Event]:
    """Run what is missing of the plan and is not being run by another process, until all jobs have ended.

    What the longest chain of jobs waits for comes first. A failing or diverging job ends itself and what depends on it,
    nothing else. Where results decide what is run, the plan then goes on with what they ask for, and an event `planned`
    says so.

    Raises:
        Interrupted: Where the run is told to stop.
        MachineError: Where memory runs out, or a longer plan does not fit on the disk.
    """
    ended: dict[str, str] = {}
    damages: dict[str, int] = {}
    began = time.time()
    while True:
        yield from _found(context, ended)
        rank = ranks(context.plan.needs, steps_of(context)) if len(ended) < len(context.plan) else {}
        while len(ended) < len(context.plan):
            agenda = Agenda(context.plan.needs, rank, ended)
            for event in _through(context, agenda, ended, began):
                yield event
                if event.kind == "damaged":
                    yield from _damaged(context, event, ended, damages)
        longer = _longer(context, ended)
        if longer is None:
            return
        context = longer
        yield Event("planned")


def run_job(context: RunContext, job: Job) -> Iterator[Event]:
    """Run one job of a plan whose needs are done, and wait where another process is at it.

    Raises:
        Interrupted: Where the run is told to stop.
        MachineError: Where memory runs out.
    """
    began, done = time.time(), dict.fromkeys(job.needs, "found")
    while True:
        kinds = []
        for event in _attend(context, job, done, began):
            kinds.append(event.kind)
            yield event
        if kinds:
            return
        if context.stop.signal is not None:
            raise Interrupted(context.stop.signal)
        time.sleep(WAIT_SECONDS)  # it is in the hands of another process


def _found(context: RunContext, ended: dict[str, str]) -> Iterator[Event]:
    """Yield an event for each job that is done already, in the order of the plan."""
    context.store.expect(context.plan.jobs.keys() - ended.keys())
    for job in context.plan:
        if job.key not in ended and (found := _finished(context, job)) is not None:
            ended[job.key] = found.kind
            yield found
        if context.stop.signal is not None:
            raise Interrupted(context.stop.signal)


def _through(context: RunContext, agenda: Agenda, ended: dict[str, str], began: float) -> Iterator[Event]:
    """Attend to the best of what is ready, again and again, until all has ended or some input was damaged."""
    while len(ended) < len(context.plan):
        for key in agenda:
            kinds = []
            for event in _attend(context, context.plan.jobs[key], ended, began):
                kinds.append(event.kind)
                if event.kind in ENDS:
                    ended[key] = event.kind
                    agenda.end(key, event.kind)
                yield event
            if context.stop.signal is not None:
                raise Interrupted(context.stop.signal)
            if "damaged" in kinds:
                return
            if kinds:
                break  # something better may be ready now
        else:
            time.sleep(WAIT_SECONDS)  # the rest is in the hands of other processes


def _damaged(context: RunContext, event: Event, ended: dict[str, str], damages: dict[str, int]) -> Iterator[Event]:
    """Have a job whose input was damaged tried again once that is computed again, but not for ever."""
    damages[event.key] = damages.get(event.key, 0) + 1
    if damages[event.key] >= DAMAGES:
        ended[event.key] = "failed"
        yield Event("failed", event.key, event.label, event.about)
    for key in [key for key, end in ended.items() if end in ("found", "done")]:
        if context.store.find(key) is None:
            del ended[key]  # quarantined: it is missing again


def _longer(context: RunContext, ended: dict[str, str]) -> RunContext | None:
    """Return the context with the plan that the results ask for; None where all its jobs have ended."""
    if not context.plan.recipe.grows:
        return None
    planned = plan_with_walks(context.plan.recipe, context.plan.fingerprint, context.plan.others, context.store)
    for key in [key for key, end in ended.items() if end in ("found", "done") and context.store.find(key) is None]:
        del ended[key]  # quarantined while the results were read
    if planned.jobs.keys() - context.plan.jobs.keys():
        context = replace(context, plan=planned)
        check_disk(context)
        for key in ended.keys() - planned.jobs.keys():
            del ended[key]  # of a rewind point that was looked at, and is not the one that was found
    return context if len(ended) < len(context.plan) else None


def _attend(context: RunContext, job: Job, ended: dict[str, str], began: float) -> Iterator[Event]:
    """Do what can be done for one job now: nothing while its needs are missing or another process runs it."""
    if (found := _finished(context, job)) is not None:
        yield found
        return
    needs = {key: ended.get(key) for key in job.needs}
    for key, end in needs.items():
        # what trains the dense network can do without a rewind point, and says itself where it diverges
        if end in BAD and job.kind.on_dense_trajectory and context.plan.jobs[key].kind is Kind.REWIND:
            needs[key] = "done"
    if any(end in BAD for end in needs.values()):
        yield Event("blocked", job.key, job.label)
        return
    if any(end is None for end in needs.values()):
        return
    with context.store.lease(job.key) as mine:
        if not mine:
            return
        found = _finished(context, job) or _failed_elsewhere(context, job, began)
        if found is not None:
            yield found
            return
        yield from _run_one(context, job)


def _run_one(context: RunContext, job: Job) -> Iterator[Event]:
    """Run a job that this process has claimed, and yield its events."""
    yield Event("start", job.key, job.label)
    context.store.log("start", key=job.key, label=job.label)
    began = time.monotonic()
    try:
        for progress in execute(context, job):
            yield Event("progress", job.key, job.label, asdict(progress))
    except (Interrupted, MachineError):
        raise
    except (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError) as error:
        raise MachineError(f"{job.label}: {str(error).partition(chr(10))[0] or 'out of memory'}") from error
    except DamagedFile as error:
        context.store.log("damaged", key=job.key, label=job.label, message=str(error))
        yield Event("damaged", job.key, job.label, {"message": str(error)})
        return
    except Exception as error:
        if "can't allocate memory" in str(error):  # torch's own word for it on a CPU
            raise MachineError(f"{job.label}: out of memory: {str(error).partition(chr(10))[0]}") from error
        message = str(error) if isinstance(error, LotteryError) else f"{type(error).__name__}: {error}"
        context.store.record_failure(job.key, label=job.label, message=f"{message}\n{traceback.format_exc()}")
        context.store.log("failed", key=job.key, label=job.label, message=message)
        yield Event("failed", job.key, job.label, {"message": message.partition("\n")[0]})
        return
    ended = _finished(context, job)
    assert ended is not None
    context.store.clear_failure(job.key)
    about = {**ended.about, "session_seconds": time.monotonic() - began}
    kind = "done" if ended.kind == "found" else ended.kind
    context.store.log(kind, key=job.key, label=job.label, seconds=about["session_seconds"])
    yield Event(kind, job.key, job.label, about)


def _finished(context: RunContext, job: Job) -> Event | None:
    """Return the event of a job that has ended in the store, None where it has not."""
    manifest = context.store.find(job.key)
    if manifest is None:
        return None
    try:  # what the table will read is verified here, while it can still be computed again
        metrics = context.store.read(job.key, METRICS_FILE) if METRICS_FILE in manifest.files else b""
    except DamagedFile:
        return None
    if manifest.status == "diverged" and job.kind is not Kind.TRIAL:  # that a rate diverges is what a trial finds out
        step = json.loads(metrics)["diverged"]
        message = f"diverged: loss, weights or running statistics are not finite at step {step}"
        return Event("diverged", job.key, job.label, {"step": step, "message": message})
    return Event("found", job.key, job.label, {"seconds": manifest.seconds})


def _failed_elsewhere(context: RunContext, job: Job, began: float) -> Event | None:
    """A failure that another process met since this one began; older ones are tried again."""
    failure = context.store.failure(job.key)
    if failure is None or failure["time"] < began:
        return None
    return Event("failed", job.key, job.label, {"message": str(failure["message"]).partition("\n")[0]})
