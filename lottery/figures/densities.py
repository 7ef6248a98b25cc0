"""Figures with the density as their axis: accuracy, early stopping, layers, overlap of masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lottery.analysis.cells import CellKey, Cells, accuracies, censored, dense, densities, steps
from lottery.analysis.labels import head, optimizer_labels, rewind_label, whose
from lottery.errors import UsageError
from lottery.figures.style import COLORS, density_axis, finish, line_style, panels, percent_axis
from lottery.statistics.paired import Interval, t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.results.study import Study


def accuracy(study: Study) -> Figure:
    """Draw mean test accuracy over seeds against density, with two-sided 95 % t intervals of each mean (not paired).

    The dense network is a band over all densities. A panel for each optimizer and rewind point.
    """
    regression = any("test_r2" in (record.at("end") or {}) for record in study.found.values())
    figure, every = _draw_columns(study, accuracies(study), scale=1.0 if regression else 100.0)
    finish(figure, every, "test r2" if regression else "test accuracy (%)")
    return figure


def early_stop(study: Study) -> Figure:
    """Draw the mean early-stop step over seeds against density, as `accuracy` does.

    Marks are hollow where a training was still improving at its last step, so that the mean is too early.

    Raises:
        UsageError: The recipe has no validation split.
    """
    if not study.recipe.data.validation:
        raise UsageError(f"{study.recipe.name}: has no validation split to stop early by; set data.validation")
    figure, every = _draw_columns(study, steps(study), scale=1.0, mark_censored=True)
    for axes in every:
        axes.set_ylim(bottom=0)
    finish(figure, every, "early-stop step (hollow: censored)")
    return figure


def layers(study: Study) -> Figure:
    """Draw the density of each layer against the density of the whole network, mean over seeds."""
    from lottery.analysis.layers import ALL
    from lottery.analysis.layers import layers as rows

    by_panel: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows(study):
        by_panel.setdefault(whose(row), {}).setdefault(row["layer"], {})[row["level"]] = row["density"]
    figure, every = panels(list(by_panel))
    for axes, named in zip(every, by_panel.values(), strict=True):
        whole = named[ALL]
        for index, (layer, values) in enumerate((name, each) for name, each in named.items() if name != ALL):
            style = line_style(index)
            axes.plot([whole[n] for n in values], [100 * value for value in values.values()], label=layer, **style)
        axes.plot(list(whole.values()), [100 * value for value in whole.values()], color="black", label="all layers")
        percent_axis(axes)
        density_axis(axes, list(whole.values()))
    finish(figure, every, "weights left in the layer (%)")
    return figure


def overlap(study: Study) -> Figure:
    """Draw the share of weights that two masks of equal density have in common, against density.

    The share that chance would give is dotted. A panel for the masks of different seeds, a curve for each optimizer,
    and one for those of different optimizers within a seed, a curve for each pair; a colour is that of one pair in all
    panels.

    Raises:
        UsageError: There is no pair.
    """
    from matplotlib.lines import Line2D

    from lottery.analysis.layers import ALL
    from lottery.analysis.mask_overlap import overlaps as rows

    by_panel: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for row in rows(study):
        if row["layer"] != ALL or row["overlap"] is None:
            continue
        title = ", ".join(filter(None, (f"between {row['between']}", row.get("rewind"))))
        pair = row["optimizer"] if row["between"] == "seeds" else f"{row['optimizer']} and {row['other']}"
        seen = row["density"], row["overlap"], row["overlap_chance"]
        by_panel.setdefault(title, {}).setdefault(pair, []).append(seen)
    if not by_panel:
        raise UsageError(f"{study.recipe.name}: has no two tickets of one level yet whose masks could overlap")
    pairs = dict.fromkeys(pair for named in by_panel.values() for pair in named)
    styles = {pair: line_style(index) for index, pair in enumerate(pairs)}
    figure, every = panels(list(by_panel))
    for axes, named in zip(every, by_panel.values(), strict=True):
        for pair, points in named.items():
            style = styles[pair]
            where, shared, chance = zip(*sorted(points, reverse=True), strict=True)
            axes.plot(where, [100 * value for value in shared], label=pair, **style)
            axes.plot(where, [100 * value for value in chance], color=style["color"], linestyle=":", linewidth=1)
        density_axis(axes, [point[0] for points in named.values() for point in points])
    every[0].set_ylim(bottom=0)  # of all panels, and after all curves: it ends the search for limits
    finish(figure, every, "weights in common (%)", [Line2D([], [], color="black", linestyle=":", label="by chance")])
    return figure


def _draw_columns(
    study: Study, cells: Cells, *, scale: float, mark_censored: bool = False
) -> tuple[Figure, list[Axes]]:
    recipe, known = study.recipe, densities(study)
    labels = optimizer_labels(recipe.train.optimizer)
    cell_keys: dict[tuple[int, str], list[CellKey]] = {}
    for at in sorted(known, key=lambda at: (at[0], [rewind_label(r) for r in recipe.rewind].index(at[1]), at[2])):
        cell_keys.setdefault((at[0], at[1]), []).append(at)
    figure, every = panels([whose(head(recipe, rewind, optimizer=labels[index])) for index, rewind in cell_keys])
    names = ["ticket", *(branch.label for branch in recipe.branches)]
    for axes, mine in zip(every, cell_keys.values(), strict=True):
        _dense_band(axes, dense(cells, mine[0]), scale)
        for number, name in enumerate(names):
            points = {at: cells[at][name] for at in mine if at[2] and cells.get(at, {}).get(name)}
            hollow = {at for at in points if mark_censored and censored(study, at, name)}
            _line(axes, known, points, name, number, scale, hollow)
        density_axis(axes, [known[at] for at in mine])
    return figure, every


def _dense_band(axes: Axes, values: Mapping[int, float], scale: float) -> None:
    if not values:
        return
    interval = _interval(values, scale)
    axes.axhline(interval.estimate, color="black", linewidth=1, label="dense")
    if math.isfinite(interval.high):
        axes.axhspan(interval.low, interval.high, color="black", alpha=0.1, linewidth=0)


def _line(
    axes: Axes,
    known: Mapping[CellKey, float],
    points: Mapping[CellKey, Mapping[int, float]],
    name: str,
    number: int,
    scale: float,
    hollow: set[CellKey],
) -> None:
    if not points:
        return
    style, at = line_style(number), [known[cell] for cell in points]
    intervals = [_interval(values, scale) for values in points.values()]
    means = [interval.estimate for interval in intervals]
    # one seed, or few that are all equal, have no interval: a bar of no length
    spread = [i.high - i.estimate if math.isfinite(i.high) else 0.0 for i in intervals]
    axes.errorbar(at, means, yerr=spread, label=name, capsize=1.5, elinewidth=0.7, **style)
    empty = [(known[cell], mean) for cell, mean in zip(points, means, strict=True) if cell in hollow]
    if empty:
        marker = {"marker": style["marker"], "markersize": style["markersize"], "linestyle": "none"}
        axes.plot(
            *zip(*empty, strict=True), markerfacecolor="white", color=COLORS[number % len(COLORS)], zorder=5, **marker
        )


def _interval(values: Mapping[int, float], scale: float) -> Interval:
    return t_interval([scale * value for value in values.values()])
