"""Records of finished trainings: the one reading of metrics that tables, reports and listings share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile
from lottery.plan.jobs import Plan
from lottery.plan.kinds import METRICS_FILE, Kind

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.store.manifest import Manifest
    from lottery.store.store import Store


@dataclass(frozen=True)
class Record:
    """A finished training of a plan. Accuracies are fractions of the test set, None where the training diverged."""

    job: Job
    manifest: Manifest
    metrics: dict[str, Any]

    @property
    def diverged(self) -> int | None:
        """The step at which the loss was seen not to be finite; None for a training that ended well."""
        step = self.metrics.get("diverged")
        return None if step is None else int(step)

    def at(self, report: str) -> dict[str, Any] | None:
        """Return losses and accuracies at a reading (`lottery.recipe.readings`); None where there is none.

        Without a validation split there is the end only, of a diverged training nothing.
        """
        if self.diverged is not None:
            return None
        found: dict[str, Any] | None = self.metrics.get(report)
        return found

    def score(self, report: str) -> float | None:
        """Return the test accuracy, or r2 in its place, at a reading; None where there is none."""
        measured = self.at(report)
        if measured is None:
            return None
        return float(measured["test_r2"] if "test_r2" in measured else measured["test_accuracy"])

    @property
    def rate(self) -> float | None:
        """The learning rate, where a job of the plan chose it."""
        return self.metrics.get("lr")

    @property
    def density(self) -> float:
        """The share of prunable weights that are left."""
        return float(self.metrics["density"])


def records(plan: Plan, store: Store) -> dict[str, Record]:
    """Return the finished trainings of a plan by key; a damaged one is put aside, and a warning says so."""
    store.expect(plan.jobs)
    every = ((job.key, record_of(plan, store, job)) for job in plan if job.kind.measured)
    return {key: record for key, record in every if record is not None}


def record_of(plan: Plan, store: Store, job: Job) -> Record | None:
    """Return the record of a job of the plan; None if it is not finished, or damaged, which is warned of."""
    manifest = store.find(job.key)
    if manifest is None:
        return _diverged_choice(plan, store, job) if job.kind is Kind.DENSE or job.transfer is not None else None
    try:
        return Record(job, manifest, store.read_json(job.key, METRICS_FILE))
    except DamagedFile as damage:
        logging.getLogger("lottery").warning("%s", damage)
        return None


def _diverged_choice(plan: Plan, store: Store, job: Job) -> Record | None:
    """Return a record for a training that has no learning rate, as all that were tried diverged; None for another."""
    for key in job.needs:
        manifest = store.find(key) if plan.jobs[key].kind is Kind.CHOICE else None
        if manifest is not None and manifest.status == "diverged":
            return Record(job, manifest, {**store.read_json(key, METRICS_FILE), "density": 1.0})
    return None
