"""The plan of a recipe whose levels depend on results, and whose data the store may know."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lottery.data import kept
from lottery.errors import DataError
from lottery.paths import data_root
from lottery.plan.expand import Asked, other_data, plan
from lottery.plan.frontier import Pair, Step, rule, walk
from lottery.plan.jobs import Plan
from lottery.plan.kinds import Kind
from lottery.plan.rewind_search import rewound_to, search_plan
from lottery.results.record import Record, record_of
from lottery.results.resolution import floor_of
from lottery.results.rewind_search import search_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from lottery.plan.jobs import Job
    from lottery.recipe.schema import Recipe
    from lottery.recipe.types import RewindSpec
    from lottery.store.store import Store
    from lottery.values import Component, LabelNoise


def plan_from_store(recipe: Recipe, store: Store, data: Path | None) -> Plan:
    """Return the plan of a recipe on the data that it and its branches name, see `find_fingerprint`."""
    from lottery.plan.keys import name_of

    def known(dataset: Component, noise: LabelNoise | None = None) -> str:
        return find_fingerprint(recipe.name, dataset, store, data, noise)

    others = {name_of(other): known(other) for other in other_data(recipe)}
    return plan_with_walks(recipe, known(recipe.data.component, recipe.data.label_noise), others, store)


def plan_with_walks(recipe: Recipe, fingerprint: str, others: Mapping[str, str], store: Store) -> Plan:
    """Return the plan of a recipe; as much of it as the results in the store ask for, where they decide.

    With `rewind: auto` it is the plan of the step that is looked at, until one is found, then that of the recipe that
    goes back to it; with `levels: auto` that of the levels and seeds that were come to.

    Args:
        recipe: the recipe.
        fingerprint: sha256 of its data.
        others: fingerprints of the data that its branches name, by the digest of their identity.
        store: where its finished jobs are.
    """
    if recipe.search is not None:
        search = search_in(recipe, fingerprint, store)
        if search.found is None:
            return search_plan(recipe, fingerprint, search.at, others)
        recipe = rewound_to(recipe, search.found)
    if recipe.prune.auto is None:
        return plan(recipe, fingerprint, others)
    grid = plan(recipe.model_copy(update={"branches": ()}), fingerprint)
    read: dict[str, Record | None] = {}

    def find(job: Job) -> Record | None:
        if job.key not in read:
            read[job.key] = record_of(grid, store, job)
        return read[job.key]

    dense = (record for job in grid if job.kind is Kind.DENSE and (record := find(job)) is not None)
    walked = walk_levels(grid, find, floor_of(dense, store))
    asked: Asked = {place: [step.seeds for step in steps] for place, steps in walked.items()}
    return plan(recipe, fingerprint, others, asked)


def walk_levels(
    plan: Plan, find: Callable[[Job], Record | None], floor: float = 0.0
) -> dict[tuple[int, int], tuple[Step, ...]]:
    """Return the decisions of a recipe with `levels: auto`, by the indices of optimizer and rewind in the recipe.

    Args:
        plan: its plan without branches, or with them.
        find: gives the record of a finished job, None for another.
        floor: least spread of differences that is believed, see `lottery.results.resolution`.
    """
    recipe = plan.recipe
    tickets = {(job.optimizer_index, job.rewind, job.level, job.seed): job for job in plan if job.kind is Kind.TICKET}

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


def find_fingerprint(
    name: str, dataset: Component, store: Store, data: Path | None, noise: LabelNoise | None = None
) -> str:
    """Return the fingerprint of a data set, from the store if it knows just one: a table needs no data then.

    Args:
        name: the recipe's, for messages.
        dataset: the data set.
        store: knows the fingerprints of data that runs have used.
        data: the folder whose data are to be looked at in any case; None to look at those in the usual place if the
            store does not tell.
        noise: the noise in its training labels.

    Raises:
        DataError: the data would have to be looked at and are not there.
    """
    from lottery.plan.keys import dataset_identity, digest

    seen = store.remembered_data(digest(dataset_identity(dataset, noise)))
    if len(seen) == 1 and data is None:
        return seen[0]
    root = data_root(data)
    if noise is None and (known := kept.fingerprint_of(dataset, root)) is not None:
        return known
    from lottery.data.load import load
    from lottery.data.splits import fingerprint

    try:
        return fingerprint(load(dataset, root, noise))
    except DataError as error:
        if not seen:
            what = (
                f"nothing of {name} has been run in this store" if store.place.is_there() else "there is no store here"
            )
            raise DataError(f"{store.name}: {what}, and {error}") from error
        raise DataError(f"{store.name}: has runs of {name} on {len(seen)} versions of the data, and {error}") from error
