"""The trainings of a study that are missing, diverged or blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.analysis.cells import column_of
from lottery.analysis.columns import KEY, LEVEL, SEED, Column
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values
from lottery.plan.kinds import Kind

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.record import Record
    from lottery.results.study import Study


def lacking(study: Study) -> list[Row]:
    """Return a row for each training that is missing, diverged, or blocked because one that it needs diverged.

    Columns: `state`, the `step` at which its loss was seen not to be finite, its place in the study, and its `key`.
    """
    labels = optimizer_labels(study.recipe.train.optimizer)
    rows: list[Row] = []
    for job in study.plan:
        record = study.found.get(job.key)
        if not job.kind.measured or (record is not None and record.diverged is None):
            continue
        values: Values = {
            "state": _state(study, job, record),
            Column("step", "ordinal"): None if record is None else record.diverged,
            "optimizer": labels[job.optimizer_index],
            "rewind": rewind_label(job.rewind) if job.rewind else None,
            SEED: job.seed,
            LEVEL: job.level,
            "kind": column_of(job),
            "retrained_with": None if job.transfer is None else labels[job.transfer],
            "sample": job.sample if job.kind is Kind.BRANCH else None,
            KEY: job.key,
        }
        rows.append(Row(values, [] if record is None else [job.key]))
    return rows


def _state(study: Study, job: Job, record: Record | None) -> str:
    return "diverged" if record is not None else "blocked" if job.key in study.blocked else "missing"
