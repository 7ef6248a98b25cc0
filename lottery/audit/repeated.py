"""Trainings of different seeds that are one and the same: their curves agree in every digit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import records_by_cell
from lottery.analysis.labels import density_label
from lottery.audit.protocol_checks import curve_of
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.audit.findings import Cell
    from lottery.results.record import Record
    from lottery.results.study import Study


@once
def repeated(study: Study) -> dict[Cell, str]:
    """Return in words, by cell, which seeds of a column have the same curve.

    Seeds differ in the first weights, the split and the order, so curves differ in some digit: equal ones are one
    training, copied, or a study in which nothing depends on the seed. Either way they count as one seed and not as
    several. Curves without any movement, as of a network that is collapsed, say nothing and are passed, and so are
    records of no store.
    """
    told: dict[Cell, str] = {}
    for (optimizer_index, point, level), columns in records_by_cell(study).items():
        for column, jobs in columns.items():
            records = [record for _, record in jobs if record is not None]
            groups = list(_groups(records))
            if groups:
                listed = " and ".join(f"seeds {', '.join(map(str, seeds))}" for seeds in groups)
                told[optimizer_index, point, level, column] = f"{listed} have one and the same curve, to the last digit"
    return told


def sentences(study: Study) -> list[tuple[int, str]]:
    """Return a sentence for each column that has repeated trainings, with the optimizer's index in the recipe.

    Dense networks are told once, the densities of tickets and controls together.
    """
    levels: dict[tuple[int, str, str], list[str]] = {}
    cells, several = records_by_cell(study), len(study.recipe.rewind) > 1
    for (optimizer_index, point, level, column), words in repeated(study).items():
        where = f", rewound to {point}" if level and several else ""
        densities = levels.setdefault((optimizer_index, column + where, words), [])
        density = next((r.density for _, r in cells[optimizer_index, point, level][column] if r is not None), 1.0)
        densities += [density_label(density)] if level else []
    return [
        (
            optimizer_index,
            f"{column}{' at ' if densities else ''}{', '.join(densities)}: {words}; they count as one seed",
        )
        for (optimizer_index, column, words), densities in levels.items()
    ]


def _groups(records: Sequence[Record]) -> Iterator[list[int]]:
    """Return the seeds that share a curve, a list for each such curve."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        curve = curve_of(record.metrics)
        if record.manifest.files and record.diverged is None and _moves(curve):
            seeds.setdefault(json.dumps(curve, sort_keys=True), set()).add(record.job.seed)
    return (sorted(each) for each in seeds.values() if len(each) > 1)


def _moves(curve: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if some measure has two different values on the curve."""
    names = {name for row in curve for name in row} - {"step"}
    return any(len({row[name] for row in curve if row.get(name) is not None}) > 1 for name in names)
