"""Jobs that are finished already, and the run that has no others: it needs neither data in memory nor torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lottery import registry
from lottery.data import kept
from lottery.errors import DamagedFile
from lottery.plan.expand import other_data
from lottery.plan.keys import digest
from lottery.plan.kinds import METRICS_FILE, Kind
from lottery.results.planning import plan_with_walks
from lottery.runner.events import Event

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.runner.events import Request
    from lottery.store.store import Store


def finished(store: Store, job: Job) -> Event | None:
    """Return the event of a job that has ended in the store, None where it has not."""
    manifest = store.find(job.key)
    if manifest is None:
        return None
    try:  # what the table will read is verified here, while it can still be computed again
        metrics = store.read(job.key, METRICS_FILE) if METRICS_FILE in manifest.files else b""
    except DamagedFile:
        return None
    if manifest.status == "diverged" and job.kind is not Kind.TRIAL:  # that a rate diverges is what a trial finds out
        step = json.loads(metrics)["diverged"]
        message = f"diverged: loss, weights or running statistics are not finite at step {step}"
        return Event("diverged", job.key, job.label, {"step": step, "message": message})
    return Event("found", job.key, job.label, {"seconds": manifest.seconds})


def all_finished(request: Request, store: Store) -> tuple[Plan, list[Event]] | None:
    """Return the plan of a request with the events of its jobs, all of which are finished.

    Returns:
        None where a job is missing, or where the data would have to be read to know.
    """
    recipe = request.recipe
    fingerprint = kept.fingerprint_of(recipe.data.component, request.data)
    if fingerprint is None or recipe.data.label_noise is not None:
        return None
    others = {}
    for dataset in other_data(recipe):
        known = kept.fingerprint_of(dataset, request.data)
        if known is None:
            return None
        others[digest(registry.datasets.identity(dataset))] = known
    planned = plan_with_walks(recipe, fingerprint, others, store)
    store.expect(planned.jobs.keys())
    events = []
    for job in planned:
        event = finished(store, job)
        if event is None:
            return None
        events.append(event)
    return planned, events
