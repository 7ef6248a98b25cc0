"""Learning curves as rows: each evaluation of each training, which the figure of the curves is drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import column_of
from lottery.analysis.columns import DENSITY, KEY, LEVEL, SEED, Column
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values
from lottery.errors import DataError
from lottery.plan.kinds import Kind
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.results.study import Study

SPLITS = ("train", "validation")
STEP = Column("step", "ordinal")  # a step itself, not a mean of several


def rows(study: Study) -> list[Row]:
    """Return a row for each finished training, step at which it was evaluated, and split of the data.

    The training split has the mean loss of the batches since the evaluation before, in training mode, and no accuracy;
    the validation split has loss and accuracy (r2 in its place for regression) and the recipe's `metrics`, where the
    recipe has that split. The test set is read at the readings only, and stands in the view `long`.

    Steps count from the initialization of the network, so that a ticket that is rewound to step k begins there. `epoch`
    is the step over the steps of one pass over the data that this training has; None where the data are not there,
    which alone know it. A training that diverged has the rows up to there.
    """
    steps, table = _StepsPerEpoch(study), []
    for row in evaluations(study):
        (key,) = row.made_from
        whole = steps.of(key)
        table.append(Row(row | {"epoch": None if whole is None else row[STEP] / whole}, row.made_from))
    return table


@once
def evaluations(study: Study) -> list[Row]:
    """Return the rows of `rows` with every `epoch` None, for which no data are read."""
    recipe, labels = study.recipe, optimizer_labels(study.recipe.train.optimizer)
    score = "r2" if any("test_r2" in (record.at("end") or {}) for record in study.found.values()) else "accuracy"
    table: list[Row] = []
    for job in study.plan:
        record = study.found.get(job.key)
        if record is None:
            continue
        about: Values = {
            "optimizer": labels[job.optimizer_index],
            "rewind": rewind_label(job.rewind) if job.rewind else None,
            SEED: job.seed,
            LEVEL: job.level,
            DENSITY: record.density,
            "kind": column_of(job),
            "retrained_with": labels[job.transfer] if job.transfer is not None else None,
            "sample": job.sample if job.kind is Kind.BRANCH else None,
        }
        for measured in record.metrics.get("curve", ()):
            at = about | {STEP: measured["step"], "epoch": None}
            for split in SPLITS if recipe.data.validation else SPLITS[:1]:
                values = at | _values(measured, split, score, recipe.metrics) | {KEY: job.key}
                table.append(Row(values, [job.key]))
    return table


def _values(measured: Mapping[str, Any], split: str, score: str, metrics: Sequence[str]) -> Values:
    values: Values = {"split": split, "loss": measured.get(f"{split}_loss")}
    values |= {Column(name, "fraction"): measured.get(f"{split}_{name}") for name in (score, *metrics)}
    return values


class _StepsPerEpoch:
    """Batches in one pass over the data of a training, by its key; the data are read once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.known: dict[str, int | None] = {}
        self.there = True

    def of(self, key: str) -> int | None:
        """Return the number of steps; None where the data are not there."""
        from lottery.runner.finished_study import context_of
        from lottery.runner.timelines import planned_timeline

        if key not in self.known:
            try:
                job = self.study.plan.jobs[key]
                self.known[key] = planned_timeline(context_of(self.study), job).steps_per_epoch if self.there else None
            except DataError:
                self.there, self.known[key] = False, None
        return self.known[key]
