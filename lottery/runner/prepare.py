"""The steps before a run: data loaded, plan made and checked, machine chosen, room on the disk looked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lottery.data import duplicates
from lottery.data.loader import Data
from lottery.data.shared import load_once
from lottery.data.splits import Splits, fingerprint
from lottery.device import Machine, computes_bf16, machine
from lottery.distributed.group import ALONE, Group
from lottery.engines.choices import Choices
from lottery.engines.cohort import Cohort
from lottery.errors import DataError, MachineError, RecipeError, UsageError
from lottery.paths import cache_root
from lottery.plan.expand import other_data
from lottery.plan.jobs import Plan
from lottery.plan.keys import data_identity, dataset_identity, digest, name_of
from lottery.recipe.schema import Recipe
from lottery.results.planning import plan_with_walks
from lottery.runner.checks import check
from lottery.runner.context import RunContext
from lottery.runner.estimate import disk_bytes, missing_jobs
from lottery.runner.events import Request
from lottery.runner.parallelism import share_out
from lottery.runner.rank_checks import check_number
from lottery.signals import Stop
from lottery.store.maintenance import known_failures
from lottery.store.store import Store
from lottery.values import Component, LabelNoise


class Loaded:
    """The data of several recipes, each read once, and put on the device once for all that split them alike."""

    def __init__(self) -> None:
        self._splits: dict[str, Splits] = {}
        self._on_device: dict[str, dict[str, Data]] = {}

    def splits(self, dataset: Component, root: Path, group: Group, noise: LabelNoise | None = None) -> Splits:
        """Return a data set, on all ranks with one copy of it in the memory of a machine.

        Raises:
            DataError: It is missing or damaged.
        """
        name = digest(dataset_identity(dataset, noise))
        if name not in self._splits:
            read = load_once(dataset, root, group, noise)
            self._splits[name] = replace(read, known=fingerprint(read))
        return self._splits[name]

    def on_device(self, recipe: Recipe) -> dict[str, Data]:
        """Return where the data of a recipe are kept on the device."""
        return self._on_device.setdefault(json.dumps(recipe.canonical()["data"], sort_keys=True), {})


def look(
    request: Request,
    stop: Stop | None = None,
    *,
    store: Store | None = None,
    known: Plan | None = None,
    group: Group = ALONE,
    loaded: Loaded | None = None,
) -> RunContext:
    """Load the data, make the plan and check it; nothing is written.

    Args:
        request: What is to be run, and where.
        stop: Where a signal is noted.
        store: The store of the request, where it is open already: what was verified in it is not verified again.
        known: A plan of the same recipe, used if it was made for the data that are found now.
        group: The ranks that train each network, of which this is rank 0; the others call `follower`.
        loaded: The data of other recipes, which this one may have too.

    Raises:
        UsageError: Where the recipe does not fit the data, the network or the machine.
        DataError: Where data are missing or damaged.
    """
    context = _looked(request, stop or Stop(), store or Store(request.store), known, group, loaded or Loaded())
    return share_out([context])[0] if request.jobs == "auto" else context


def _looked(request: Request, stop: Stop, store: Store, known: Plan | None, group: Group, loaded: Loaded) -> RunContext:
    jobs = 1 if request.jobs == "auto" else request.jobs
    where = _machine(request, jobs, group)
    splits, others = _data(request, group, loaded)
    seen = fingerprint(splits), {name: fingerprint(other) for name, other in others.items()}
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
        stop,
        group=group,
        on_device=loaded.on_device(request.recipe),
        point=request.point,
        choices=Choices(folder=cache_root() / "engines" / digest([where.environment(), known.fingerprint])),
        cohort=_cohort(request, where, group),
    )
    check(context)
    if request.recipe.train.precision == "bf16" and not computes_bf16(where.device):
        logging.getLogger("lottery").warning(
            "train.precision: this processor has no instructions for bf16; steps take many times as long as in fp32"
        )
    return context


def _cohort(request: Request, where: Machine, group: Group) -> Cohort | None:
    """Return what trains the jobs of this process in lockstep; None where each is trained by itself.

    Raises:
        UsageError: They cannot be, on several ranks, or where results must not depend on what else is trained.
    """
    if request.lockstep == 1:
        return None
    if group.size > 1:
        raise UsageError(f"--lockstep {request.lockstep}: trains in one process; leave out --ranks")
    if request.deterministic:
        raise UsageError(
            f"--lockstep {request.lockstep}: a training's last bits depend on how many others are trained with it; "
            "leave out --deterministic"
        )
    return Cohort(where.device, request.lockstep)


def follower(request: Request, stop: Stop, store: Store, group: Group, loaded: Loaded | None = None) -> RunContext:
    """Load the data on a rank above 0, which is told by rank 0 what is planned and checked.

    Raises:
        DataError: Where data are missing or damaged.
    """
    splits, others = _data(request, group, loaded or Loaded())
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


def _data(request: Request, group: Group, loaded: Loaded) -> tuple[Splits, dict[str, Splits]]:
    """Load the recipe's data and those that branches name, with one copy for all ranks on a machine.

    Raises:
        DataError: Where they are missing or damaged.
        UsageError: Where the shapes of a data set that a branch names are not those of the recipe's data.
    """
    data = request.recipe.data
    splits = loaded.splits(data.component, request.data, group, data.label_noise)
    others = {}
    for dataset in other_data(request.recipe):
        others[name_of(dataset)] = other = loaded.splits(dataset, request.data, group)
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
    return prepare_all([request], stop, store=store, known=[known], group=group)[0]


def prepare_all(
    requests: Sequence[Request],
    stop: Stop | None = None,
    *,
    store: Store | None = None,
    known: Sequence[Plan | None] = (),
    group: Group = ALONE,
    on_gpus: int | None = None,
) -> list[RunContext]:
    """Do what `prepare` does for the points of a sweep, which are to be run in one place: all of them, or none.

    For `jobs: auto` its processes are given out over `on_gpus` GPUs; over those that this one sees where that is None.

    Raises:
        UsageError: Where recipes do not fit their data, the network or the machine: with a line for each.
        DataError: Where data are missing or damaged.
        MachineError: Where the jobs do not fit on the disk.
    """
    contexts = look_at_all(requests, stop, store=store, known=known, group=group, to_run=True, on_gpus=on_gpus)
    check_disk(*contexts)
    for context in contexts:
        _remember(context)
    failures = known_failures(contexts[0].store)
    return [replace(context, failures=failures) for context in contexts]


@contextmanager
def _each_warning_once() -> Iterator[None]:
    """Leave out warnings that were given in the `with` block already: points are alike in most things."""
    logger, given = logging.getLogger("lottery"), set[str]()

    def new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        repeated = message in given
        given.add(message)
        return not repeated

    logger.addFilter(new)
    try:
        yield
    finally:
        logger.removeFilter(new)


def look_at_all(
    requests: Sequence[Request],
    stop: Stop | None = None,
    *,
    store: Store | None = None,
    known: Sequence[Plan | None] = (),
    group: Group = ALONE,
    to_run: bool = False,
    on_gpus: int | None = None,
) -> list[RunContext]:
    """Do what `look` does for the points of a sweep; with `to_run` the number of ranks is checked too.

    `on_gpus` is as in `prepare_all`.

    Raises:
        UsageError: Where recipes do not fit their data, the network or the machine: with a line for each.
        DataError: Where data are missing or damaged.
    """
    stop, store, loaded = stop or Stop(), store or Store(requests[0].store), Loaded()
    contexts, problems = list[RunContext](), list[str]()
    with _each_warning_once():
        for request, plan in zip(requests, known or [None] * len(requests), strict=True):
            try:
                context = _looked(request, stop, store, plan, group, loaded)
                if to_run:
                    check_number(context)
                contexts.append(context)
            except UsageError as error:
                if isinstance(error, DataError) or not request.point:
                    raise
                problems.append(f"{request.recipe.name}: {request.point}: {error}")
    if problems:
        raise RecipeError(problems)
    if requests[0].jobs == "auto":
        contexts = share_out(contexts, on_gpus)
    return contexts


def _remember(context: RunContext) -> None:
    """Note the data of a run in the store."""
    context.store.remember_data(digest(data_identity(context.plan.recipe.data)), context.plan.fingerprint)
    for identity, seen in context.plan.others.items():
        context.store.remember_data(identity, seen)
    duplicates.look(context.store, context.plan.fingerprint, context.splits)
    for name, other in context.others.items():
        duplicates.look(context.store, context.plan.others[name], other)


def check_disk(*contexts: RunContext) -> None:
    """Check that the missing jobs fit on the disk; those that several points share are counted once.

    Raises:
        MachineError: Where they do not.
    """
    need, store, counted = 0, contexts[0].store, set[str]()
    for context in contexts:
        missing = [job for job in missing_jobs(context) if job.key not in counted]
        counted.update(job.key for job in missing)
        need += disk_bytes(context, missing)
    free = store.free_bytes()
    if free is not None and need > free:
        raise MachineError(
            f"{store.name}: the missing jobs need {need / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; "
            "make room or name another place with --store"
        )
