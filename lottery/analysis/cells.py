"""The values of a study by cell and seed, and their differences within a seed: what every comparison starts from."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.analysis import columns
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.errors import UsageError
from lottery.recipe.families import acting
from lottery.results.resolution import floor_of
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.analysis.rows import Values
    from lottery.plan.jobs import Job
    from lottery.recipe.schema import CompareSpec, Recipe
    from lottery.results.record import Record
    from lottery.results.study import Study

SCORE = "test_accuracy"
CellKey = tuple[int, str, int]  # index of the optimizer in the recipe, rewind point, level
Cells = dict[CellKey, dict[str, dict[int, float]]]  # cell -> column -> seed -> value


def declared(study: Study) -> CompareSpec:
    """Return what the recipe calls matching, and how sure each family has to be.

    Raises:
        UsageError: Where the recipe has no `compare`.
    """
    compare = acting(study.recipe)
    if compare is None:
        name = study.recipe.name
        raise UsageError(f"{name}: declares no margin; add `compare: {{margin: 0.2}}`, in percentage points")
    return compare


@once
def floor(study: Study) -> float:
    """Return the least spread of differences in accuracy that is believed, a fraction; 0 for r2. See `resolution`."""
    return floor_of(study.found.values(), study.store)


@once
def accuracies(study: Study) -> Cells:
    """Return test accuracy (or r2) at the recipe's `report` by seed, a mean over the samples of a control."""
    return _values(study, study.recipe.report, SCORE)


@once
def steps(study: Study) -> Cells:
    """Return early-stop steps by seed, last steps where there is no validation split."""
    return _values(study, "early_stop" if study.recipe.data.validation else "end", "step")


@once
def differences(study: Study) -> Cells:
    """Return accuracy less that of the dense network of the same seed and optimizer, for every column but `dense`."""
    cells = accuracies(study)
    return {
        cell: {
            name: differences_by_seed(values, dense(cells, cell)) for name, values in named.items() if name != "dense"
        }
        for cell, named in cells.items()
        if cell[2]
    }


def dense(cells: Mapping[CellKey, Mapping[str, Mapping[int, float]]], cell: CellKey) -> Mapping[int, float]:
    """Return the values of the dense network that stands beside a cell, by seed."""
    return cells.get((cell[0], cell[1], 0), {}).get("dense", {})


@once
def densities(study: Study) -> dict[CellKey, float]:
    """Return the density of each cell that has a finished dense network or ticket, a fraction."""
    found: dict[CellKey, float] = {}
    for cell, named in records_by_cell(study).items():
        for name in ("dense", "ticket"):
            for _, record in named.get(name, ()):
                if record is not None and "density" in record.metrics:
                    found.setdefault(cell, record.density)
    return found


def censored(study: Study, cell: CellKey, column: str) -> set[int]:
    """Return the seeds of which a training of the column has its early-stop step at the end."""
    at = (cell[0], cell[1], 0) if column == "dense" else cell
    found = ((job, record) for job, record in records_by_cell(study).get(at, {}).get(column, ()) if record is not None)
    return {job.seed for job, record in found if (record.at("early_stop") or {}).get("censored")}


def diverged(records: Iterable[Record | None]) -> set[int]:
    """Return the seeds of which one of these trainings diverged."""
    return {record.job.seed for record in records if record is not None and record.diverged is not None}


def _values(study: Study, report: str, field: str) -> Cells:
    return {
        cell: {name: by_seed([record for _, record in column], report, field) for name, column in named.items()}
        for cell, named in records_by_cell(study).items()
    }


@once
def records_by_cell(study: Study) -> dict[CellKey, dict[str, list[tuple[Job, Record | None]]]]:
    """Return the trainings of each cell by column; the dense networks stand at level 0 of each rewind point."""
    cells: dict[CellKey, dict[str, list[tuple[Job, Record | None]]]] = {}
    for job in study.plan:
        if job.kind.measured and job.transfer is None:
            for point in points(study.recipe, job):
                named = cells.setdefault((job.optimizer_index, point, job.level), {})
                named.setdefault(column_of(job), []).append((job, study.found.get(job.key)))
    return cells


@once
def transfers_by_cell(study: Study) -> dict[CellKey, dict[str, list[tuple[Job, Record | None]]]]:
    """Return the trainings of tickets with other optimizers by the cell of the ticket, in columns `with adam`."""
    cells: dict[CellKey, dict[str, list[tuple[Job, Record | None]]]] = {}
    labels = optimizer_labels(study.recipe.train.optimizer)
    for job in study.plan:
        if job.transfer is not None and job.rewind is not None:
            named = cells.setdefault((job.optimizer_index, rewind_label(job.rewind), job.level), {})
            named.setdefault(f"with {labels[job.transfer]}", []).append((job, study.found.get(job.key)))
    return cells


def column_of(job: Job) -> str:
    """Return the column of a training in the table of means: dense, ticket or the control's label."""
    return job.branch.label if job.branch else job.kind.value


def points(recipe: Recipe, job: Job) -> list[str]:
    """Return the labels of the rewind points that a training stands beside: its own, or each for a dense network."""
    return [rewind_label(rewind) for rewind in ([job.rewind] if job.rewind else recipe.rewind)]


def measured_cell(name: str, column: Sequence[Record | None], report: str, metrics: Sequence[str] = ()) -> Values:
    """Return a network's mean over seeds, standard deviation, number of seeds, and first step at which one diverged.

    Args:
        name: The network, which names the columns: dense, ticket or a control's label.
        column: Its trainings; None stands for one that is missing.
        report: The reading at which accuracy is taken, see `lottery.recipe.readings`.
        metrics: Metrics that were measured beside accuracy; each has columns of its own, `<name>_<metric>`.
    """
    diverged = min((r.diverged for r in column if r and r.diverged is not None), default=None)
    cells: Values = {}
    for metric, field in (("", SCORE), *((metric, f"test_{metric}") for metric in metrics)):
        values = list(by_seed(column, report, field).values())
        mean, std, n, first = columns.mean(name, metric)
        cells[mean] = statistics.fmean(values) if values else None
        cells[std] = statistics.stdev(values) if len(values) > 1 else None
        cells |= {n: len(values), first: diverged}
    return cells


def by_seed(column: Sequence[Record | None], report: str, field: str) -> dict[int, float]:
    """Return the value of each seed: the mean over its samples, all of which must be there and none diverged.

    The field SCORE is accuracy, or r2 in its place.
    """

    def read(record: Record) -> float | None:
        measured = record.at(report)
        if not measured:
            return None
        return float(measured["test_r2" if field == SCORE and "test_r2" in measured else field])

    return means_by_seed(column, read)


def means_by_seed(column: Sequence[Record | None], read: Callable[[Record], float | None]) -> dict[int, float]:
    """Return what is read of each seed: the mean over its samples, each of which must have a value."""
    values: dict[int, list[float]] = {}
    for record in column:
        value = None if record is None else read(record)
        if record is not None and value is not None:
            values.setdefault(record.job.seed, []).append(value)
    wanted = max((record.job.branch.samples for record in column if record and record.job.branch), default=1)
    return {seed: statistics.fmean(samples) for seed, samples in values.items() if len(samples) == wanted}


def differences_by_seed(values: Mapping[int, float], others: Mapping[int, float]) -> dict[int, float]:
    """Return `values` less `others`, of the seeds that both have."""
    return {seed: value - others[seed] for seed, value in values.items() if seed in others}
