"""Values of a measured quantity at the points of a sweep, seed by seed: what a figure against a swept key shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.cells import CellKey, by_seed, densities, diverged, records_by_cell
from lottery.analysis.labels import head, optimizer_labels, whose
from lottery.analysis.measurements import analysis_named, measured
from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study

Column = list["Record | None"]
Place = tuple[str, str, int]  # optimizer and rewind point where there are several, network, level


@dataclass(frozen=True)
class Observed:
    """A network of one point.

    Attributes:
        values: What was measured, by seed.
        diverged: The seeds whose training diverged, which have no value.
        density: Share of weights that are left, where it is known.
    """

    values: Mapping[int, float]
    diverged: frozenset[int] = frozenset()
    density: float | None = None


def _seconds(study: Study, column: Column) -> dict[int, float]:
    done = [record for record in column if record is not None and record.diverged is None]
    return {record.job.seed: record.manifest.seconds for record in done}


def _reading(report: str | None, field: str) -> Callable[[Study, Column], dict[int, float]]:
    return lambda study, column: by_seed(column, report or study.recipe.report, field)


MEASURES: dict[str, tuple[str, Callable[[Study, Column], dict[int, float]]]] = {
    "accuracy": ("test accuracy", _reading(None, "test_accuracy")),  # or r2
    "loss": ("test loss", _reading(None, "test_loss")),
    "train_loss": ("training loss at the end", _reading("end", "train_loss")),
    "early_stop_step": ("early-stop step", _reading("early_stop", "step")),
    "seconds": ("seconds of the training", _seconds),
}


def observed(study: Study, measure: str) -> dict[Place, Observed]:
    """Return the networks of a point in the order of its plan, each with its values.

    Args:
        study: The point.
        measure: One of MEASURES, or `LABEL.VALUE` of an analysis.

    Raises:
        UsageError: There is no such measure.
    """
    if measure in MEASURES:
        return dict(_trainings(study, MEASURES[measure][1]))
    label, dot, value = measure.partition(".")
    if not dot:
        raise UsageError(f"measure {measure!r}: there are {', '.join(MEASURES)}, and LABEL.VALUE of an analysis")
    return _measurements(study, label, value)


def _trainings(study: Study, read: Callable[[Study, Column], dict[int, float]]) -> Iterator[tuple[Place, Observed]]:
    known = densities(study)
    for cell, named in records_by_cell(study).items():
        for name, column in named.items():
            records = [record for _, record in column]
            lost = frozenset(diverged(records))
            yield (_whose(study, cell), name, cell[2]), Observed(read(study, records), lost, known.get(cell))


def _measurements(study: Study, label: str, value: str) -> dict[Place, Observed]:
    found: dict[Place, dict[int, float]] = {}
    analysis_named(study, label)
    for each in measured(study).values():
        job = each.job
        if job.analysis is None or job.analysis.label != label:
            continue
        if value not in each.values:
            raise UsageError(f"measure {label}.{value}: {label} measures {', '.join(each.values)}")
        named = optimizer_labels(study.recipe.train.optimizer)[job.optimizer_index]
        place = (named if len(study.recipe.train.optimizer) > 1 else "", each.networks, job.level)
        found.setdefault(place, {})[job.seed] = each.values[value]
    return {place: Observed(values) for place, values in found.items()}


def _whose(study: Study, cell: CellKey) -> str:
    """Return the optimizer and the rewind point of a cell, as far as there are several."""
    recipe = study.recipe
    several = len(recipe.train.optimizer) > 1
    named = head(recipe, cell[1] if cell[2] else None, optimizer=optimizer_labels(recipe.train.optimizer)[cell[0]])
    return whose(named | ({} if several else {"optimizer": ""}))
