"""Curves of profiles, with holes, and the legend that they share.

A value that is not finite is a hole: no mark, and no line across it. Every point has a mark, so that one between two
holes is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.figures.style import COLORS, DASHES, MARKERS, legend_below, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = "reset"  # the policy for running statistics that is broken where another is beside it


def dashes(policy: str, several: bool) -> dict[str, Any]:
    """Return the dashes of a policy for running statistics; those of a single one are solid."""
    return {"linestyle": "--" if several and policy == DASHED else "-"}


def seed_style(number: int) -> dict[str, Any]:
    """Return the style of the curve of a seed, by its number; two of one colour have marks of their own."""
    look = line_style(number)
    return {"color": look["color"], "marker": look["marker"], "linestyle": DASHES[number % len(DASHES)]}


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


def legend(figure: Figure, panels: Mapping[str, Sequence[Axes]], policies: Sequence[str] = ()) -> None:
    """Draw one legend for all panels, with the dashes of the policies for running statistics where they are several."""
    from matplotlib.lines import Line2D

    black: dict[str, Any] = {"color": "black"}
    also = [Line2D([], [], label=f"batch norm: {policy}", **black, **dashes(policy, True)) for policy in policies]
    every = [axes for several in panels.values() for axes in several]
    legend_below(figure, every, also if len(policies) > 1 else ())
