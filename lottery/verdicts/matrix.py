"""Optimizers against densities in one compact table, the best of a density marked where a test shows that it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from lottery.analysis.cells import measured_cell, records_by_cell
from lottery.analysis.columns import STUDY, Column
from lottery.analysis.labels import optimizer_labels
from lottery.analysis.rows import Row, Values
from lottery.statistics import paired
from lottery.verdicts.several import TOLERANCE, Named, Side, compare, confidence_of, describe, sides

if TYPE_CHECKING:
    from lottery.results.study import Study

Line = tuple[str, int, str]  # what a row is of: study, index of the optimizer, rewind point


def rows(study: Study) -> list[Row]:
    """Return the matrix of the tickets of one study; see `of_several`."""
    return of_several([(study.recipe.name, study)])


def of_several(named: Named, network: str = "ticket") -> list[Row]:
    """Return a row for each study, optimizer and rewind point (each where there are several), a column for a density.

    A cell is the mean test accuracy over seeds, a fraction, with `_std`, `_n` and `_diverged`. The first column is of
    the dense networks, the others of `network` at the density that names them, in percent; densities within 1 % of each
    other share one. `_best` is true in the cell that is shown to be better than each other cell of its column: by
    two-sided paired t tests of all pairs of cells of a column, under Holm's correction over those of all columns. None
    is best where a test of it is withheld or its column has no other cell.

    Raises:
        UsageError: No study has such a network.
    """
    lines = _lines(named, network)
    confidence = confidence_of(named)
    best, family = _best(lines, confidence)
    test = describe("bold or * is what is shown to be better than each other cell of its column", family, confidence)
    heads = dict.fromkeys(head for mine in lines.values() for head in mine)
    ordered = sorted(heads, key=lambda head: -head)
    rewinds, studies = {line[2] for line in lines}, dict(named)
    table = []
    for line, mine in lines.items():
        row: Values = {STUDY: line[0]} if len(named) > 1 else {}
        row["optimizer"] = optimizer_labels(studies[line[0]].recipe.train.optimizer)[line[1]]
        row |= {"rewind": line[2]} if len(rewinds) > 1 else {}
        for head in ordered:
            row |= _cell(head, mine.get(head), (line, head) in best)
        row["cells"] = f"test accuracy in percent, mean ± standard deviation over seeds, of {_whose(network)}"
        row["test"] = test
        keys = (record.job.key for side in mine.values() for record in side.records)
        table.append(Row(row, dict.fromkeys(keys)))
    return table


def _whose(network: str) -> str:
    return "the dense networks" if network == "dense" else f"the dense networks and of {network} by its density"


def _lines(named: Named, network: str) -> dict[Line, dict[float, Side]]:
    """Return the sides with a finished training of each row by the density of their column; inf for the dense ones."""
    lines: dict[Line, dict[float, Side]] = {}
    every = [side for each in sides(named, network).values() for mine in each.values() for side in mine]
    if network != "dense":
        dense = {(side.label, side.cell[:2]): side.study for side in every}
        every += [Side(label, study, (*at, 0), "dense") for (label, at), study in dense.items()]
    columns = list[float]()
    for side in sorted(every, key=lambda side: -side.density):
        if not side.records:
            continue
        mine = lines.setdefault((side.label, side.cell[0], side.cell[1]), {})
        near = (at for at in columns if abs(at - side.density) <= TOLERANCE * at and at not in mine)
        at = math.inf if side.network == "dense" else next(near, side.density)
        columns += [at] if at not in columns and at != math.inf else []
        mine[at] = side
    places = [label for label, _ in named]
    points = {label: list(dict.fromkeys(cell[1] for cell in records_by_cell(study))) for label, study in named}
    order = {line: (places.index(line[0]), line[1], points[line[0]].index(line[2])) for line in lines}
    return dict(sorted(lines.items(), key=lambda item: order[item[0]]))


def _best(lines: Mapping[Line, Mapping[float, Side]], confidence: float) -> tuple[set[tuple[Line, float]], int]:
    """Return the best cell of each column that has one, and the number of comparisons."""
    pairs = {
        (one, other, head): compare(lines[one][head], lines[other][head])
        for one, other in combinations(lines, 2)
        for head in lines[one]
        if head in lines[other]
    }
    adjusted = dict(zip(pairs, paired.holm([each.p for each in pairs.values()]), strict=True))
    wins: dict[tuple[Line, float], int] = {}
    for (one, other, head), found in pairs.items():
        if adjusted[one, other, head] <= round(1 - confidence, 12) and not found.withheld:
            winner = one if math.fsum(found.differences.values()) > 0 else other
            wins[winner, head] = wins.get((winner, head), 0) + 1
    cells = Counter(head for mine in lines.values() for head in mine)
    return {place for place, count in wins.items() if count == cells[place[1]] - 1}, len(pairs)


def _cell(head: float, side: Side | None, best: bool) -> Values:
    """Return the columns of one cell; its name is the density in percent."""
    name = "dense" if head == math.inf else f"{100 * head:.4g}%"
    words = name.replace("%", " %")
    whole = Column(name, "", "mean", network=name, words=words, label=words)
    values: Values = {}
    if side is not None:
        found = records_by_cell(side.study)[side.cell][side.network]
        values = measured_cell("it", [record for _, record in found], side.study.recipe.report)
    return {
        whole: values.get("it"),
        Column(f"{name}_std", "fraction", "std", network=name, whole=name): values.get("it_std"),
        Column(f"{name}_n", "", "n", network=name, whole=name): values.get("it_n"),
        Column(f"{name}_diverged", "ordinal", "diverged", network=name, whole=name): values.get("it_diverged"),
        Column(f"{name}_best", "", "best", network=name, whole=name): best if side is not None else None,
    }
