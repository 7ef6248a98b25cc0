"""Profiles of analyses: what each measured point by point, as pictures draw it and as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.analysis.columns import DENSITY, KEY, LEVEL, SEED, Column
from lottery.analysis.labels import head, optimizer_labels
from lottery.analysis.measurements import (
    STEP,
    Measured,
    analysis_named,
    cells_of,
    density_of,
    measured,
    step_of_children,
)
from lottery.analysis.rows import Row, Values
from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.results.study import Study

ProfileRow = Mapping[str, Any]


@dataclass(frozen=True)
class Profiles:
    """The profiles of one cell of an analysis, those of all seeds, pairs and samples.

    Attributes:
        head: Optimizer, and the rewind point where the recipe has several.
        level: Level of the networks, 0 for the dense one.
        density: Their density, that of the last where they are several; None where it is not known.
        networks: Their names, `dense - ticket`.
        found: The finished measurements in the order of the plan, one at least.
    """

    head: Values
    level: int
    density: float | None
    networks: str
    found: Sequence[Measured]


def finished_cells(study: Study, label: str) -> list[Profiles]:
    """Return what is finished of an analysis by cell, also where its measurements have no profile.

    Raises:
        UsageError: The recipe has no such analysis, or none of its jobs is finished.
    """
    analysis = analysis_named(study, label)
    labels = optimizer_labels(study.recipe.train.optimizer)
    known = measured(study)
    cells: list[Profiles] = []
    for (place, rewind, level, networks), jobs in cells_of(study, analysis).items():
        found = [known[job.key] for job in jobs if job.key in known]
        if found:
            about = head(study.recipe, rewind, optimizer=labels[place])
            cells.append(Profiles(about, level, density_of(study, jobs), networks, found))
    if not cells:
        raise UsageError(f"{study.recipe.name}: nothing of the analysis {label} is finished yet; lottery run does so")
    return cells


def profiles(study: Study, label: str) -> list[Profiles]:
    """Return the profiles of an analysis by cell, those with rows.

    Raises:
        UsageError: The recipe has no such analysis, none of its jobs is finished, or it has no profile.
    """
    cells = [cell for cell in finished_cells(study, label) if any(each.profile for each in cell.found)]
    if not cells:
        raise UsageError(
            f"{study.recipe.name}: the analysis {label} has no profile; lottery table --view {label} has its numbers"
        )
    return cells


def profile_rows(study: Study, label: str) -> list[Row]:
    """Return the rows of all profiles of an analysis, each with its network, seed and key, as they were measured.

    A column of a profile that is called as one of these has `profile_` before its name. Raises as `profiles` does.
    """
    return [
        Row(_beside(about, row), (each.job.key, *dict.fromkeys(look.key for look in each.job.looks)))
        for cell in profiles(study, label)
        for each in cell.found
        for about in [_about(study, cell, each)]
        for row in each.profile
    ]


def _about(study: Study, cell: Profiles, each: Measured) -> Values:
    names = " - ".join(dict.fromkeys(look.name for look in each.job.looks))  # with the numbers of samples
    place = {LEVEL: cell.level, DENSITY: cell.density, "networks": names}
    if each.job.analysis is not None and each.job.analysis.looks_at == "children":
        place[STEP] = step_of_children(study, each.job)
    return {**cell.head, **place, SEED: each.job.seed, KEY: each.job.key}


def _beside(about: Values, row: ProfileRow) -> Values:
    return {**about, **{_column(f"profile_{name}" if name in about else name): value for name, value in row.items()}}


def _column(name: str) -> Column:
    return Column(name, "fraction" if name.endswith("_error") else "")
