"""The figure that verdicts are read from: ticket less dense accuracy against density, with the bound that decides."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import CellKey, Cells, densities, differences, floor
from lottery.analysis.labels import head, optimizer_labels, rewind_label, whose
from lottery.errors import UsageError
from lottery.figures.style import COLORS, density_axis, line_style, panels
from lottery.statistics.paired import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.results.study import Study

TICKET, BOUND, LINE = COLORS[0], COLORS[1], "#444444"
MARKS: dict[str, dict[str, Any]] = {  # of a mean by its verdict; "" where the recipe asks for none
    "winning": {"marker": "*", "markersize": 9, "markerfacecolor": COLORS[2]},
    "matching": {"marker": "o", "markersize": 5.5, "markerfacecolor": TICKET},
    "losing": {"marker": "v", "markersize": 6, "markerfacecolor": COLORS[1]},
    "inconclusive": {"marker": "o", "markersize": 5.5, "markerfacecolor": "white"},
    "withheld": {"marker": "X", "markersize": 6, "markerfacecolor": "#BBBBBB"},
    "": {"marker": "o", "markersize": 4.5, "markerfacecolor": TICKET},
}
ROOM = 0.6  # of an interval beyond the points, as a share of their range: those of two seeds would hide all else
BESIDE = 0.015  # of the axis, between a mean and its seeds
MOST_IN_A_ROW = 8  # entries of the legend
Verdicts = Mapping[CellKey, Mapping[str, Any]]


def differences_figure(study: Study, controls: Sequence[str] = ()) -> Figure:
    """Draw ticket less dense accuracy, paired by seed, in percentage points against density.

    The mean stands with its two-sided t interval, each seed faint. Where the recipe declares a margin there are the
    margin, the one-sided lower bound that matching is judged by, and the verdict as the mark of the mean. A panel for
    each optimizer and rewind point.

    Args:
        study: The study.
        controls: Columns whose mean difference to the dense network is drawn beside it.

    Raises:
        UsageError: The recipe lacks one of the controls.
    """
    recipe, labels = study.recipe, optimizer_labels(study.recipe.train.optimizer)
    known_controls = [branch.label for branch in recipe.branches]
    for name in controls:
        if name not in known_controls:
            raise UsageError(f"control {name!r}: {recipe.name} has {', '.join(known_controls) or 'none'}")
    regression = any("test_r2" in (record.at("end") or {}) for record in study.found.values())
    scale, cells, known, judged = 1.0 if regression else 100.0, differences(study), densities(study), _verdicts(study)
    sequences = _sequences(study)
    figure, every = panels([whose(head(recipe, rewind, optimizer=labels[index])) for index, rewind in sequences])
    for axes, cell_keys in zip(every, sequences.values(), strict=True):
        values = {at: [scale * each for each in cells[at]["ticket"].values()] for at in cell_keys}
        axes.axhline(0, color="black", linewidth=0.8, label="dense")
        if recipe.compare is not None:
            margin = recipe.compare.margin * scale / 100
            axes.axhline(-margin, color=BOUND, linewidth=0.9, linestyle="--", label=f"margin ({recipe.compare.points})")
        for number, name in enumerate(controls, start=1):
            _control(axes, known, {at: cells[at].get(name, {}) for at in cell_keys}, name, number, scale)
        _ticket(axes, known, values, judged, scale, recipe.compare.confidence if recipe.compare else 0.95, floor(study))
        density_axis(axes, [known[at] for at in cell_keys])
    seen = [each for cell_keys in sequences.values() for at in cell_keys for each in _seen(cells, at, controls)]
    _limits(every, [scale * each for each in seen])
    for axes in every:
        spot = axes.get_subplotspec()
        if spot is not None and spot.is_first_col():
            what = "network less dense" if controls else "ticket less dense"
            axes.set_ylabel(f"{what}{', r2' if regression else ' (points)'}", fontsize=8)
    _legend(figure, every)
    return figure


def _sequences(study: Study) -> dict[tuple[int, str], list[CellKey]]:
    """Return the cells with a pair of ticket and dense network, from dense to sparse, by optimizer and rewind."""
    order = [rewind_label(rewind) for rewind in study.recipe.rewind]
    known = densities(study)
    cell_keys = [at for at, named in differences(study).items() if at in known and named.get("ticket")]
    found: dict[tuple[int, str], list[CellKey]] = {}
    for at in sorted(cell_keys, key=lambda at: (at[0], order.index(at[1]), at[2])):
        found.setdefault((at[0], at[1]), []).append(at)
    return found


def _verdicts(study: Study) -> Verdicts:
    """Return the rows of the verdicts by cell; none where the recipe declares no margin."""
    if study.recipe.compare is None:
        return {}
    from lottery.verdicts.verdicts import rows

    indexes = {label: index for index, label in enumerate(optimizer_labels(study.recipe.train.optimizer))}
    only = rewind_label(study.recipe.rewind[0])
    return {(indexes[row["optimizer"]], row.get("rewind", only), row["level"]): row for row in rows(study)}


def _ticket(
    axes: Axes,
    known: Mapping[CellKey, float],
    values: Mapping[CellKey, Sequence[float]],
    judged: Verdicts,
    scale: float,
    confidence: float,
    least: float,
) -> None:
    at = [known[cell] for cell in values]
    beside = (max(at) / min(at)) ** BESIDE if len(at) > 1 else 1.05
    for cell, each in values.items():
        spots: dict[str, Any] = {"marker": "o", "markersize": 2.8, "linestyle": "none", "markeredgewidth": 0}
        axes.plot([known[cell] / beside] * len(each), each, color=LINE, alpha=0.45, label="seeds", zorder=2, **spots)
    intervals = [t_interval(each, confidence, scale * least) for each in values.values()]
    means = [interval.estimate for interval in intervals]
    spread = [i.high - i.estimate if math.isfinite(i.high) else 0.0 for i in intervals]
    sure = f"{100 * confidence:g} %"
    bars: dict[str, Any] = {"color": TICKET, "linewidth": 1.2, "elinewidth": 0.8, "capsize": 2, "zorder": 3}
    axes.errorbar(at, means, yerr=spread, label=f"mean, {sure} interval", **bars)
    bounds = {cell: bound for cell in values if (bound := judged.get(cell, {}).get("bound")) is not None}
    if bounds:
        tick: dict[str, Any] = {"marker": "_", "markersize": 11, "markeredgewidth": 1.6, "linestyle": "none"}
        x, y = [known[cell] for cell in bounds], [scale * bound for bound in bounds.values()]
        axes.plot(x, y, color=BOUND, label=f"one-sided {sure} bound", zorder=4, **tick)
    for cell, mean in zip(values, means, strict=True):
        verdict = judged.get(cell, {}).get("verdict", "")
        mark = {"color": LINE, "linestyle": "none", **MARKS[verdict]}
        axes.plot([known[cell]], [mean], label=verdict or "_", zorder=5, **mark)


def _control(
    axes: Axes,
    known: Mapping[CellKey, float],
    values: Mapping[CellKey, Mapping[int, float]],
    name: str,
    number: int,
    scale: float,
) -> None:
    points = [(known[at], scale * statistics.fmean(each.values())) for at, each in values.items() if each]
    if points:
        axes.plot(*zip(*points, strict=True), label=name, alpha=0.8, zorder=2.5, **line_style(number + 1))


def _seen(cells: Cells, at: CellKey, controls: Sequence[str]) -> list[float]:
    """Return the differences of the ticket's seeds at a cell, and the mean ones of controls."""
    means = [statistics.fmean(each.values()) for name in controls if (each := cells[at].get(name))]
    return [*cells[at]["ticket"].values(), *means]


def _limits(every: Sequence[Axes], seen: Sequence[float]) -> None:
    """Cut off the ends of intervals and bounds that go far beyond all that was seen; panels share their scale."""
    low, high = min(0.0, *seen), max(0.0, *seen)
    bottom, top = every[0].get_ylim()
    room = ROOM * ((high - low) or 1.0)
    every[0].set_ylim(max(bottom, low - room), min(top, high + room))


def _legend(figure: Figure, every: Sequence[Axes]) -> None:
    """Draw one legend for all panels, below them, in as many columns as the figure is wide enough for."""
    handles: dict[str, Any] = {}
    for axes in every:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    first = [label for label in handles if label not in MARKS and label != "seeds"]
    order = [*first, "seeds", *(label for label in MARKS if label in handles)]
    width = figure.get_size_inches()[0] * figure.dpi
    for columns in range(min(len(order), MOST_IN_A_ROW), 0, -1):
        legend = figure.legend(
            [handles[label] for label in order],
            order,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=7,
        )
        box = legend.get_tightbbox()
        if columns == 1 or box is None or box.width <= width:
            return
        legend.remove()
