"""The values of a study by cell and seed, and their differences within a seed: what every comparison starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lottery.plan import MEASURED
from lottery.study import once
from lottery.tables import SCORE, by_seed, rewind_label

if TYPE_CHECKING:
    from lottery.plan import Job
    from lottery.record import Record
    from lottery.study import Study

Place = tuple[int, str, int]  # optimizer's place in the recipe, rewind point, level
Cells = dict[Place, dict[str, dict[int, float]]]  # place -> column -> seed -> value


@once
def columns(study: Study) -> dict[Place, dict[str, list[tuple[Job, Record | None]]]]:
    """The trainings of each place by column; the dense networks at level 0, for each rewind point."""
    cells: dict[Place, dict[str, list[tuple[Job, Record | None]]]] = {}
    for job in study.plan:
        if job.kind not in MEASURED or job.transfer is not None:
            continue
        name = job.branch.label if job.kind == "branch" and job.branch else job.kind
        for rewind in _rewinds(study, job):
            place = (job.place, rewind, job.level)
            cells.setdefault(place, {}).setdefault(name, []).append((job, study.found.get(job.key)))
    return cells


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
        place: {name: paired(values, dense(cells, place)) for name, values in named.items() if name != "dense"}
        for place, named in cells.items()
        if place[2]
    }


def dense(cells: Mapping[Place, Mapping[str, Mapping[int, float]]], place: Place) -> Mapping[int, float]:
    """The dense network's values beside a place."""
    return cells.get((place[0], place[1], 0), {}).get("dense", {})


def paired(values: Mapping[int, float], others: Mapping[int, float]) -> dict[int, float]:
    """The differences of the seeds that both have."""
    return {seed: value - others[seed] for seed, value in values.items() if seed in others}


@once
def densities(study: Study) -> dict[Place, float]:
    """The density of each place that has a finished dense network or ticket."""
    found: dict[Place, float] = {}
    for place, named in columns(study).items():
        for name in ("dense", "ticket"):
            for _, record in named.get(name, ()):
                if record is not None and "density" in record.metrics:
                    found.setdefault(place, record.density)
    return found


def censored(study: Study, place: Place, column: str) -> set[int]:
    """Seeds of which a training of the column has its early-stop step at the end."""
    at = (place[0], place[1], 0) if column == "dense" else place
    found = ((job, record) for job, record in columns(study).get(at, {}).get(column, ()) if record is not None)
    return {job.seed for job, record in found if (record.at("early_stop") or {}).get("censored")}


def _values(study: Study, report: str, field: str) -> Cells:
    return {
        place: {name: by_seed([record for _, record in column], report, field) for name, column in named.items()}
        for place, named in columns(study).items()
    }


def _rewinds(study: Study, job: Job) -> Iterator[str]:
    for rewind in [job.rewind] if job.kind != "dense" and job.rewind else study.recipe.rewind:
        yield rewind_label(rewind)
