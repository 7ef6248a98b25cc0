"""The steps before a run: data loaded, plan made and checked, machine chosen, room on the disk looked for."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.data import duplicates
from lottery.data.splits import Splits, fingerprint, load
from lottery.device import computes_bf16, machine
from lottery.errors import MachineError, UsageError
from lottery.plan.expand import other_data
from lottery.plan.keys import data_identity, digest
from lottery.results.planning import plan_with_walks
from lottery.runner.checks import check
from lottery.runner.context import RunContext, name_of
from lottery.runner.estimate import disk_bytes, missing_jobs
from lottery.runner.events import Request
from lottery.runner.parallelism import share_out
from lottery.signals import Stop
from lottery.store.maintenance import known_failures
from lottery.store.store import Store
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan


def look(
    request: Request, stop: Stop | None = None, *, store: Store | None = None, known: Plan | None = None
) -> RunContext:
    """Load the data, make the plan and check it; nothing is written.

    Args:
        request: What is to be run, and where.
        stop: Where a signal is noted.
        store: The store of the request, where it is open already: what was verified in it is not verified again.
        known: A plan of the same recipe, used if it was made for the data that are found now.

    Raises:
        UsageError: Where the recipe does not fit the data, the network or the machine.
        DataError: Where data are missing or damaged.
    """
    jobs = 1 if request.jobs == "auto" else request.jobs
    where = machine(request.device, jobs=jobs, deterministic=request.deterministic)
    splits = load(request.recipe.data.component, request.data)
    others = {name_of(dataset): _load_other(dataset, request, splits) for dataset in other_data(request.recipe)}
    seen = fingerprint(splits), {name: fingerprint(other) for name, other in others.items()}
    store = store or Store(request.store)
    if known is None or (known.fingerprint, known.others) != seen:
        known = plan_with_walks(request.recipe, *seen, store)
    context = RunContext(
        known,
        store,
        where,
        splits,
        others,
        request.checkpoint_seconds,
        jobs,
        stop or Stop(),
    )
    check(context)
    if request.recipe.train.precision == "bf16" and not computes_bf16(where.device):
        logging.getLogger("lottery").warning(
            "train.precision: this processor has no instructions for bf16; steps take many times as long as in fp32"
        )
    return share_out(context) if request.jobs == "auto" else context


def _load_other(dataset: Component, request: Request, splits: Splits) -> Splits:
    """Load a data set that a branch names. Raises UsageError where its shapes are not those of the recipe's data."""
    other = load(dataset, request.data)
    here, there = ((s.input_shape, s.train_x.dtype, s.classes, s.train_y.dtype) for s in (splits, other))
    if here != there:
        raise UsageError(
            f"branch dataset {dataset.name}: has examples {there[0]} of {there[2]} classes, the recipe's data "
            f"{here[0]} of {here[2]}; name a data set of the same shapes"
        )
    return other


def prepare(
    request: Request, stop: Stop | None = None, *, store: Store | None = None, known: Plan | None = None
) -> RunContext:
    """Do what `look` does, make sure that the jobs fit on the disk, and note the data in the store.

    Raises:
        UsageError: Where the recipe does not fit the data, the network or the machine.
        DataError: Where data are missing or damaged.
        MachineError: Where the jobs do not fit on the disk.
    """
    context = look(request, stop, store=store, known=known)
    check_disk(context)
    context.store.remember_data(digest(data_identity(request.recipe.data)), context.plan.fingerprint)
    for identity, seen in context.plan.others.items():
        context.store.remember_data(identity, seen)
    duplicates.look(context.store, context.plan.fingerprint, context.splits)
    for name, other in context.others.items():
        duplicates.look(context.store, context.plan.others[name], other)
    return replace(context, failures=known_failures(context.store))


def check_disk(context: RunContext) -> None:
    """Check that the missing jobs fit on the disk.

    Raises:
        MachineError: Where they do not.
    """
    need, free = disk_bytes(context, missing_jobs(context)), context.store.free_bytes()
    if free is not None and need > free:
        raise MachineError(
            f"{context.store.name}: the missing jobs need {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
            "make room or name another place with --store"
        )
