"""Curves of profiles, with holes, and the legend that they share.

A value that is not finite is a hole: no mark, and no line across it. Every point has a mark, so that one between two
holes is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.figures.style import COLORS, DASHES, MARKERS, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POLICY_DASHES = {"interpolate": "-", "reset": "--", "none": "-"}


def seed_style(number: int) -> dict[str, Any]:
    """Return the style of the curve of a seed, by its number."""
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def shade(number: int, count: int) -> dict[str, Any]:
    """Return the style of a curve of several in order, from dark to light; marks tell them apart in grey."""
    import matplotlib

    if count == 1:
        return {"color": COLORS[0], "marker": MARKERS[0]}
    share = 0.85 * number / (count - 1)
    return {"color": matplotlib.colormaps["viridis"](share), "marker": MARKERS[number % len(MARKERS)]}


def thin(style: Mapping[str, Any]) -> dict[str, Any]:
    """Return a style with the line and marks of profiles, which have many points."""
    return {"markersize": 3, "linewidth": 1.1, **style}


def legend(figure: Figure, panels: Mapping[str, Sequence[Axes]], policies: Iterable[str] = ()) -> None:
    """Draw one legend for all panels, with the dashes of the policies for running statistics where they are several."""
    from matplotlib.lines import Line2D

    several = [policy for policy in policies if policy != "none"]
    also = [
        Line2D([], [], color="black", linestyle=POLICY_DASHES.get(policy, ":"), label=f"batch norm: {policy}")
        for policy in several
        if len(several) > 1
    ]
    legend_below(figure, [axes for every in panels.values() for axes in every], also)
