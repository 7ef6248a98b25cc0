"""What finished jobs say, as plain records: the one reading of metrics that tables, reports and listings share."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import DamagedFile, DataError
from lottery.plan.frontier import Pair, Step, rule, walk
from lottery.plan.jobs import MEASURED, Asked, Plan, other_data, plan
from lottery.results.resolution import floor_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lottery.plan.jobs import Job
    from lottery.recipe.schema import Recipe
    from lottery.recipe.types import RewindSpec
    from lottery.store.store import Manifest, Store
    from lottery.values import Component


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
        """Return losses and accuracies at a reading (`lottery.recipe.readings`); None where there is none.

        Without a validation split there is the end only, of a diverged training nothing."""
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
        return float(self.metrics["density"])


def records(plan: Plan, store: Store) -> dict[str, Record]:
    """The finished trainings of a plan by key; a damaged one is put aside, said, and missing from now on."""
    every = ((job.key, _record(plan, store, job)) for job in plan if job.kind in MEASURED)
    return {key: record for key, record in every if record is not None}


def _record(plan: Plan, store: Store, job: Job) -> Record | None:
    manifest = store.find(job.key)
    if manifest is None:
        return _diverged_choice(plan, store, job) if job.kind == "dense" or job.transfer is not None else None
    try:
        return Record(job, manifest, store.read_json(job.key, "metrics.json"))
    except DamagedFile as damage:
        logging.getLogger("lottery").warning("%s", damage)
        return None


def _diverged_choice(plan: Plan, store: Store, job: Job) -> Record | None:
    """A training with an optimizer all whose learning rates diverged: there is none to train it with."""
    for key in job.needs:
        manifest = store.find(key) if plan.jobs[key].kind == "choice" else None
        if manifest is not None and manifest.status == "diverged":
            return Record(job, manifest, {**store.read_json(key, "metrics.json"), "density": 1.0})
    return None


def known_plan(recipe: Recipe, store: Store, data: Path | None) -> Plan:
    """The plan on the data that the recipe and its branches name, see `known_fingerprint`."""
    from lottery.plan.keys import digest

    def known(dataset: Component) -> str:
        return known_fingerprint(recipe.name, dataset, store, data)

    others = {digest(registry.datasets.identity(other)): known(other) for other in other_data(recipe)}
    return asked_plan(recipe, known(recipe.data.component), others, store)


def asked_plan(recipe: Recipe, fingerprint: str, others: Mapping[str, str], store: Store) -> Plan:
    """The plan of a recipe; with `levels: auto` as much of it as the rule asks for, after what the store holds."""
    if recipe.prune.auto is None:
        return plan(recipe, fingerprint, others)
    grid = plan(recipe.model_copy(update={"branches": ()}), fingerprint)
    read: dict[str, Record | None] = {}

    def find(job: Job) -> Record | None:
        if job.key not in read:
            read[job.key] = _record(grid, store, job)
        return read[job.key]

    dense = (record for job in grid if job.kind == "dense" and (record := find(job)) is not None)
    walked = walks(grid, find, floor_of(dense, store))
    asked: Asked = {place: [step.seeds for step in steps] for place, steps in walked.items()}
    return plan(recipe, fingerprint, others, asked)


def walks(
    plan: Plan, find: Callable[[Job], Record | None], floor: float = 0.0
) -> dict[tuple[int, int], tuple[Step, ...]]:
    """The decisions of a recipe with `levels: auto`, by optimizer and rewind, from the records that `find` knows.

    `floor` is the least spread of differences that is believed, see `resolution`."""
    recipe = plan.recipe
    tickets = {(job.place, job.rewind, job.level, job.seed): job for job in plan if job.kind == "ticket"}

    def pair(place: int, rewind: RewindSpec, level: int, index: int) -> Pair:
        job = tickets.get((place, rewind, level, recipe.seeds[index]))
        trunk = [find(each) for each in plan.trunk(job)] if job is not None else [None]
        dense, ticket = trunk[0], trunk[-1]
        if dense is not None and dense.diverged is not None:
            return "dense diverged"
        if any(record is not None and record.diverged is not None for record in trunk):
            return "ticket diverged"
        if dense is None or ticket is None:
            return None
        accuracy, reference = ticket.score(recipe.report), dense.score(recipe.report)
        assert accuracy is not None and reference is not None
        return accuracy - reference

    return {
        (place, number): walk(rule(recipe, floor), partial(pair, place, rewind))
        for place in range(len(recipe.train.optimizer))
        for number, rewind in enumerate(recipe.rewind)
    }


def known_fingerprint(name: str, dataset: Component, store: Store, data: Path | None) -> str:
    """The fingerprint of a data set in the folder `data`; where None is named, the one the store has seen, so that a
    table needs no data, else that of the data in the usual place. `name` is the recipe's.

    Raises DataError where the store knows none and the data is not there either."""
    from lottery.plan.keys import digest

    seen = store.remembered_data(digest(registry.datasets.identity(dataset)))
    if len(seen) == 1 and data is None:
        return seen[0]
    from lottery.data.splits import fingerprint, load
    from lottery.paths import data_root

    try:
        return fingerprint(load(dataset, data_root(data)))
    except DataError as error:
        if not seen:
            raise DataError(f"{store.root}: nothing of {name} has been run in this store, and {error}") from error
        raise DataError(f"{store.root}: has runs of {name} on {len(seen)} versions of the data, and {error}") from error
