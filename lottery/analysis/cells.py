"""The values of a study by cell and seed, and their differences within a seed: what every comparison starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lottery.analysis.accuracy import SCORE, Place, by_place, by_seed, differences_by_seed
from lottery.errors import UsageError
from lottery.results.families import acting
from lottery.results.resolution import floor_of
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec
    from lottery.results.record import Record
    from lottery.results.study import Study

Cells = dict[Place, dict[str, dict[int, float]]]  # place -> column -> seed -> value


def declared(study: Study) -> CompareSpec:
    """What the recipe calls matching, and how sure each family has to be.

    Raises UsageError where it has no `compare`."""
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
    """Test accuracy (or r2) at the recipe's `report` by seed; samples of a control are averaged within their seed."""
    return _values(study, study.recipe.report, SCORE)


@once
def steps(study: Study) -> Cells:
    """Early-stop steps by seed, last steps without a validation split."""
    return _values(study, "early_stop" if study.recipe.data.validation else "end", "step")


@once
def differences(study: Study) -> Cells:
    """Accuracy less that of the dense network of the same seed and optimizer, for every column but `dense`."""
    cells = accuracies(study)
    return {
        place: {
            name: differences_by_seed(values, dense(cells, place)) for name, values in named.items() if name != "dense"
        }
        for place, named in cells.items()
        if place[2]
    }


def dense(cells: Mapping[Place, Mapping[str, Mapping[int, float]]], place: Place) -> Mapping[int, float]:
    """The dense network's values beside a place."""
    return cells.get((place[0], place[1], 0), {}).get("dense", {})


@once
def densities(study: Study) -> dict[Place, float]:
    """The density of each place that has a finished dense network or ticket."""
    found: dict[Place, float] = {}
    for place, named in by_place(study).items():
        for name in ("dense", "ticket"):
            for _, record in named.get(name, ()):
                if record is not None and "density" in record.metrics:
                    found.setdefault(place, record.density)
    return found


def censored(study: Study, place: Place, column: str) -> set[int]:
    """Seeds of which a training of the column has its early-stop step at the end."""
    at = (place[0], place[1], 0) if column == "dense" else place
    found = ((job, record) for job, record in by_place(study).get(at, {}).get(column, ()) if record is not None)
    return {job.seed for job, record in found if (record.at("early_stop") or {}).get("censored")}


def diverged(records: Iterable[Record | None]) -> set[int]:
    """Return the seeds of which one of these trainings diverged."""
    return {record.job.seed for record in records if record is not None and record.diverged is not None}


def _values(study: Study, report: str, field: str) -> Cells:
    return {
        place: {name: by_seed([record for _, record in column], report, field) for name, column in named.items()}
        for place, named in by_place(study).items()
    }
