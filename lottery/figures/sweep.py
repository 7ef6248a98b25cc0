"""Figures of a sweep: a measured quantity against one of its keys, a line for the values of the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import density_label
from lottery.analysis.sweep_values import MEASURES, Observed, Place, observed
from lottery.errors import UsageError
from lottery.figures.style import TICK_GAP, finish, follow, inches_wide, label_along, line_style, panels, text_inches
from lottery.registry import suggest
from lottery.statistics.paired import t_interval
from lottery.values import in_flow
from lottery.words import short_keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lottery.recipe.sweep import Point, Sweep
    from lottery.results.sweep import SweptStudy

LONGEST_TICK = 22  # letters
MARGIN = 0.05  # of the width of an axis, at both of its ends
DECADES = 1.2  # between the smallest and the largest number, from which on an axis is logarithmic
CAPTION = (
    "{what} against {key}: means over seeds with 95 % t intervals. Hollow where some seeds diverged and have no value,"
    " a cross at the bottom where all did."
)


def _names(values: Iterable[Any]) -> dict[str, str]:
    """Return by each value, as a recipe writes it, what it is called: an entry by its name where that is enough."""
    written = {in_flow(each): str(each.get("name", "")) if isinstance(each, dict) else in_flow(each) for each in values}
    called = list(written.values())
    names = {text: name if name and called.count(name) == 1 else text for text, name in written.items()}
    return {text: name if len(name) <= LONGEST_TICK else f"{name[: LONGEST_TICK - 1]}…" for text, name in names.items()}


@dataclass(frozen=True)
class _Axis:
    """The swept key along the axis: where each of its values stands, and what it is called there."""

    key: str
    places: Mapping[str, float]  # by the value as a recipe writes it
    names: Mapping[str, str]  # by the same
    numbers: bool
    logarithmic: bool

    def place(self, point: Point) -> float:
        """Return where a point of the sweep stands."""
        return self.places[in_flow(point.values[self.key])]


def sweep_figure(
    found: SweptStudy,
    against: str = "",
    measure: str = "accuracy",
    networks: Sequence[str] = (),
    width: float | None = None,
) -> Figure:
    """Draw a measured quantity against a swept key; a panel for each network, a line for the values of other keys.

    Args:
        found: What is finished of the sweep.
        against: The key; that with the most values where none is given, of those the first with numbers.
        measure: One of `analysis.sweep_values.MEASURES`, or `LABEL.VALUE` of an analysis.
        networks: `dense`, `ticket`, a control's label, or the networks of the analysis; the dense ones and the tickets,
            or all of the analysis, where none are given. Tickets and controls are those of the last level.
        width: The figure's width in inches, see `sizes.width_of`.

    Raises:
        UsageError: There is no such key, measure or network, or nothing is finished.
    """
    sweep = found.sweep
    axis = _axis(sweep, against)
    lines = _lines(sweep, axis.key)
    seen = [observed(study, measure) for study in found.studies]
    shown = _shown(seen, networks, measure)
    figure, every = panels([_title(place, seen) for place in shown], width=width)
    regression = any("test_r2" in (r.at("end") or {}) for study in found.studies for r in study.found.values())
    scale = 100.0 if measure == "accuracy" and not regression else 1.0
    for axes, place in zip(every, shown, strict=True):
        for index, (label, points) in enumerate(lines.items()):
            step = 0.0 if axis.numbers else min(0.1, 0.8 / len(lines))  # or bars would cover one another
            aside = step * (index - (len(lines) - 1) / 2)
            drawn = {axis.place(sweep.points[at]) + aside: seen[at].get(place) for at in points}
            style = line_style(index) | ({} if axis.numbers else {"linestyle": "none"})
            _line(axes, {x: each for x, each in drawn.items() if each}, label, style, scale)
        _label(axes, axis)
    values = [scale * v for point in seen for place in shown if place in point for v in point[place].values.values()]
    follow(every, values, percent=scale == 100.0)
    what = MEASURES[measure][0] if measure in MEASURES else measure
    what = "test r2" if measure == "accuracy" and regression else what
    finish(figure, every, f"{what} (%)" if scale == 100.0 else what)
    figure.set_label(CAPTION.format(what=what.capitalize(), key=axis.key))
    return figure


def _axis(sweep: Sweep, against: str) -> _Axis:
    if not sweep.keys:
        raise UsageError(f"{sweep.name}: sweeps nothing that could be an axis; add `sweep`")
    if against and against not in sweep.keys:
        raise UsageError(f"{against}: is not swept{suggest(against, sweep.keys)}; swept are {', '.join(sweep.keys)}")
    values = {key: {in_flow(point.values[key]): point.values[key] for point in sweep.points} for key in sweep.keys}
    numeric = {key for key, each in values.items() if all(map(_number, each.values()))}
    key = against or max(sweep.keys, key=lambda key: (len(values[key]), key in numeric))
    if key not in numeric:
        in_order = {text: float(place) for place, text in enumerate(values[key])}
        return _Axis(key, in_order, _names(values[key].values()), False, False)
    places = {name: float(value) for name, value in values[key].items()}
    low, high = min(places.values()), max(places.values())
    return _Axis(key, places, _names(values[key].values()), True, low > 0 and math.log10(high / low) >= DECADES)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _lines(sweep: Sweep, against: str) -> dict[str, list[int]]:
    """Return the points of each line by its label: the other keys, but those that go with the axis (`zip`)."""
    where: dict[str, set[str]] = {key: set() for key in sweep.keys}
    for point in sweep.points:
        for key in sweep.keys:
            where[key].add(f"{in_flow(point.values[against])} {in_flow(point.values[key])}")
    count = len(where[against])
    others = [key for key in sweep.keys if len(where[key]) > count]
    short, lines = short_keys(sweep.keys), dict[str, list[int]]()
    called = {key: _names(point.values[key] for point in sweep.points) for key in others}
    for at, point in enumerate(sweep.points):
        label = ", ".join(f"{short[key]} {called[key][in_flow(point.values[key])]}" for key in others)
        lines.setdefault(label, []).append(at)
    return lines


def _shown(seen: Sequence[Mapping[Place, Observed]], networks: Sequence[str], measure: str) -> list[Place]:
    """Return the networks that have a panel."""
    known = dict.fromkeys(place for point in seen for place, each in point.items() if each.values or each.diverged)
    names = dict.fromkeys(name for _, name, _ in known)
    for name in networks:
        if known and name not in names:
            raise UsageError(f"network {name!r}: there are {', '.join(names)}")
    wanted = networks or [name for name in names if measure not in MEASURES or name in ("dense", "ticket")]
    last = {name: max(level for _, other, level in known if other == name) for name in names}
    return [place for place in known if place[1] in wanted and (measure not in MEASURES or place[2] == last[place[1]])]


def _title(place: Place, seen: Sequence[Mapping[Place, Observed]]) -> str:
    whose, name, level = place
    left = {density_label(point[place].density or 0.0) for point in seen if place in point}
    where = "" if not level else f"level {level}" if len(left) > 1 or "0 %" in left else f"{left.pop()} of the weights"
    return ", ".join(filter(None, (whose, name, where)))


def _line(axes: Axes, points: Mapping[float, Observed], label: str, style: Mapping[str, Any], scale: float) -> None:
    own = {
        x: t_interval([scale * value for value in each.values.values()]) for x, each in points.items() if each.values
    }
    own = dict(sorted(own.items()))
    # one seed, or few that are all equal, have no interval: a bar of no length
    spread = [each.high - each.estimate if math.isfinite(each.high) else 0.0 for each in own.values()]
    means = [each.estimate for each in own.values()]
    axes.errorbar(list(own), means, yerr=spread, label=label, capsize=1.5, elinewidth=0.7, **style)
    marker = {"marker": style["marker"], "markersize": style["markersize"], "linestyle": "none", "zorder": 5}
    hollow = [(x, each.estimate) for x, each in own.items() if points[x].diverged]
    if hollow:
        axes.plot(*zip(*hollow, strict=True), markerfacecolor="white", color=style["color"], **marker)
    lost = [x for x, each in points.items() if each.diverged and not each.values]
    if lost:
        floor = axes.get_xaxis_transform()
        axes.plot(lost, [0.03] * len(lost), "x", color=style["color"], markersize=5, transform=floor)


def _label(axes: Axes, axis: _Axis) -> None:
    """Label the axis with the values of its key; of numbers those that have room."""
    from matplotlib.ticker import FixedLocator, NullLocator

    label_along(axes, axis.key)
    if not axis.numbers:
        names = [axis.names[text] for text in axis.places]
        turned: Any = (
            {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
            if sum(map(text_inches, names)) > 0.8 * inches_wide(axes)
            else {}
        )
        axes.set_xticks(list(axis.places.values()), names, **turned)
        axes.set_xlim(-0.5, len(names) - 0.5)
        return
    along = math.log if axis.logarithmic else float
    low, high = min(axis.places.values()), max(axis.places.values())
    width = (along(high) - along(low)) or 1.0
    ticks = dict[str, float]()
    for name, x in sorted(axis.places.items(), key=lambda each: each[1]):
        wide = [text_inches(each) for each in (name, *list(ticks)[-1:])]
        apart = inches_wide(axes) * (along(x) - along(list(ticks.values())[-1])) / width if ticks else 0.0
        if not ticks or apart >= TICK_GAP + sum(wide) / 2:
            ticks[name] = x
    if axis.logarithmic:
        axes.set_xscale("log")
        spread = (high / low) ** MARGIN
        axes.set_xlim(low / spread, high * spread)
    else:
        axes.set_xlim(low - MARGIN * width, high + MARGIN * width)
    axes.xaxis.set_major_locator(FixedLocator(list(ticks.values())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(ticks.values()), list(ticks))
