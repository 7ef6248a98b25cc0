"""What finished jobs say, as plain records: the one reading of metrics that tables, reports and listings share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import DamagedFile, DataError
from lottery.plan import MEASURED, other_data, plan

if TYPE_CHECKING:
    from pathlib import Path

    from lottery.plan import Job, Plan
    from lottery.schema import Recipe
    from lottery.spec import Component
    from lottery.store import Manifest, Store


@dataclass(frozen=True)
class Record:
    """A finished training of a plan. Accuracies are fractions of the test set, None where the training diverged."""

    job: Job
    manifest: Manifest
    metrics: dict[str, Any]

    @property
    def diverged(self) -> int | None:
        """The step at which the loss was seen not to be finite."""
        step = self.metrics.get("diverged")
        return None if step is None else int(step)

    def at(self, report: str) -> dict[str, Any] | None:
        """Losses and accuracies at the early-stop step or the end; without a validation split there is the end only."""
        if self.diverged is not None:
            return None
        found: dict[str, Any] | None = self.metrics[report]
        return found

    @property
    def rate(self) -> float | None:
        """The learning rate, where a job of the plan chose it."""
        return self.metrics.get("lr")

    @property
    def density(self) -> float:
        return float(self.metrics["density"])


def records(plan: Plan, store: Store) -> dict[str, Record]:
    """The finished trainings of a plan by key; a damaged one is put aside, said, and missing from now on."""
    found: dict[str, Record] = {}
    for job in plan:
        manifest = store.find(job.key) if job.kind in MEASURED else None
        if manifest is not None:
            try:
                found[job.key] = Record(job, manifest, store.read_json(job.key, "metrics.json"))
            except DamagedFile as damage:
                logging.getLogger("lottery").warning("%s", damage)
        elif (job.kind == "dense" or job.transfer is not None) and (
            chosen := _diverged_choice(plan, store, job)
        ) is not None:
            found[job.key] = chosen
    return found


def _diverged_choice(plan: Plan, store: Store, job: Job) -> Record | None:
    """A training with an optimizer all whose learning rates diverged: there is none to train it with."""
    for key in job.needs:
        manifest = store.find(key) if plan.jobs[key].kind == "choice" else None
        if manifest is not None and manifest.status == "diverged":
            return Record(job, manifest, {**store.read_json(key, "metrics.json"), "density": 1.0})
    return None


def known_plan(recipe: Recipe, store: Store, data: Path | None) -> Plan:
    """The plan on the data that the recipe and its branches name, see `known_fingerprint`."""
    from lottery.identity import digest

    def known(dataset: Component) -> str:
        return known_fingerprint(recipe.name, dataset, store, data)

    others = {digest(registry.datasets.identity(other)): known(other) for other in other_data(recipe)}
    return plan(recipe, known(recipe.data.component), others)


def known_fingerprint(name: str, dataset: Component, store: Store, data: Path | None) -> str:
    """The fingerprint of a data set in the folder `data`; where None is named, the one the store has seen, so that a
    table needs no data, else that of the data in the usual place. `name` is the recipe's.

    Raises DataError where the store knows none and the data is not there either."""
    from lottery.identity import digest

    seen = store.remembered_data(digest(registry.datasets.identity(dataset)))
    if len(seen) == 1 and data is None:
        return seen[0]
    from lottery.data import fingerprint, load
    from lottery.places import data_root

    try:
        return fingerprint(load(dataset, data_root(data)))
    except DataError as error:
        if not seen:
            raise DataError(f"{store.root}: nothing of {name} has been run in this store, and {error}") from error
        raise DataError(f"{store.root}: has runs of {name} on {len(seen)} versions of the data, and {error}") from error
