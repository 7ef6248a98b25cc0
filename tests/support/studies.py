"""Plans and records made up by tests, and their tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lottery.analysis.rows import Row
from lottery.analysis.views import rows_of
from lottery.files.tensors import encode
from lottery.plan.expand import plan
from lottery.plan.jobs import Job, Plan
from lottery.plan.kinds import CORRECT_FILE
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import CHOSEN
from lottery.results.record import Record
from lottery.results.study import Study
from lottery.store.manifest import FileRecord, Manifest, Status
from lottery.store.store import Store
from tests.support.micro import micro_text

TEXT = micro_text(
    "name=hand",
    "data.validation=100",
    "model.widths=[8]",
    "train={optimizer: {name: adam, lr: 1e-3}, batch_size: 10, length: 100it, evaluate_every: 10it}",
    "prune.levels=1",
    "seeds=2",
)
HERE = {"torch": "2.11.0", "device": "cpu", "threads": 1, "deterministic": True, "lottery": "0.1.0"}


def hand(*overrides: str) -> Plan:
    return plan(parse_recipe(TEXT, "hand.yaml", overrides), "f" * 64)


def record(
    job: Job,
    accuracy: float = 0.5,
    *,
    end: float = 0.25,
    step: int = 30,
    censored: bool = False,
    diverged: int | None = None,
    collapsed: tuple[str, ...] = (),
    environment: dict[str, Any] = HERE,
) -> Record:
    """A finished training: `accuracy` on the test set at both chosen steps, `end` at step 100, on a curve of 10 rows
    that agrees with them."""
    metrics: dict[str, Any] = {"density": 0.5**job.level, "collapsed": list(collapsed), "curve": []}
    if diverged is not None:
        metrics["diverged"] = diverged
    else:
        first = job.rewind.to.value if job.level and job.rewind else 0
        for at in sorted({first, *range(first - first % 10 + 10, 101, 10)}):
            row = {"step": at, "train_loss": 0.1, "validation_loss": 0.3, "validation_accuracy": 0.75}
            best = {"validation_loss": 0.2, "validation_accuracy": 0.8} if at == step else {}
            metrics["curve"].append(row | best)
        common = {"train_loss": 0.1, "validation_loss": 0.2, "validation_accuracy": 0.8, "test_loss": 0.3}
        for reading in CHOSEN:
            metrics[reading] = {**common, "step": step, "test_accuracy": accuracy, "censored": censored}
        last = accuracy if step == 100 else end
        metrics["end"] = {**metrics["curve"][-1], "test_loss": 0.3, "test_accuracy": last}
    status: Status = "done" if diverged is None else "diverged"
    manifest = Manifest(1, job.key, job.kind, status, job.parent, job.label, {}, 1.0, environment, "2026-01-01")
    return Record(job, manifest, metrics)


def is_of(job: Job, place: dict[str, Any]) -> bool:
    own = {"kind": job.branch.label if job.branch else job.kind, "seed": job.seed, "level": job.level}
    own |= {"sample": job.sample, "optimizer": job.optimizer_index}
    return all(own[name] == value for name, value in place.items())


def made(planned: Plan, *trainings: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Record]:
    """Records by key: for each (place, what) the jobs there, which must exist."""
    found: dict[str, Record] = {}
    for place, what in trainings:
        jobs = [job for job in planned if job.kind != "rewind" and is_of(job, place)]
        assert jobs, place
        found |= {job.key: record(job, **what) for job in jobs}
    return found


def everything(planned: Plan, **what: Any) -> dict[str, Record]:
    return made(planned, ({}, what))


def dense(seed: int, accuracy: float, **what: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"kind": "dense", "seed": seed}, {"accuracy": accuracy, **what}


def ticket(seed: int, accuracy: float, **what: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"kind": "ticket", "seed": seed}, {"accuracy": accuracy, **what}


class Recorded(Store):
    """A store that knows of each job of a plan what its key is a hash of, and nothing else."""

    def __init__(self, plan: Plan):
        super().__init__(Path("no-store"))
        self.plan = plan

    def read_json(self, key: str, name: str) -> Any:
        if name == "job.json" and key in self.plan.jobs:
            return self.plan.jobs[key].identity
        return super().read_json(key, name)


class Sized(Recorded):
    """A store whose trainings say how many test examples there are; `saying` makes records that have said it."""

    def __init__(self, plan: Plan, examples: int):
        super().__init__(plan)
        self.examples = examples

    def read(self, key: str, name: str) -> bytes:
        bits = torch.zeros(-(-self.examples // 8), dtype=torch.uint8)
        return encode({"end": bits}, {"examples": str(self.examples)})


def saying(found: Mapping[str, Record]) -> dict[str, Record]:
    """The records with a file that says which test examples were recognized."""
    files = {CORRECT_FILE: FileRecord(1, "")}
    return {key: replace(each, manifest=replace(each.manifest, files=files)) for key, each in found.items()}


def view_of(view: str, plan: Plan, found: Mapping[str, Record], store: Store | None = None) -> list[Row]:
    """The rows of a view; the store is there for views that read more than records."""
    return rows_of(Study(plan, found, store or Recorded(plan)), view)
