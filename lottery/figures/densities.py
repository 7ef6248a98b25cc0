"""Figures with the density as their axis: accuracy, early stopping, layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.cells import CellKey, Cells, accuracies, censored, dense, densities, steps
from lottery.analysis.labels import whose
from lottery.errors import UsageError
from lottery.figures.selection import ALL as EVERYTHING
from lottery.figures.selection import Selection
from lottery.figures.sources import Labelled, Source, by_panel, sources
from lottery.figures.style import density_axis, finish, follow, line_style, panels, percent_axis
from lottery.statistics.paired import Interval, t_interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.results.study import Study


def accuracy(studies: Labelled, shown: Selection = EVERYTHING, width: float | None = None) -> Figure:
    """Draw mean test accuracy over seeds against density, with two-sided 95 % t intervals of each mean (not paired).

    The dense network is a band over all densities. A panel for each optimizer and rewind point; several studies stand
    in one panel for each optimizer, with their tickets where no columns are selected.

    Args:
        studies: The studies with their labels.
        shown: What of them is drawn.
        width: The figure's width in inches, see `sizes.width_of`.

    Raises:
        UsageError: Nothing is finished, or there is nothing that is selected.
    """
    regression = is_regression(studies)
    scale = 1.0 if regression else 100.0
    figure, every, seen = _draw_columns(studies, accuracies, scale, shown, width)
    follow(every, seen, percent=not regression)
    finish(figure, every, "test r2" if regression else "test accuracy (%)")
    return figure


def early_stop(studies: Labelled, shown: Selection = EVERYTHING, width: float | None = None) -> Figure:
    """Draw the mean early-stop step over seeds against density, as `accuracy` does.

    Marks are hollow where a training was still improving at its last step, so that the mean is too early.

    Raises:
        UsageError: A recipe has no validation split, nothing is finished, or there is nothing that is selected.
    """
    for _, study in studies:
        if not study.recipe.data.validation:
            raise UsageError(f"{study.recipe.name}: has no validation split to stop early by; set data.validation")
    figure, every, seen = _draw_columns(studies, steps, 1.0, shown, width, mark_censored=True)
    follow(every, seen)
    every[0].set_ylim(bottom=0)
    finish(figure, every, "early-stop step (hollow: censored)")
    return figure


def layers(study: Study, shown: Selection = EVERYTHING, width: float | None = None) -> Figure:
    """Draw the density of each layer against the density of the whole network, mean over seeds."""
    from lottery.analysis.layers import ALL
    from lottery.analysis.layers import layers as rows

    optimizers, (levels,) = shown.optimizers_of([study]), shown.levels_of([study])
    named: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows(study):
        if row["optimizer"] in optimizers and row["level"] in levels:
            named.setdefault(whose(row), {}).setdefault(row["layer"], {})[row["level"]] = row["density"]
    figure, every = panels(list(named), width=width)
    for axes, by_layer in zip(every, named.values(), strict=True):
        whole = by_layer[ALL]
        for index, (layer, values) in enumerate((name, each) for name, each in by_layer.items() if name != ALL):
            style = line_style(index)
            axes.plot([whole[n] for n in values], [100 * value for value in values.values()], label=layer, **style)
        axes.plot(
            list(whole.values()),
            [100 * value for value in whole.values()],
            color="black",
            label="all layers",
            zorder=1.5,
        )
        percent_axis(axes)
        density_axis(axes, list(whole.values()))
    finish(figure, every, "weights left in the layer (%)")
    return figure


def is_regression(studies: Labelled) -> bool:
    """Return True if networks predict numbers, which r2 is told of in place of accuracy."""
    return any("test_r2" in (record.at("end") or {}) for _, study in studies for record in study.found.values())


def _draw_columns(
    studies: Labelled,
    values_of: Callable[[Study], Cells],
    scale: float,
    shown: Selection,
    width: float | None,
    *,
    mark_censored: bool = False,
) -> tuple[Figure, list[Axes], list[float]]:
    """Return a figure with a curve for each column, its panels, and the values of all seeds that are in it."""
    names = shown.columns_of([study for _, study in studies], ("ticket",) if len(studies) > 1 else ())
    named = by_panel(sources(studies, shown))
    figure, every = panels(list(named), width=width)
    seen: list[float] = []
    for axes, mine in zip(every, named.values(), strict=True):
        seen += _dense(axes, mine, [dense(values_of(each.study), each.cells[0]) for each in mine], scale)
        for source in mine:
            known, cells = densities(source.study), values_of(source.study)
            for name in names:
                points = {at: cells[at][name] for at in source.cells if at[2] and cells.get(at, {}).get(name)}
                if points:
                    hollow = {at for at in points if mark_censored and censored(source.study, at, name)}
                    label = source.named(name, alone=len(names) == 1)
                    _line(axes, known, points, label, source.style_of(name), scale, hollow)
                    seen += [scale * value for by_seed in points.values() for value in by_seed.values()]
        density_axis(axes, [densities(source.study)[at] for source in mine for at in source.cells])
    return figure, every, seen


def _dense(axes: Axes, mine: Sequence[Source], values: Sequence[Mapping[int, float]], scale: float) -> list[float]:
    """Draw the dense network as a band; those of several studies that are not the same as a line in each's colour."""
    known = [each for each in values if each]
    if known and all(each == known[0] for each in known):
        _dense_band(axes, known[0], scale)
    else:
        for source, each in zip(mine, values, strict=True):
            if each:
                style: Any = {"color": (source.style or {}).get("color", "black"), "linewidth": 0.9, "linestyle": ":"}
                axes.axhline(_interval(each, scale).estimate, label=f"dense, {source.label}", **style)
    return [scale * value for each in known for value in each.values()]


def _dense_band(axes: Axes, values: Mapping[int, float], scale: float) -> None:
    interval = _interval(values, scale)
    axes.axhline(interval.estimate, color="black", linewidth=1, label="dense")
    if math.isfinite(interval.high):
        axes.axhspan(interval.low, interval.high, color="black", alpha=0.1, linewidth=0)


def _line(
    axes: Axes,
    known: Mapping[CellKey, float],
    points: Mapping[CellKey, Mapping[int, float]],
    label: str,
    style: Mapping[str, Any],
    scale: float,
    hollow: set[CellKey],
) -> None:
    at = [known[cell] for cell in points]
    intervals = [_interval(values, scale) for values in points.values()]
    means = [interval.estimate for interval in intervals]
    # one seed, or few that are all equal, have no interval: a bar of no length
    spread = [i.high - i.estimate if math.isfinite(i.high) else 0.0 for i in intervals]
    axes.errorbar(at, means, yerr=spread, label=label, capsize=1.5, elinewidth=0.7, **style)
    empty = [(known[cell], mean) for cell, mean in zip(points, means, strict=True) if cell in hollow]
    if empty:
        marker = {"marker": style["marker"], "markersize": style["markersize"], "linestyle": "none"}
        axes.plot(*zip(*empty, strict=True), markerfacecolor="white", color=style["color"], zorder=5, **marker)


def _interval(values: Mapping[int, float], scale: float) -> Interval:
    return t_interval([scale * value for value in values.values()])
