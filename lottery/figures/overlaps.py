"""The figure of what masks have in common, against chance."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from lottery.errors import UsageError
from lottery.figures.colors import Style, optimizer_styles, pair_style
from lottery.figures.selection import ALL as EVERYTHING
from lottery.figures.selection import Selection
from lottery.figures.style import density_axis, finish, follow, panels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study

Pair = tuple[str, ...]  # the optimizer of two seeds, or two optimizers


def overlap(study: Study, shown: Selection = EVERYTHING, width: float | None = None) -> Figure:
    """Draw the share of weights that two masks of equal density have in common, against density.

    The share that chance would give is dotted. A panel for the masks of different seeds, a curve for each optimizer,
    and one for those of different optimizers within a seed, a curve for each pair. A colour is one optimizer's in all
    panels: the curve of a pair is striped in the colours of both.

    Raises:
        UsageError: There is no pair, or nothing that is selected.
    """
    from matplotlib.lines import Line2D

    from lottery.analysis.layers import ALL
    from lottery.analysis.mask_overlap import overlaps as rows

    optimizers, (levels,) = shown.optimizers_of([study]), shown.levels_of([study])
    by_panel: dict[str, dict[Pair, list[tuple[float, float, float]]]] = {}
    for row in rows(study):
        pair: Pair = (row["optimizer"],) if row["other"] is None else (row["optimizer"], row["other"])
        asked = not (shown.levels or shown.densities) or row["level"] in levels
        if row["layer"] != ALL or row["overlap"] is None or not asked or not set(pair) <= set(optimizers):
            continue
        title = ", ".join(filter(None, (f"between {row['between']}", row.get("rewind"))))
        seen = row["density"], row["overlap"], row["overlap_chance"]
        by_panel.setdefault(title, {}).setdefault(pair, []).append(seen)
    if not by_panel:
        raise UsageError(f"{study.recipe.name}: has no two tickets of one level yet whose masks could overlap")
    styles = overlap_styles(study.recipe)
    figure, every = panels(list(by_panel), width=width)
    shares: list[float] = []
    for axes, named in zip(every, by_panel.values(), strict=True):
        for pair, points in named.items():
            style = styles[pair]
            where, shared, chance = zip(*sorted(points, reverse=True), strict=True)
            shares += [100 * value for value in (*shared, *chance)]
            axes.plot(where, [100 * value for value in shared], label=" and ".join(pair), **style)
            axes.plot(where, [100 * value for value in chance], color=style["color"], linestyle=":", linewidth=1)
        density_axis(axes, [point[0] for points in named.values() for point in points])
    follow(every, shares, percent=True)
    every[0].set_ylim(bottom=0)  # of all panels, and after all curves: it ends the search for limits
    finish(figure, every, "weights in common (%)", [Line2D([], [], color="black", linestyle=":", label="by chance")])
    return figure


def overlap_styles(recipe: Recipe) -> Mapping[Pair, Style]:
    """Return the style of each optimizer and of each pair of them, which are those of the whole recipe."""
    single = optimizer_styles(recipe)
    pairs = enumerate(combinations(single, 2))
    return {(name,): style for name, style in single.items()} | {
        pair: pair_style(single[pair[0]], single[pair[1]], number) for number, pair in pairs
    }
