"""A figure of claims: for each the effect with the interval that decides, beside the limits that are claimed of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.figures.style import COLORS, FONT, plain_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, STRIP = 5.2, 0.52  # inches
ROOM = 0.12  # of the values' range, on each side of them
MARKS: dict[str, dict[str, Any]] = {  # of an effect by its verdict
    "holds": {"marker": "o", "color": COLORS[2], "markerfacecolor": COLORS[2]},
    "fails": {"marker": "v", "color": COLORS[1], "markerfacecolor": COLORS[1]},
    "undecided": {"marker": "o", "color": "#57606a", "markerfacecolor": "white"},
}


@dataclass(frozen=True)
class Strip:
    """One effect.

    Attributes:
        label: What it is called in the figure.
        verdict: `holds`, `fails` or `undecided`.
        estimate: The effect; None where nothing may be said.
        low: The lower bound; None where it is open.
        high: The upper bound; None where it is open.
        least: The least that is claimed.
        most: The most that is claimed.
        ratio: True if it is drawn on a logarithmic axis, on which 1 is no effect, and not 0.
    """

    label: str
    verdict: str
    estimate: float | None
    low: float | None
    high: float | None
    least: float | None
    most: float | None
    ratio: bool


def claim_strips(strips: Sequence[Strip]) -> Figure:
    """Draw one strip below the other, each on an axis of its own, as units differ.

    What is claimed is shaded; the interval goes to the edge where a bound is open; the mark says the verdict.

    Raises:
        UsageError: There is none.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not strips:
        raise UsageError("there is no claim to draw")
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(WIDTH, STRIP * len(strips)), layout="constrained")
        for number, strip in enumerate(strips, start=1):
            _draw(figure.add_subplot(len(strips), 1, number), strip)
    return figure


def _draw(axes: Axes, strip: Strip) -> None:
    neutral = 1.0 if strip.ratio else 0.0
    named = (strip.estimate, strip.low, strip.high, strip.least, strip.most, neutral)
    low, high = _range([value for value in named if value is not None and (value > 0 or not strip.ratio)], strip.ratio)
    if strip.ratio:
        axes.set_xscale("log")
        _label(axes, low, high)
    axes.set_xlim(low, high)
    axes.set_ylim(-1, 1)
    axes.set_yticks([])
    axes.set_ylabel(strip.label, rotation=0, ha="right", va="center")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.axvspan(
        low if strip.least is None else strip.least,
        high if strip.most is None else strip.most,
        color=COLORS[5],
        alpha=0.25,
        lw=0,
    )
    axes.axvline(neutral, color="#888888", linewidth=0.7)
    for limit in (strip.least, strip.most):
        if limit is not None:
            axes.axvline(limit, color=COLORS[0], linewidth=1, linestyle="--")
    mark = MARKS[strip.verdict]
    if strip.estimate is None:
        axes.text(0.5, 0.5, "nothing may be said", transform=axes.transAxes, ha="center", va="center", color="#57606a")
        return
    ends = low if strip.low is None else strip.low, high if strip.high is None else strip.high
    axes.plot(ends, (0, 0), color=mark["color"], linewidth=1.6)
    for end, value, arrow in ((low, strip.low, "<"), (high, strip.high, ">")):
        if value is None:
            axes.plot([end], [0], marker=arrow, color=mark["color"], markersize=5, clip_on=False)
    axes.plot([strip.estimate], [0], markersize=6, linestyle="none", **mark)


def _label(axes: Axes, low: float, high: float) -> None:
    """Label a logarithmic axis, of less than a decade as well, with a few plain numbers."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    plain_labels(axes.xaxis)
    if high < 10 * low:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_minor_locator(NullLocator())


def _range(values: Sequence[float], ratio: bool) -> tuple[float, float]:
    """Return the ends of an axis that has all values, with room beside them."""
    scaled = [math.log(value) for value in values] if ratio else list(values)
    low, high = min(scaled), max(scaled)
    room = ROOM * (high - low) or ROOM
    return (math.exp(low - room), math.exp(high + room)) if ratio else (low - room, high + room)
