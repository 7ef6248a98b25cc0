"""Seconds of a training step that are known without a step: from finished jobs of other recipes, and kept timings.

A step takes about as long in all trainings of one network on data of one kind, with one optimizer, batch size, engine,
processor, number of threads, and version of this package and torch. Timings are kept in `$LOTTERY_CACHE/steps`, and
hold for a week: other work on the machine may have slowed them, so that an estimate may be off, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lottery.errors import LotteryError
from lottery.files import for_a_week
from lottery.paths import cache_root
from lottery.plan.keys import digest, training_identity
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext

DEPENDS = (
    *("data", "validation", "limit", "model", "batch_size", "augment", "precision", "clip", "accumulate"),
    *("evaluate_every", "metrics", "embeddings", "batch_norm"),  # a finished training was also evaluated
)
OF_MACHINE = ("lottery", "device", "threads", "torch", "deterministic", "ranks", "variables")


def of_other_jobs(context: RunContext, job: Job) -> float | None:
    """Return the seconds of a step of a finished dense network of any recipe of the store, evaluations included.

    It was trained on a machine like this one, by itself, and as the dense network `job` is to be.
    """
    like, here = _like(context, job), context.machine.environment()
    for manifest in context.store.manifests():
        if manifest.kind != Kind.DENSE or manifest.status != "done" or manifest.in_lockstep:
            continue
        if any(manifest.environment.get(name) != here[name] for name in OF_MACHINE):
            continue
        with suppress(LotteryError, KeyError, TypeError, AttributeError):  # what cannot be read tells nothing
            training = context.store.read_json(manifest.key, IDENTITY_FILE)["training"]
            if _depends(training) == like:
                steps = int(context.store.read_json(manifest.key, METRICS_FILE)["end"]["step"])
                return manifest.seconds / steps if steps else None
    return None


def recall(context: RunContext, job: Job) -> float | None:
    """Return the seconds of a step that `keep` was told in the last week; None where there are none."""
    with suppress(TypeError, KeyError, ValueError):
        found = for_a_week.recall(_path(context, job)) or {}
        if float(found["seconds"]) > 0:
            return float(found["seconds"])
    return None


def keep(context: RunContext, job: Job, seconds: float) -> None:
    """Keep the seconds of a step of a dense network; a disk that refuses does without."""
    for_a_week.keep(_path(context, job), {"seconds": seconds})


def _path(context: RunContext, job: Job) -> Path:
    here = context.machine.environment()
    about = {"training": _like(context, job), "engine": context.plan.recipe.train.engine}
    about |= {name: here[name] for name in OF_MACHINE}
    return cache_root() / "steps" / f"{digest(about)}.json"


def _like(context: RunContext, job: Job) -> dict[str, Any]:
    """Return what the time of a step of a dense network depends on, by its identity."""
    plan = context.plan
    return _depends(json.loads(json.dumps(training_identity(plan.recipe, plan.fingerprint, job.seed, job.optimizer))))


def _depends(training: Mapping[str, Any]) -> dict[str, Any]:
    optimizer = {name: value for name, value in training["optimizer"].items() if name != "lr"}
    return {"optimizer": optimizer, **{name: training[name] for name in DEPENDS if name in training}}
