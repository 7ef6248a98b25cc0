"""The number of processes for `--jobs auto`: as many as this machine can feed and as can shorten the run."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lottery.device import cores, gpus, machine, prepared
from lottery.plan.agenda import width
from lottery.plan.kinds import Kind
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.runner.estimate import dense_training, missing_jobs, steps_of

if TYPE_CHECKING:
    from lottery.data.loader import Data
    from lottery.runner.context import RunContext

MEMORY_SHARE = 0.8  # of what is free: a training may need more than what is tried of it
TRIED_STEPS = 2


def share_out(contexts: Sequence[RunContext], on_gpus: int | None = None) -> list[RunContext]:
    """Return the contexts with the number of processes and the threads of each.

    Threads follow from the whole plan and not from what is missing of it: a run that is continued computes as it did
    before. There is a process for each core that has work, or for each GPU; threads where the plan is narrower than the
    machine, as it is not where results may ask for more.

    Args:
        contexts: The contexts of a run.
        on_gpus: Number of GPUs that its processes are given out over; None for those that this process sees.
    """
    where, most = contexts[0].machine, cores()
    if where.device.type != "cpu":
        most = len(gpus()) if on_gpus is None else on_gpus
        if most <= 1 or where.device.index is not None:  # all have the one that the run names
            return list(contexts)
    grows = any(context.plan.recipe.grows for context in contexts)
    steps = {key: number for context in contexts for key, number in steps_of(context).items()}
    needs = {key: above for context in contexts for key, above in context.plan.needs.items()}
    if not where.deterministic:
        where = machine(where.device.type, jobs=most if grows else min(most, width(needs, steps)))
    if where.device.type == "cpu":
        most //= where.threads
    missing = {job.key: job.needs for context in contexts for job in missing_jobs(context)}
    jobs = most if grows else max(1, min(most, width(missing, steps)))
    return share_among([replace(context, machine=where) for context in contexts], jobs)


def share_among(contexts: Sequence[RunContext], jobs: int) -> list[RunContext]:
    """Return the contexts for so many processes; those that decode images are shared out anew."""
    lying: dict[int, dict[str, Data]] = {}  # points may share what lies on the device
    return [replace(each, jobs=jobs, on_device=lying.setdefault(id(each.on_device), {})) for each in contexts]


def fit_memory(contexts: Sequence[RunContext]) -> list[RunContext]:
    """Return the contexts with as many processes as fit into the free memory, as one that is forked here needs it."""
    free, jobs = free_memory(), contexts[0].jobs
    if jobs == 1 or free is None or not (need := max(_need(context) for context in contexts)):
        return list(contexts)
    fitting = max(1, min(jobs, int(MEMORY_SHARE * free / need)))
    return list(contexts) if fitting == jobs else share_among(contexts, fitting)


def free_memory(meminfo: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that processes may still take, of this machine or of its container.

    Args:
        meminfo: The system's file of that name.
        group: Folder of the container's limits.

    Returns:
        The number of bytes; None where the system does not say.
    """
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    free = next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    with suppress(OSError, ValueError):  # no container, another kind, or one without a limit
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cache = next(
            int(line.split()[1])
            for line in (group / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
        free = min(limit - used + cache, free) if free is not None else limit - used + cache
    return free


def _need(context: RunContext) -> int:
    """Return the bytes that a forked process takes for itself at most.

    They are those of one that trains a little with each optimizer; 0 where that fails.
    """
    gc.collect()  # what is freed in the fork would count as its own
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):  # it tells by its silence
            _try(context)
            os.write(writing, json.dumps(_own_memory()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:
        answer = told.read()
    os.waitpid(child, 0)
    return int(answer or 0)


def _try(context: RunContext) -> None:
    """Train as many networks as are trained at a time a little with each optimizer, and evaluate a batch."""
    together = 1 if context.cohort is None else context.cohort.size
    held = []
    with prepared(context.machine, context.plan.recipe.train.precision):
        for place in together * sorted({job.optimizer_index for job in context.plan if job.kind is Kind.DENSE}):
            held.append(training := dense_training(context, place))
            with masked(training.model, Mask({}), training.optimizer):
                for x, y in islice(training.data.epoch(0, training.timeline.batch_size), TRIED_STEPS):
                    training.engine.step(x, y)
            with torch.no_grad():
                training.model(next(training.data.evaluation("test"))[0])


def _own_memory() -> int:
    """Return the bytes that only this process has, and those that it gave back since its peak."""
    sizes = {}
    for path in ("/proc/self/smaps_rollup", "/proc/self/status"):
        for line in Path(path).read_text().splitlines():
            name, _, value = line.partition(":")
            if value.endswith("kB"):
                sizes[name] = 1024 * int(value.split()[0])
    return sizes["Private_Dirty"] + sizes["VmHWM"] - sizes["VmRSS"]
