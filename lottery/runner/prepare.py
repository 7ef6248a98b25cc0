"""Before a run: the data, the plan, the machine, and whether there is room on the disk."""

from __future__ import annotations

import logging

from lottery import registry
from lottery.data import duplicates
from lottery.data.splits import fingerprint, load
from lottery.device import computes_bf16, machine
from lottery.errors import MachineError
from lottery.plan.jobs import other_data
from lottery.plan.keys import data_identity, digest
from lottery.results.planning import plan_with_walks
from lottery.runner.checks import check
from lottery.runner.context import RunContext
from lottery.runner.estimate import disk_bytes, missing_jobs
from lottery.runner.events import Request
from lottery.runner.parallelism import share_out
from lottery.signals import Stop
from lottery.store.store import Store
from lottery.values import Component


def look(request: Request, stop: Stop | None = None) -> RunContext:
    """Load the data and make the plan; nothing is written. Raises UsageError and DataError."""
    jobs = 1 if request.jobs == "auto" else request.jobs
    where = machine(request.device, jobs=jobs, deterministic=request.deterministic)
    splits = load(request.recipe.data.component, request.data)
    others = {_name(dataset): load(dataset, request.data) for dataset in other_data(request.recipe)}
    store = Store(request.store)
    context = RunContext(
        plan_with_walks(
            request.recipe, fingerprint(splits), {name: fingerprint(other) for name, other in others.items()}, store
        ),
        store,
        where,
        splits,
        request.checkpoint_seconds,
        jobs,
        stop or Stop(),
        load=lambda dataset: others[_name(dataset)],
    )
    check(context)
    if request.recipe.train.precision == "bf16" and not computes_bf16(where.device):
        logging.getLogger("lottery").warning(
            "train.precision: this processor has no instructions for bf16; steps take many times as long as in fp32"
        )
    if request.jobs == "auto":
        share_out(context)
    return context


def _name(dataset: Component) -> str:
    return digest(registry.datasets.identity(dataset))


def prepare(request: Request, stop: Stop | None = None) -> RunContext:
    """As `look`, and make sure that the jobs fit on the disk. Raises MachineError as well."""
    context = look(request, stop)
    check_disk(context)
    context.store.remember_data(digest(data_identity(request.recipe.data)), context.plan.fingerprint)
    for identity, seen in context.plan.others.items():
        context.store.remember_data(identity, seen)
    duplicates.look(context.store, context.plan.fingerprint, context.splits)
    for dataset in other_data(request.recipe):
        assert context.load is not None
        duplicates.look(context.store, context.plan.others[_name(dataset)], context.load(dataset))
    return context


def check_disk(context: RunContext) -> None:
    need, free = disk_bytes(context, missing_jobs(context)), context.store.free_bytes()
    if need > free:
        raise MachineError(
            f"{context.store.root}: the missing jobs need {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
            "make room or name another place with --store"
        )
