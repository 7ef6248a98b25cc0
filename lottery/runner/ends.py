"""How the jobs of a plan have ended, as the store has it: this process, or another one, ran them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.plan.agenda import BAD
from lottery.plan.kinds import Kind
from lottery.results.planning import plan_with_walks
from lottery.runner.events import Event
from lottery.runner.prepare import check_disk
from lottery.store.maintenance import failure_digest

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext


def waits_for(context: RunContext, job: Job, ended: Mapping[str, str]) -> list[str | None]:
    """Return how each of the jobs that this one needs has ended, None for one that has not.

    What trains the dense network can do without a rewind point that diverged, and says itself where it diverges.
    """
    ends = {key: ended.get(key) for key in job.needs}
    for key, end in ends.items():
        if end in BAD and job.kind.on_dense_trajectory and context.plan.jobs[key].kind is Kind.REWIND:
            ends[key] = "done"
    return list(ends.values())


def failed_since(context: RunContext, job: Job, before: Mapping[str, str]) -> Event | None:
    """Return the event of a failure that another process met and that was not among those `before`.

    It is told from them by its content: the times of two machines cannot be compared.
    """
    failure = context.store.failure(job.key)
    if failure is None or failure_digest(failure) == before.get(job.key):
        return None
    return Event("failed", job.key, job.label, {"message": str(failure["message"]).partition("\n")[0]})


def forget_damaged(context: RunContext, ended: MutableMapping[str, str]) -> None:
    """Remove the ends of jobs that were put into quarantine: they are missing again."""
    for key in [key for key, end in ended.items() if end in ("found", "done") and context.store.find(key) is None]:
        del ended[key]


def longer(context: RunContext, ended: MutableMapping[str, str]) -> RunContext | None:
    """Return the context with the plan that the results ask for; None where all its jobs have ended."""
    if not context.plan.recipe.grows:
        return None
    planned = plan_with_walks(context.plan.recipe, context.plan.fingerprint, context.plan.others, context.store)
    forget_damaged(context, ended)  # while the results were read
    if planned.jobs.keys() - context.plan.jobs.keys():
        context = replace(context, plan=planned)
        check_disk(context)
        for key in ended.keys() - planned.jobs.keys():
            del ended[key]  # of a rewind point that was looked at, and is not the one that was found
    return context if len(ended) < len(context.plan) else None
