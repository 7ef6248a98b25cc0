"""Jobs that are finished already, and the run that has no others: it needs neither data in memory nor torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lottery.data import kept
from lottery.errors import DamagedFile
from lottery.plan.expand import other_data
from lottery.plan.keys import dataset_identity, digest, name_of
from lottery.plan.kinds import METRICS_FILE, Kind
from lottery.results.planning import plan_with_walks
from lottery.runner.events import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lottery.plan.jobs import Job, Plan
    from lottery.runner.events import Request
    from lottery.store.store import Store
    from lottery.values import Component, LabelNoise


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


def all_finished(requests: Sequence[Request], store: Store) -> tuple[list[Plan], list[Event]] | None:
    """Return the plan of each request, and the events of their jobs, each once, all of which are finished.

    Returns:
        None where a job is missing, or where the data would have to be read to know.
    """
    plans: list[Plan] = []
    events, seen = dict[str, Event](), dict[str, str | None]()
    for request in requests:
        planned = _planned(request, store, seen)
        if planned is None:
            return None
        plans.append(planned)
        store.expect(planned.jobs.keys())
        if any(store.find(key) is None for key in planned.jobs):
            return None  # before metrics are read, which the run that follows reads again
        for job in planned:
            event = events.get(job.key) or finished(store, job)
            if event is None:
                return None
            events[job.key] = event
    return plans, list(events.values())


def finished_plan(request: Request, store: Store) -> Plan | None:
    """Return the plan of a recipe; None where a job is missing, or where the data would have to be read to know."""
    planned = _planned(request, store, {})
    if planned is None:
        return None
    store.expect(planned.jobs.keys())
    return planned if all(store.find(key) is not None for key in planned.jobs) else None


def _planned(request: Request, store: Store, seen: dict[str, str | None]) -> Plan | None:
    """Return the plan on data whose fingerprints are known, `seen` without another look; None where one is not."""
    recipe = request.recipe

    def known(dataset: Component, noise: LabelNoise | None = None) -> str | None:
        name = digest(dataset_identity(dataset, noise))
        if name not in seen:
            seen[name] = kept.fingerprint_of(dataset, request.data, noise)
        return seen[name]

    own = known(recipe.data.component, recipe.data.label_noise)
    others = {name_of(other): known(other) for other in other_data(recipe)}
    prints = {name: each for name, each in others.items() if each is not None}
    return plan_with_walks(recipe, own, prints, store) if own is not None and prints == others else None
