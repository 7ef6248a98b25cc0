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
LINE = 0.11  # inches that each further effect of a strip adds to its height
TICKS = 5  # intervals between labels of an axis: pages have many strips
ROOM = 0.12  # of the values' range, on each side of them
MARKS: dict[str, dict[str, Any]] = {  # of an effect by its verdict
    "holds": {"marker": "o", "color": COLORS[2], "markerfacecolor": COLORS[2]},
    "fails": {"marker": "v", "color": COLORS[1], "markerfacecolor": COLORS[1]},
    "undecided": {"marker": "o", "color": "#57606a", "markerfacecolor": "white"},
}


@dataclass(frozen=True)
class Effect:
    """An effect with its verdict.

    Attributes:
        verdict: `holds`, `fails` or `undecided`.
        estimate: The effect; None where nothing may be said.
        low: The lower bound; None where it is open.
        high: The upper bound; None where it is open.
    """

    verdict: str
    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Strip:
    """The effects that one claim is about.

    Attributes:
        label: What it is called in the figure.
        effects: The effects, one below the other: several where a claim is judged for several optimizers.
        least: The least that is claimed.
        most: The most that is claimed.
        ratio: True if it is drawn on a logarithmic axis, on which 1 is no effect, and not 0.
    """

    label: str
    effects: Sequence[Effect]
    least: float | None
    most: float | None
    ratio: bool

    @property
    def height(self) -> float:
        """Its height in inches."""
        return STRIP + LINE * (len(self.effects) - 1)

    @property
    def values(self) -> list[float]:
        """All values that the axis has to show."""
        effects = [value for each in self.effects for value in (each.estimate, each.low, each.high)]
        named = (*effects, self.least, self.most, 1.0 if self.ratio else 0.0)
        return [value for value in named if value is not None and (value > 0 or not self.ratio)]


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
        heights = [strip.height for strip in strips]
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        places = figure.add_gridspec(len(strips), 1, height_ratios=heights)
        for number, strip in enumerate(strips):
            _draw(figure.add_subplot(places[number]), strip)
    return figure


def _draw(axes: Axes, strip: Strip) -> None:
    low, high = _range(strip.values, strip.ratio)
    if strip.ratio:
        axes.set_xscale("log")
    _label(axes, low, high, strip.ratio)
    axes.set_xlim(low, high)
    axes.set_ylim(-len(strip.effects), 1)
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
    axes.axvline(1.0 if strip.ratio else 0.0, color="#888888", linewidth=0.7)
    for limit in (strip.least, strip.most):
        if limit is not None:
            axes.axvline(limit, color=COLORS[0], linewidth=1, linestyle="--")
    for place, effect in enumerate(strip.effects):
        _draw_effect(axes, effect, -place, (low, high))
    if all(effect.estimate is None for effect in strip.effects):
        said: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center", "color": "#57606a"}
        axes.text(0.5, 0.5, "nothing may be said", **said)


def _draw_effect(axes: Axes, effect: Effect, y: float, ends: tuple[float, float]) -> None:
    if effect.estimate is None:
        return
    mark = MARKS[effect.verdict]
    low, high = (end if bound is None else bound for end, bound in zip(ends, (effect.low, effect.high), strict=True))
    axes.plot((low, high), (y, y), color=mark["color"], linewidth=1.6)
    for end, bound, arrow in zip(ends, (effect.low, effect.high), "<>", strict=True):
        if bound is None:
            axes.plot([end], [y], marker=arrow, color=mark["color"], markersize=5, clip_on=False)
    axes.plot([effect.estimate], [y], markersize=6, linestyle="none", **mark)


def _label(axes: Axes, low: float, high: float, ratio: bool) -> None:
    """Label an axis with a few plain numbers: a logarithmic one of less than a decade as well."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if ratio:
        plain_labels(axes.xaxis)
        axes.xaxis.set_minor_locator(NullLocator())
    if not ratio or high < 10 * low:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=TICKS, steps=[1, 2, 5, 10]))
    elif high > 1000 * low:
        axes.xaxis.set_major_locator(LogLocator(numticks=TICKS))


def _range(values: Sequence[float], ratio: bool) -> tuple[float, float]:
    """Return the ends of an axis that has all values, with room beside them."""
    scaled = [math.log(value) for value in values] if ratio else list(values)
    low, high = min(scaled), max(scaled)
    room = ROOM * (high - low) or ROOM
    return (math.exp(low - room), math.exp(high + room)) if ratio else (low - room, high + room)
