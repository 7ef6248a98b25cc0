"""What finished jobs say, as plain records: the one reading of metrics that tables, reports and listings share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from lottery.plan import Job, Plan
    from lottery.recipe import Recipe
    from lottery.store import Manifest, Store


@dataclass(frozen=True)
class Record:
    """A finished job of a plan. Accuracies are fractions of the test set, None where the training diverged."""

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
    def density(self) -> float:
        return float(self.metrics["density"])


def records(plan: Plan, store: Store) -> dict[str, Record]:
    """The finished trainings of a plan by key; a damaged one is put aside, said, and missing from now on."""
    found: dict[str, Record] = {}
    for job in plan:
        manifest = store.find(job.key)
        if manifest is not None and job.kind != "rewind":
            try:
                found[job.key] = Record(job, manifest, store.read_json(job.key, "metrics.json"))
            except DamagedFile as damage:
                logging.getLogger("lottery").warning("%s", damage)
    return found


def known_fingerprint(recipe: Recipe, store: Store, data: Path | None) -> str:
    """The fingerprint of the recipe's data in the folder `data`; where None is named, the one the store has seen, so
    that a table needs no data, else that of the data in the usual place.

    Raises DataError where the store knows none and the data is not there either."""
    from lottery.plan import data_identity, digest

    seen = store.remembered_data(digest(data_identity(recipe.data)))
    if len(seen) == 1 and data is None:
        return seen[0]
    from lottery.data import fingerprint, load
    from lottery.places import data_root

    try:
        return fingerprint(load(recipe.data.component, data_root(data)))
    except DataError as error:
        if not seen:
            raise DataError(
                f"{store.root}: nothing of {recipe.name} has been run in this store, and {error}"
            ) from error
        raise DataError(
            f"{store.root}: has runs of {recipe.name} on {len(seen)} versions of the data, and {error}"
        ) from error
