"""Seconds of a training step that are known without a step: from finished jobs of other recipes, and kept timings.

A step takes about as long in all trainings of one network on data of one kind, with one optimizer, batch size, engine,
processor, number of threads, and version of this package and torch. Timings are kept in `$LOTTERY_CACHE/steps`, and
hold for a week: other work on the machine may have slowed them, so that an estimate may be off, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from lottery.errors import LotteryError
from lottery.files import for_a_week
from lottery.paths import cache_root
from lottery.plan.keys import digest, digest_of_json, training_identity
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE, Kind

if TYPE_CHECKING:
    from pathlib import Path

    from lottery.device import Machine
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext
    from lottery.store.manifest import Manifest
    from lottery.store.store import Store

DEPENDS = (
    *("data", "validation", "limit", "model", "batch_size", "augment", "precision", "clip", "accumulate"),
    *("evaluate_every", "metrics", "embeddings", "batch_norm"),  # a finished training was also evaluated
)
UNREADABLE = (LotteryError, KeyError, TypeError, AttributeError, ValueError)  # what raises them tells nothing
OF_MACHINE = ("lottery", "device", "threads", "torch", "deterministic", "ranks", "variables")


class OtherJobs:
    """The seconds of a step of the finished dense networks of a store, of any recipe, evaluations included.

    They ran on a machine like this one, each by itself. The store is read once for all that are asked for, and no
    further than to the first that is like the job.

    Args:
        store: The store.
        machine: This machine.
    """

    def __init__(self, store: Store, machine: Machine):
        self._store, self._here = store, machine.environment()
        self._read: dict[str, list[Manifest]] = {}  # by the digest of what the time of a step depends on
        self._unread = self._dense()

    def seconds(self, context: RunContext, job: Job) -> float | None:
        """Return the seconds of a step of one that was trained as the dense network `job` is to be; None for none."""
        like = digest(_like(context, job))
        for manifest in self._like(like):
            with suppress(*UNREADABLE):
                steps = int(self._store.read_json(manifest.key, METRICS_FILE)["end"]["step"])
                return manifest.seconds / steps if steps else None
        return None

    def _like(self, like: str) -> Iterator[Manifest]:
        """Yield those of this digest, in the order of keys."""
        yield from self._read.get(like, ())
        for found, manifest in self._unread:
            self._read.setdefault(found, []).append(manifest)
            if found == like:
                yield manifest

    def _dense(self) -> Iterator[tuple[str, Manifest]]:
        """Yield all of them, each with its digest."""
        for manifest in self._store.manifests():
            if manifest.kind != Kind.DENSE or manifest.status != "done" or manifest.in_lockstep:
                continue
            if any(manifest.environment.get(name) != self._here[name] for name in OF_MACHINE):
                continue
            with suppress(*UNREADABLE):
                training = self._store.read_json(manifest.key, IDENTITY_FILE)["training"]
                yield digest_of_json(_depends(training)), manifest


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
