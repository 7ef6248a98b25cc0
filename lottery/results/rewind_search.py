"""How far the search of `rewind: auto` has come, by what is finished in a store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lottery.errors import DamagedFile
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.plan.rewind_search import Search, bisect, latest_step, search_plan

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.recipe.schema import Recipe
    from lottery.store.store import Store
    from lottery.values import Duration


def search_in(recipe: Recipe, fingerprint: str, store: Store) -> Search:
    """Return what the results in a store say of the earliest stable step of a recipe with `rewind: auto`."""
    search = recipe.search
    assert search is not None

    def measure(at: Duration) -> Sequence[float] | None:
        planned = search_plan(recipe, fingerprint, at)
        measured = [_instability(planned, job, store, search.part) for job in planned if job.kind is Kind.ANALYSIS]
        known = [value for value in measured if value is not None]
        return known if len(known) == len(measured) else None

    return bisect(latest_step(recipe), search.halvings, search.tolerance, measure)


def _instability(planned: Plan, job: Job, store: Store, part: str) -> float | None:
    """Return the rise of the error between two copies, infinite where training diverges; None where it is not known."""
    if store.find(job.key) is None:
        return math.inf if any(_diverged(other, store) for other in planned if other.seed == job.seed) else None
    try:
        values = store.read_json(job.key, MEASUREMENT_FILE)["values"]
    except DamagedFile:
        return None
    return float(values[f"{part}_error_barrier"])


def _diverged(job: Job, store: Store) -> bool:
    manifest = None if job.kind.tunes else store.find(job.key)
    return manifest is not None and manifest.status == "diverged"
