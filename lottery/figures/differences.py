"""The figure that verdicts are read from: differences paired by seed against density, with the bound that decides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.figures.colors import Style, column_names
from lottery.figures.densities import is_regression
from lottery.figures.drawing import labels_of_axis
from lottery.figures.paired import DENSE, Differences, differences_to_study, paired_differences
from lottery.figures.selection import ALL, Selection
from lottery.figures.sources import Labelled, Source, by_panel, sources
from lottery.figures.style import density_axis, follow, grid, inches_wide, legend_below

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = "#444444"
MARKS: dict[str, dict[str, Any]] = {  # of a mean by its verdict; the fill is the curve's colour where none is said
    "winning": {"marker": "*", "markersize": 9},
    "superior": {"marker": "^", "markersize": 6},
    "matching": {"marker": "o", "markersize": 5.5},
    "losing": {"marker": "v", "markersize": 6},
    "inferior": {"marker": "v", "markersize": 6},
    "inconclusive": {"marker": "o", "markersize": 5.5, "markerfacecolor": "white"},
    "withheld": {"marker": "X", "markersize": 6, "markerfacecolor": "#BBBBBB"},
}
BESIDE = (0.06, 0.035)  # inches between a mean and its seeds where a panel has one curve, and where it has several


def differences_figure(
    studies: Labelled,
    against: Sequence[str] = (DENSE,),
    shown: Selection = ALL,
    width: float | None = None,
) -> Figure:
    """Draw accuracy less that of the dense network, a control or another study, paired by seed, in points by density.

    The mean stands with its two-sided t interval at the recipe's confidence, each seed faint. Of the ticket the mark of
    the mean is its verdict; against the dense network there are the margin and the one-sided lower bound that matching
    is judged by as well. A panel for each optimizer and rewind point, a row of panels for each of `against`.

    Args:
        studies: The studies with their labels.
        against: What is subtracted: `dense`, the label of a control, or of several studies that of one; a row of panels
            each.
        shown: What is drawn; the ticket where no columns are selected.
        width: The figure's width in inches, see `sizes.width_of`.

    Raises:
        UsageError: A recipe lacks what is subtracted, nothing is finished, or there is nothing that is selected.
    """
    every_study = [study for _, study in studies]
    columns = shown.columns_of(every_study, ("ticket",))
    known = dict.fromkeys(name for study in every_study for name in (DENSE, *column_names(study.recipe)))
    known |= dict.fromkeys(label for label, _ in studies if label)
    for name in against:
        if name not in known:
            raise UsageError(f"--against {name}: there are {', '.join(known)}")
    scale = 1.0 if is_regression(studies) else 100.0
    panels = by_panel(sources(studies, shown))
    named = {title: list(_of_panel(studies, mine, columns, against, scale)) for title, mine in panels.items()}
    named = {title: mine for title, mine in named.items() if mine}
    if not named:
        raise UsageError("nothing is finished yet that this figure shows; lottery run RECIPE trains it")
    for name in against:
        if all(each.against != name for mine in named.values() for each in mine):
            raise UsageError(f"--against {name}: nothing of it is finished yet; lottery run RECIPE trains it")
    figure, by_row = grid(list(named), list(dict.fromkeys(against)), width=width)
    for row, every in by_row.items():
        seen: list[float] = []
        for axes, mine in zip(every, named.values(), strict=True):
            seen += _panel(axes, [each for each in mine if each.against == row], row, scale)
        follow(every, seen)
        what = columns[0] if len(columns) == 1 else "network"
        labels_of_axis(every, f"{what} less {row}{', r2' if scale == 1.0 else ' (points)'}")
    order = [label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]]
    plain = [label for label in dict.fromkeys(order) if label != "seeds" and label not in MARKS]
    legend_below(figure, figure.axes, list(_proxies(order)), first=[*plain, "seeds", *MARKS])
    return figure


def _proxies(labels: Sequence[str]) -> Iterator[Artist]:
    """Yield grey marks for the legend's verdicts and seeds, which curves of all colours have."""
    from matplotlib.lines import Line2D

    for label in dict.fromkeys(labels):
        if label in MARKS:
            look: dict[str, Any] = {"color": LINE, "markerfacecolor": "#999999", "linestyle": "none", **MARKS[label]}
            yield Line2D([], [], label=label, **look)
        elif label == "seeds":
            yield Line2D([], [], label=label, color=LINE, alpha=0.6, marker="o", markersize=2.8, linestyle="none")


