"""Differences paired by seed, as their figure draws them: of two columns of a study, or of two studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import CellKey, accuracies, dense, densities, differences_by_seed, floor
from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.recipe.families import acting, stands_for_a_claim
from lottery.statistics.paired import Interval, t_interval

if TYPE_CHECKING:
    from lottery.figures.sources import Labelled, Source
    from lottery.results.study import Study

DENSE = "dense"
Verdicts = Mapping[CellKey, Mapping[str, Any]]


@dataclass(frozen=True)
class Differences:
    """The paired differences of one column to another, of one source, in the figure's unit.

    Attributes:
        source: Where they are from.
        column: What is compared.
        against: What it is compared with.
        label: What the legend calls it.
        density: Density of each cell.
        by_seed: Differences of each cell by seed, two readings of one seed.
        interval: Mean of each cell with its two-sided interval.
        judged: Rows of verdicts on them; none where the recipe declares no margin, or nothing is tested here.
        scale: What fractions are multiplied with in this unit.
    """

    source: Source
    column: str
    against: str
    label: str
    density: Mapping[CellKey, float]
    by_seed: Mapping[CellKey, Mapping[int, float]]
    interval: Mapping[CellKey, Interval]
    judged: Verdicts
    scale: float


def paired_differences(
    source: Source, column: str, against: str, scale: float = 100.0, *, alone: bool = True
) -> Differences:
    """Return the differences of two columns within a seed, with the intervals and verdicts of the study's tables.

    Args:
        source: Where they are from.
        column: What is compared: the ticket, or a control by its label.
        against: What is subtracted: `dense`, or a column.
        scale: What fractions are multiplied with.
        alone: Whether the figure has no other column.
    """
    study, values = source.study, accuracies(source.study)
    compare = acting(study.recipe)
    confidence, known, by_seed = 0.95 if compare is None else compare.confidence, densities(study), {}
    for at in source.cells:
        named = values.get(at, {})
        others = dense(values, at) if against == DENSE else named.get(against, {})
        pairs = differences_by_seed(named.get(column, {}), others)
        if at[2] and pairs:
            by_seed[at] = {seed: scale * value for seed, value in pairs.items()}
    least = scale * floor(study)
    intervals = {at: t_interval(list(each.values()), confidence, least) for at, each in by_seed.items()}
    judged = _verdicts(study, against) if column == "ticket" else {}
    label = source.named(column, alone=alone)
    density = {at: known[at] for at in by_seed}
    return Differences(source, column, against, label, density, by_seed, intervals, judged, scale)


def _verdicts(study: Study, against: str) -> Verdicts:
    """Return the rows of the verdicts on tickets by cell; none where the recipe declares no margin, or tests none."""
    if study.recipe.compare is None:
        return {}
    if against == DENSE:
        from lottery.verdicts.verdicts import rows

        table = rows(study)
    else:
        from lottery.verdicts.claims import rows as claims

        tested = {b.label for b in study.recipe.branches if stands_for_a_claim(study.recipe, b.name)}
        table = [row for row in claims(study) if row["against"] == against] if against in tested else []
    indexes = {label: index for index, label in enumerate(optimizer_labels(study.recipe.train.optimizer))}
    only = rewind_label(study.recipe.rewind[0])
    return {(indexes[row["optimizer"]], row.get("rewind", only), row["level"]): row for row in table}


def differences_to_study(
    studies: Labelled, source: Source, column: str, first: str, scale: float = 100.0, *, alone: bool = True
) -> Differences:
    """Return the differences of a column of one study to the same column of another, as the table of several has them.

    Args:
        studies: The studies with their labels.
        source: Where they are from.
        column: What is compared: the ticket, or a control by its label.
        first: The label of the study that is subtracted.
        scale: What fractions are multiplied with.
        alone: Whether the figure has no other column.
    """
    from lottery.verdicts.several import compare, confidence_of, meeting, rows, sides

    named = sorted(studies, key=lambda each: each[0] != first)  # the first is the one that others are tested against
    own = next(label for label, study in studies if study is source.study)
    known, by_seed, judged = densities(source.study), dict[CellKey, Mapping[int, float]](), dict[CellKey, Any]()
    table = {(row["study"], row["optimizer"], row.get("rewind"), row["density"]): row for row in rows(named, column)}
    labels = optimizer_labels(source.study.recipe.train.optimizer)
    for by_study in sides(named, column).values():
        for side, other in meeting(by_study.get(first, []), by_study.get(own, [])).items():
            pairs = compare(side, other).differences
            if side.cell in source.cells and side.cell[2] and pairs:
                by_seed[side.cell] = {seed: scale * value for seed, value in pairs.items()}
                places = ((own, labels[side.cell[0]], rewind, side.density) for rewind in (side.cell[1], None))
                judged[side.cell] = next((table[place] for place in places if place in table), {})
    confidence, least = confidence_of(named), scale * max(floor(study) for _, study in named)
    intervals = {at: t_interval(list(each.values()), confidence, least) for at, each in by_seed.items()}
    density = {at: known[at] for at in by_seed}
    label = source.named(column, alone=alone)
    return Differences(source, column, first, label, density, by_seed, intervals, judged, scale)
