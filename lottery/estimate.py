"""What a plan will take: time, from finished jobs or a few timed steps, and disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import chain, count, islice
from typing import TYPE_CHECKING

from lottery.build import prunable
from lottery.device import prepared
from lottery.job import training_of
from lottery.mask import Mask, masked

if TYPE_CHECKING:
    from lottery.job import Bench
    from lottery.plan import Job

FIXED_BYTES = 16_384  # a job's folder, manifest and description
CURVE_ROW_BYTES = 180
STATE_COPIES = 4  # a checkpoint: weights, the best weights, two moments
TIMED_STEPS = 12


@dataclass(frozen=True)
class Estimate:
    """Of a plan: jobs done and missing, seconds for the missing ones in one process, bytes they will take."""

    done: int
    missing: int
    seconds: float
    measured: bool  # from finished jobs; else from a few steps timed just now
    need_bytes: int
    free_bytes: int


def estimate(bench: Bench) -> Estimate:
    """What is left to do and what it takes. Times a few training steps where no finished job tells."""
    missing = missing_jobs(bench)
    measured = _measured(bench)
    per_step = measured if measured is not None else (_timed(bench) if missing else 0.0)
    return Estimate(
        done=len(bench.plan) - len(missing),
        missing=len(missing),
        seconds=per_step * sum(_steps(bench, job) for job in missing),
        measured=measured is not None,
        need_bytes=disk_bytes(bench, missing),
        free_bytes=bench.store.free_bytes(),
    )


def missing_jobs(bench: Bench) -> list[Job]:
    return [job for job in bench.plan if bench.store.find(job.key) is None]


def disk_bytes(bench: Bench, missing: list[Job]) -> int:
    """Bytes that the missing jobs of the plan will take, checkpoints included."""
    if not missing:
        return 0
    network = bench.network(bench.plan.recipe.seeds[0])
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    masks = sum(parameter.numel() for parameter in prunable(network).values()) // 8
    train, seed = bench.plan.recipe.train, bench.plan.recipe.seeds[0]
    rows = bench.steps(train.length, seed) // bench.steps(train.evaluate_every, seed) + 2
    fixed = FIXED_BYTES + rows * CURVE_ROW_BYTES
    sizes = {"rewind": STATE_COPIES * weights, "dense": weights, "ticket": weights + masks, "branch": 0}
    total: int = sum(fixed + sizes[job.kind] for job in missing) + 3 * STATE_COPIES * weights * bench.jobs
    return total


def _steps(bench: Bench, job: Job) -> int:
    """Steps that the job trains itself."""
    total = bench.steps(bench.plan.recipe.train.length, job.seed)
    to = bench.steps(job.rewind.to, job.seed) if job.rewind else 0
    if job.kind == "rewind":
        return to
    if job.kind == "dense":
        return total - max(bench.steps(rewind.to, job.seed) for rewind in bench.plan.recipe.rewind)
    return total - to


def _measured(bench: Bench) -> float | None:
    """Seconds a step over the plan's finished trainings, evaluation and commits included."""
    found = [(job, bench.store.find(job.key)) for job in bench.plan if job.kind != "rewind"]
    done = [(manifest.seconds, _steps(bench, job)) for job, manifest in found if manifest and manifest.status == "done"]
    steps = sum(each for _, each in done)
    return sum(seconds for seconds, _ in done) / steps if steps else None


def _timed(bench: Bench) -> float:
    """Seconds a step of the dense network's training, from a few steps run now and thrown away."""
    job = next(job for job in bench.plan if job.kind == "dense")
    with prepared(bench.machine, bench.plan.recipe.train.precision):
        training = training_of(bench, job)
        with masked(training.model, Mask({}), training.optimizer):
            passes = (bench.data(job.seed).epoch(epoch, training.batch_size) for epoch in count())
            batches = chain.from_iterable(passes)
            for x, y in islice(batches, 2):
                training.run_step(x, y)
            began = time.perf_counter()
            for x, y in islice(batches, TIMED_STEPS):
                training.run_step(x, y).item()
    return (time.perf_counter() - began) / TIMED_STEPS