def _of_panel(
    studies: Labelled, mine: Sequence[Source], columns: Sequence[str], against: Sequence[str], scale: float
) -> Iterator[Differences]:
    """Yield what is drawn in the panels of one title, where there is a pair of networks."""
    labels, alone = {label: study for label, study in studies if label}, len(columns) == 1
    for source, other, column in product(mine, against, columns):
        own = column_names(source.study.recipe)
        if column == other or column not in own:
            continue
        if other in (DENSE, *own) or other not in labels:
            found = paired_differences(source, column, other, scale, alone=alone)
        elif labels[other] is not source.study:
            found = differences_to_study(studies, source, column, other, scale, alone=alone)
        else:
            continue
        if found.by_seed:
            yield found


def _panel(axes: Axes, mine: Sequence[Differences], row: str, scale: float) -> list[float]:
    """Draw the differences of one panel; return what was seen: those of all seeds, and 0."""
    axes.axhline(0, color="black", linewidth=0.8, label=row if row == DENSE else "_")
    compared = [each.source.study.recipe.compare for each in mine]
    margins = {None if compare is None else (compare.margin, compare.points) for compare in compared}
    if row == DENSE and len(margins) == 1 and (declared := margins.pop()) is not None:
        style: dict[str, Any] = {"color": LINE, "linewidth": 0.9, "linestyle": "--"}
        axes.axhline(-declared[0] * scale / 100, label=f"margin ({declared[1]})", **style)
    known = [density for each in mine for density in each.density.values()]
    if known:
        density_axis(axes, known)
        left, right = axes.get_xlim()
        step, ends = (left / right) ** (BESIDE[len(mine) > 1] / inches_wide(axes)), list[float]()
        for place, each in enumerate(mine):
            label = each.label if len(mine) > 1 or each.source.label else ""
            ends += _draw(axes, each, label, step, 2 * place - len(mine) + 1)
        axes.set_xlim(max(left, max(ends) * step), min(right, min(ends) / step))
    return [0.0, *(value for each in mine for by_seed in each.by_seed.values() for value in by_seed.values())]


def _draw(axes: Axes, each: Differences, label: str, step: float, aside: int) -> list[float]:
    """Draw differences, and return where they begin and end along the axis.

    Args:
        axes: The panel.
        each: The differences.
        label: What the legend calls them; the mean with its interval where it is empty.
        step: Ratio of two densities that are as far apart as a mean and its seeds.
        aside: How many such steps the curve stands aside of its densities.
    """
    at = {cell: density / step**aside for cell, density in each.density.items()}
    style: Style = each.source.style_of(each.column)
    colour = style["color"]
    for cell, by_seed in each.by_seed.items():
        spots: dict[str, Any] = {"marker": "o", "markersize": 2.8, "linestyle": "none", "markeredgewidth": 0}
        spots |= {"color": colour, "alpha": 0.45, "label": "seeds", "zorder": 2}
        axes.plot([at[cell] / step] * len(by_seed), list(by_seed.values()), **spots)
    confidence = next(iter(each.interval.values())).confidence
    means = [interval.estimate for interval in each.interval.values()]
    spread = [i.high - i.estimate if math.isfinite(i.high) else 0.0 for i in each.interval.values()]
    label = label or f"mean, {100 * confidence:g} % interval"
    bars: dict[str, Any] = {"color": colour, "linewidth": 1.2, "elinewidth": 0.8, "capsize": 2, "zorder": 3}
    bars |= {"linestyle": style["linestyle"]} | ({} if each.judged else {"marker": style["marker"], "markersize": 4})
    axes.errorbar(list(at.values()), means, yerr=spread, label=label, **bars)
    bounds = {cell: bound for cell in at if (bound := each.judged.get(cell, {}).get("bound")) is not None}
    if bounds:
        tick: dict[str, Any] = {"marker": "_", "markersize": 11, "markeredgewidth": 1.6, "linestyle": "none"}
        name, values = f"one-sided {100 * confidence:g} % bound", [each.scale * bound for bound in bounds.values()]
        axes.plot([at[cell] for cell in bounds], values, color=LINE, label=name, zorder=4, **tick)
    for cell, mean in zip(at, means, strict=True) if each.judged else ():
        verdict = each.judged.get(cell, {}).get("verdict", "")
        mark = {"color": LINE, "markerfacecolor": colour, "linestyle": "none", **MARKS.get(verdict, {"marker": "."})}
        axes.plot([at[cell]], [mean], label=verdict or "_", zorder=5, **mark)
    return [max(at.values()), min(at.values()) / step]
