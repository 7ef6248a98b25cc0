"""The steps before a run: data loaded, plan made and checked, machine chosen, room on the disk looked for."""

from __future__ import annotations

import logging
from dataclasses import replace

from lottery.data import duplicates
from lottery.data.shared import load_once
from lottery.data.splits import Splits, fingerprint
from lottery.device import Machine, computes_bf16, machine
from lottery.distributed.group import ALONE, Group
from lottery.errors import MachineError, UsageError
from lottery.plan.expand import other_data
from lottery.plan.jobs import Plan
from lottery.plan.keys import data_identity, digest
from lottery.results.planning import plan_with_walks
from lottery.runner.checks import check
from lottery.runner.context import RunContext, name_of
from lottery.runner.estimate import disk_bytes, missing_jobs
from lottery.runner.events import Request
from lottery.runner.parallelism import share_out
from lottery.runner.rank_checks import check_number
from lottery.signals import Stop
from lottery.store.maintenance import known_failures
from lottery.store.store import Store


def look(
    request: Request,
    stop: Stop | None = None,
    *,
    store: Store | None = None,
    known: Plan | None = None,
    group: Group = ALONE,
) -> RunContext:
    """Load the data, make the plan and check it; nothing is written.

    Args:
        request: What is to be run, and where.
        stop: Where a signal is noted.
        store: The store of the request, where it is open already: what was verified in it is not verified again.
        known: A plan of the same recipe, used if it was made for the data that are found now.
        group: The ranks that train each network, of which this is rank 0; the others call `follower`.

    Raises:
        UsageError: Where the recipe does not fit the data, the network or the machine.
        DataError: Where data are missing or damaged.
    """
    jobs = 1 if request.jobs == "auto" else request.jobs
    where = _machine(request, jobs, group)
    splits, others = _data(request, group)
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
        group=group,
    )
    check(context)
    if request.recipe.train.precision == "bf16" and not computes_bf16(where.device):
        logging.getLogger("lottery").warning(
            "train.precision: this processor has no instructions for bf16; steps take many times as long as in fp32"
        )
    return share_out(context) if request.jobs == "auto" else context


def follower(request: Request, stop: Stop, store: Store, group: Group) -> RunContext:
    """Load the data on a rank above 0, which is told by rank 0 what is planned and checked.

    Raises:
        DataError: Where data are missing or damaged.
    """
    splits, others = _data(request, group)
    prints = {name: fingerprint(other) for name, other in others.items()}
    return RunContext(
        Plan(request.recipe, fingerprint(splits), {}, prints),
        store,
        _machine(request, 1, group),
        splits,
        others,
        stop=stop,
        group=group,
    )


def _machine(request: Request, jobs: int, group: Group) -> Machine:
    """Return the machine that this process trains on."""
    return machine(
        request.device,
        jobs=jobs,
        deterministic=request.deterministic,
        ranks=group.size,
        ranks_here=group.ranks_here,
        local_rank=group.local_rank if group.size > 1 else None,
    )


def _data(request: Request, group: Group) -> tuple[Splits, dict[str, Splits]]:
    """Load the recipe's data and those that branches name, with one copy for all ranks on a machine.

    Raises:
        DataError: Where they are missing or damaged.
        UsageError: Where the shapes of a data set that a branch names are not those of the recipe's data.
    """
    splits = load_once(request.recipe.data.component, request.data, group, request.recipe.data.label_noise)
    others = {}
    for dataset in other_data(request.recipe):
        others[name_of(dataset)] = other = load_once(dataset, request.data, group)
        here, there = ((s.input_shape, s.train_x.dtype, s.classes, s.train_y.dtype) for s in (splits, other))
        if here != there:
            raise UsageError(
                f"branch dataset {dataset.name}: has examples {there[0]} of {there[2]} classes, the recipe's data "
                f"{here[0]} of {here[2]}; name a data set of the same shapes"
            )
    return splits, others


def prepare(
    request: Request,
    stop: Stop | None = None,
    *,
    store: Store | None = None,
    known: Plan | None = None,
    group: Group = ALONE,
) -> RunContext:
    """Do what `look` does, make sure that the jobs fit on the disk, and note the data in the store.

    Raises:
        UsageError: Where the recipe does not fit the data, the network or the machine.
        DataError: Where data are missing or damaged.
        MachineError: Where the jobs do not fit on the disk.
    """
    context = look(request, stop, store=store, known=known, group=group)
    check_number(context)
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
