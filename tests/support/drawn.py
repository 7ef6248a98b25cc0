"""A study with analyses of every kind of picture, and what its jobs stored, read from their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lottery.analysis import measurements
from lottery.analysis.measurements import Measured
from lottery.plan.jobs import Job
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.results.measured_values import read_value
from lottery.results.study import Study, study_of
from tests.support.analyses import asking
from tests.support.micro import finished, micro, prepared

RECIPE = (
    "name=seen",
    "model={name: lenet, widths: [8, 6], norm: batch}",
    "data.limit=150",
    "prune.levels=1",
    "seeds=3",
    "branches=[reinit]",
    asking(
        "{name: barrier, points: 5}",
        "{name: slice, of: [dense, ticket, reinit], points: 5, examples: 64}",
        "{name: surface, of: dense, points: 4, examples: 64, bn: both}",
        "{name: plane, points: 4, examples: 64}",
        "{name: trajectory, of: dense, along: 3, points: 4, examples: 64}",
        "{name: hessian, of: dense, examples: 64, eigenvalues: 3, steps: 6, probes: 2, density: true,"
        " density_probes: 2}",
        "{name: sharpness, of: [dense, ticket, reinit], examples: 64, steps: 1, draws: 1}",
        "{name: signals, of: dense, along: 2, examples: 64, jacobian: 0}",
        "{name: plateaus, of: dense, along: 3, steps: 4, examples: 64}",
        "{name: smoothness, of: dense, along: 2, points: 3, examples: 64}",
        "{name: descent, of: dense, along: 3, examples: 64}",
        "{name: errors, of: [dense, ticket, reinit], examples: 64}",
        "{name: gap, between: dense-ticket}",
        "{name: walk, of: dense, along: 2}",
        "{name: broken, of: dense}",
    ),
)


def seen(folder: Path) -> Study:
    """Run the recipe, which needs the analyses of `tests.support.analyses`, and return its study."""
    context = finished(prepared(micro(*RECIPE), folder))
    return study_of(context.plan, context.store)


def jobs_of(study: Study, label: str, networks: str | None = None, seed: int | None = None) -> list[Job]:
    """Return the jobs of an analysis."""
    return [
        job
        for job in study.plan
        if job.kind is Kind.ANALYSIS
        and job.analysis is not None
        and job.analysis.label == label
        and networks in (None, measurements.networks_of(job))
        and seed in (None, job.seed)
    ]


def stored(study: Study, job: Job) -> list[dict[str, Any]]:
    """Return the profile of a job as its file has it."""
    about = json.loads(study.store.read(job.key, MEASUREMENT_FILE))
    return [{name: read_value(value) for name, value in row.items()} for row in about["profile"]]


def changed(study: Study, label: str, change: Callable[[Job, dict[str, Any]], dict[str, Any]]) -> Study:
    """Return the study with each row of an analysis' profiles changed; `values` are given as a row that is one."""
    other = Study(study.plan, study.found, study.store)
    known = dict(measurements.measured(study))
    for key, each in known.items():
        if each.job.analysis is not None and each.job.analysis.label == label:
            rows = [change(each.job, dict(row)) for row in each.profile]
            known[key] = Measured(each.job, change(each.job, dict(each.values)), rows, each.states)
    other.made[measurements.measured.__wrapped__] = known  # type: ignore[attr-defined]
    return other


__all__ = ["changed", "jobs_of", "seen", "stored"]
