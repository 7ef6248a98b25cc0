"""The sources of the curves of a figure against density: an optimizer and rewind point of a study, or of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.cells import CellKey, densities
from lottery.analysis.labels import head, optimizer_labels, rewind_label, whose
from lottery.figures.colors import Style, column_styles, styles
from lottery.figures.style import DASHES
from lottery.values import said

if TYPE_CHECKING:
    from lottery.figures.selection import Selection
    from lottery.results.study import Study

Labelled = Sequence[tuple[str, "Study"]]  # studies with what tells them apart


@dataclass(frozen=True)
class Source:
    """The cells of one optimizer and rewind point of a study.

    Attributes:
        study: The study.
        panel: Title of the panel that it is drawn in.
        label: What tells it from others in its panel; empty where there is one study.
        cells: Its cells with a finished network, from dense to sparse.
        style: Its style among several studies; None where there is one, whose curves look by their columns.
    """

    study: Study
    panel: str
    label: str
    cells: Sequence[CellKey]
    style: Style | None = None

    def named(self, column: str, *, alone: bool) -> str:
        """Return what the legend calls a column; `alone` where no other column is drawn."""
        return ", ".join(filter(None, (self.label, "" if alone and self.label else column)))

    def style_of(self, column: str) -> Style:
        """Return the style of a column: that of the study, with the column's dashes, where there are several."""
        own = column_styles(self.study.recipe)
        if self.style is None:
            return own[column]
        return {**self.style, "linestyle": DASHES[list(own).index(column) % len(DASHES)]}


def sources(studies: Labelled, shown: Selection) -> list[Source]:
    """Return what is finished and selected of studies, in the order of their recipes.

    Several studies stand in one panel for each optimizer, the same where they write it alike or call it alike. Where
    each has one optimizer they stand in one panel, and a label says the optimizer where these differ.

    Raises:
        UsageError: None of the studies has an optimizer, level or density that is selected.
    """
    every = [study for _, study in studies]
    chosen, levels = shown.optimizers_of(every), shown.levels_of(every)
    mine = [[name for name in optimizer_labels(each.recipe.train.optimizer) if name in chosen] for each in every]
    together = len(studies) > 1 and all(len(names) == 1 for names in mine) and len(set(map(tuple, mine))) > 1
    looks = styles([name for place, (_, study) in enumerate(studies) for name in _names(place, study)])
    found, panels = list[Source](), dict[str, str]()  # optimizers as a recipe writes them, and their panels
    for place, ((label, study), wanted) in enumerate(zip(studies, levels, strict=True)):
        recipe, labels = study.recipe, optimizer_labels(study.recipe.train.optimizer)
        for (index, rewind), cells in _cells(study).items():
            cells = [cell for cell in cells if cell[2] in wanted]
            if labels[index] not in chosen or not cells:
                continue
            about = head(recipe, rewind, optimizer=labels[index])
            if len(studies) == 1:
                found.append(Source(study, whose(about), "", cells))
                continue
            called = ", ".join(filter(None, (label, labels[index] if together else "", about.get("rewind"))))
            style = looks[f"{place} {rewind}"]
            panel = panels.setdefault(said(recipe.train.optimizer[index]), labels[index])
            found.append(Source(study, "" if together else panel, called, cells, style))
    return found


def by_panel(found: Sequence[Source]) -> dict[str, list[Source]]:
    """Return sources by the title of their panel."""
    named: dict[str, list[Source]] = {}
    for source in found:
        named.setdefault(source.panel, []).append(source)
    return named


def _names(place: int, study: Study) -> list[str]:
    return [f"{place} {rewind_label(rewind)}" for rewind in study.recipe.rewind]


def _cells(study: Study) -> dict[tuple[int, str], list[CellKey]]:
    """Return the cells of a study with a finished network by optimizer and rewind point, in the recipe's order."""
    order = [rewind_label(rewind) for rewind in study.recipe.rewind]
    found: dict[tuple[int, str], list[CellKey]] = {}
    for cell in sorted(densities(study), key=lambda cell: (cell[0], order.index(cell[1]), cell[2])):
        found.setdefault((cell[0], cell[1]), []).append(cell)
    return found
