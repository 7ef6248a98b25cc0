"""The figure of tickets found with one optimizer and retrained with another, as a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import DENSE
from lottery.errors import UsageError
from lottery.figures.selection import ALL, Selection
from lottery.figures.sizes import LEAST
from lottery.figures.style import grid, text_inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.analysis.rows import Row
    from lottery.results.study import Study

CELL, HIGH = 0.33, 0.2  # inches of a cell that has room for its number
BAR = 0.7  # inches of the scale of colours with its label
AROUND = 0.55  # inches of the title and the label of an axis


def transfer(study: Study, shown: Selection = ALL, width: float | None = None) -> Figure:
    """Draw test accuracy of each optimizer's ticket retrained with each, as a heat map with its numbers.

    Dense networks are on top, diverged cells hatched. A panel for each density and rewind point. Numbers lose their
    decimals, and then are left out, where cells are too narrow for letters that can be read.

    Raises:
        UsageError: No ticket is retrained, or there is nothing that is selected.
    """
    from lottery.analysis.transfer import transfer as rows

    table, labels = rows(study), shown.optimizers_of([study])
    (levels,) = shown.levels_of([study])
    keys = {job.key for job in study.plan if job.level in levels and job.level}
    table = [row for row in table if row["found_with"] in (DENSE, *labels)]
    top = [row for row in table if row["found_with"] == DENSE]
    groups: dict[tuple[Any, float], list[Row]] = {}
    for row in table:
        if row["found_with"] != DENSE and not keys.isdisjoint(row.made_from):
            groups.setdefault((row.get("rewind"), round(row["density"], 4)), []).append(row)
    if not groups:
        raise UsageError(f"{study.recipe.name}: no ticket is retrained yet; lottery run does so")
    names = max(map(text_inches, (*labels, DENSE)))
    titles = [", ".join(filter(None, (f"{100 * d:.3g} % of the weights", rewind))) for rewind, d in groups]
    figure, named = grid(titles, [""], share_y=False, width=width, narrowest=names + CELL * len(labels) + 0.3 + BAR)
    spot = named[""][0].get_subplotspec()
    assert spot is not None
    rows_of_panels = spot.get_gridspec().nrows
    figure.set_figheight(rows_of_panels * (HIGH * (len(labels) + 1) + names + AROUND))
    drawn_rows = [*top, *(row for mine in groups.values() for row in mine)]
    values = [100 * row[label] for row in drawn_rows for label in labels if row[label] is not None]
    for axes, mine in zip(named[""], groups.values(), strict=True):
        drawn = _matrix(axes, [*top, *mine], labels, values)
    bar = figure.colorbar(drawn, ax=named[""], shrink=0.8)
    bar.set_label("test accuracy (%)", fontsize=8)
    bar.ax.tick_params(labelsize=LEAST)
    return figure


def _matrix(axes: Axes, shown: Sequence[Row], labels: Sequence[str], every: Sequence[float]) -> Any:
    """Draw one heat map, with colours between the least and the largest of `every` value."""
    from matplotlib.patches import Rectangle

    axes.grid(visible=False)
    values = [[float("nan") if row[label] is None else 100 * row[label] for label in labels] for row in shown]
    drawn = axes.imshow(values, cmap="cividis", vmin=min(every), vmax=max(every), aspect="auto")
    form = _number_format(axes, labels)
    for y, row in enumerate(shown):
        for x, label in enumerate(labels):
            if row[label] is None:
                hatch = "////" if row[f"{label}_diverged"] is not None else None
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch=hatch, linewidth=0))
            elif form is not None:
                colour = "white" if 100 * row[label] < (min(every) + max(every)) / 2 else "black"
                said: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": LEAST, "color": colour}
                axes.text(x, y, form.format(100 * row[label]), **said)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(shown)), [row["found_with"] for row in shown])
    axes.set_xlabel("retrained with")
    axes.set_ylabel("found with")
    return drawn


def _number_format(axes: Axes, labels: Sequence[str]) -> str | None:
    """Return how numbers are told in cells of this width; None where they have no room."""
    spot, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert spot is not None and figure is not None
    columns = spot.get_gridspec().ncols
    panel = (figure.get_figwidth() - BAR) / columns - max(map(text_inches, (*labels, DENSE))) - 0.3
    cell = panel / len(labels)
    return next((form for form, room in (("{:.1f}", "99.9"), ("{:.0f}", "99")) if cell >= text_inches(room)), None)
