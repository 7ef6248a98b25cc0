"""Pictures of planes: contours, or surfaces in three dimensions, with the states or the training's path in them.

Each point of the grid is a square of its own colour; one that is not finite is a hole, hatched, and nothing is put in
its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lottery.errors import UsageError
from lottery.figures.drawing import Drawn, Request, finite, grouped, title
from lottery.figures.paths import slice_figure, unit_along
from lottery.figures.sizes import LEAST
from lottery.figures.style import FONT, MARKERS, grid, label_along, label_up, legend_below, plain_labels
from lottery.formats.numbers import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize

    from lottery.analysis.profiles import ProfileRow

Grid = NDArray[np.float64]
LOG_FROM = 10.0  # ratio of the highest to the lowest value from which colours are logarithmic
LINES = 6  # contour lines, about: as many as have room for their numbers
NARROW_PLANE = 2.6  # inches of a panel
NARROWEST = 0.5  # height of a plane as a share of its width, below which both axes have scales of their own


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane that was measured.

    Attributes:
        title: Title of its panel.
        x: Coordinates of the grid along the first direction (n,).
        y: Coordinates along the second (m,).
        values: Values at the points (m, n), NaN for a hole.
        states: Rows of the states, in order.
        explained: Shares of the variance along both directions; none where the directions are no components.
    """

    title: str
    x: Grid
    y: Grid
    values: Grid
    states: Sequence[ProfileRow]
    explained: Sequence[float]


def plane_figure(request: Request) -> Drawn:
    """Draw each plane of one seed as contours, or as a surface; profiles of one dimension as slices.

    Raises:
        UsageError: Several measures are asked for, or a surface of slices.
    """
    rows = [row for cell in request.cells for each in cell.found for row in each.profile if row["kind"] == "grid"]
    if all(row["y"] == 0 for row in rows):
        if request.solid:
            raise UsageError(f"the analysis {request.analysis.label} has slices of one dimension; leave --3d out")
        return slice_figure(request)
    if len(request.measures) > 1:
        raise UsageError("a plane shows one measure; draw a picture for each")
    (measure,) = request.measures
    planes = planes_of(request, measure)
    if not planes:
        raise UsageError(f"{request.analysis.label}: no plane of seed {request.seed} is finished")
    scale = _colours(planes)
    figure, named = grid(
        [plane.title for plane in planes],
        [measure],
        share_y=False,
        projection="3d" if request.solid else None,
        width=request.width,
        narrowest=NARROW_PLANE,
    )
    drawn: Any = None
    with _font():
        for axes, plane in zip(named[measure], planes, strict=True):
            drawn = _surface(axes, plane, scale, request) if request.solid else _contours(axes, plane, scale, request)
        bar = figure.colorbar(drawn, ax=named[measure], label=request.axis(measure), shrink=0.8)
        bar.ax.tick_params(labelsize=FONT["ytick.labelsize"])  # its ticks are made as it is drawn
        if _is_log(scale):
            plain_labels(bar.ax.yaxis)
    legend_below(figure, named[measure])
    trajectory = request.analysis.looks_at == "trajectory"
    which = "the states along the training, projected to the plane" if trajectory else "the states"
    own = " at heights of their own" if request.solid else ""
    holes = "open" if request.solid else "hatched"
    if any(plane.explained for plane in planes):
        own += "; components have the share of the variance of these states that they explain"
    return Drawn(
        figure,
        f"{request.axis(measure)} of seed {request.seed}, with {which}{own}; {holes} where it is not finite.",
        f"{'logarithmic' if _is_log(scale) else 'linear'} in {request.axis(measure)}; {unit_along(request)}",
    )


def planes_of(request: Request, measure: str) -> list[Plane]:
    """Return the planes of the seed that is drawn, one for each cell and policy for running statistics."""
    found = []
    for cell in request.cells:
        one = request.one(cell)
        by_policy = grouped((row for row in one.profile if "bn" in row), lambda row: row["bn"]) if one else {}
        for policy, rows in by_policy.items():
            assert one is not None
            said = f"\nbatch norm: {policy}" if len(by_policy) > 1 else ""
            shares = [row["explained"] for row in one.profile if row["kind"] == "component"][:2]
            states = [row for row in rows if row["kind"] == "state"]
            points = [row for row in rows if row["kind"] == "grid"]
            found.append(Plane(title(cell) + said, *_squares(points, measure, request.factor(measure)), states, shares))
    return found


def _squares(points: Sequence[ProfileRow], measure: str, factor: float) -> tuple[Grid, Grid, Grid]:
    """Return coordinates along both directions, and the values (m, n), NaN where there is none."""
    x = np.unique([row["x"] for row in points])
    y = np.unique([row["y"] for row in points])
    values = np.full((len(y), len(x)), math.nan)
    for row in points:
        values[np.searchsorted(y, row["y"]), np.searchsorted(x, row["x"])] = factor * finite(row[measure])
    return x, y, values


def _colours(planes: Sequence[Plane]) -> Normalize:
    """Return the scale of the colours that all planes share."""
    from matplotlib.colors import LogNorm, Normalize

    known = np.concatenate([plane.values[np.isfinite(plane.values)] for plane in planes])
    if not len(known):
        return Normalize(0, 1)
    low, high = float(known.min()), float(known.max())
    if low > 0 and high / low >= LOG_FROM:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def _is_log(scale: Normalize) -> bool:
    from matplotlib.colors import LogNorm

    return isinstance(scale, LogNorm)


def _levels(scale: Normalize) -> Grid:
    low, high = float(scale.vmin or 0), float(scale.vmax or 0)
    if _is_log(scale):
        return np.geomspace(low, high, LINES + 2)[1:-1]
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(LINES).tick_values(low, high))


def _contours(axes: Axes, plane: Plane, scale: Normalize, request: Request) -> Any:
    from matplotlib.patheffects import withStroke

    axes.grid(visible=False)
    masked = np.ma.masked_invalid(plane.values)
    axes.patch.set(hatch="xxxx", edgecolor="#999999", facecolor="white", linewidth=0)
    drawn = axes.pcolormesh(plane.x, plane.y, masked, shading="nearest", cmap="cividis_r", norm=scale)
    if masked.count() and masked.max() > masked.min():
        lines = axes.contour(
            plane.x, plane.y, masked, levels=_levels(scale), colors="black", linewidths=0.5, corner_mask=False
        )
        axes.clabel(lines, fontsize=LEAST, fmt=plain)
    halo: dict[str, Any] = {"path_effects": [withStroke(linewidth=2, foreground="white")], "zorder": 5}
    mark: dict[str, Any] = {"color": "black", "markerfacecolor": "white", "linestyle": "none"}
    at = [(float(row["x"]), float(row["y"])) for row in plane.states]
    if request.analysis.looks_at == "trajectory":
        axes.plot(*zip(*at, strict=True), color="black", linewidth=1, marker="o", markersize=3, **halo)
        axes.plot(*at[0], marker="s", markersize=5, label="start of the training", **mark, **halo)
        axes.plot(*at[-1], marker="*", markersize=9, label="its end", **mark, **halo)
    else:
        for number, ((x, y), row) in enumerate(zip(at, plane.states, strict=True)):
            axes.plot(x, y, marker=MARKERS[number], markersize=5.5, label=str(row["name"]), **mark, **halo)
    width, height = np.ptp(plane.x), np.ptp(plane.y)
    if NARROWEST <= height / width <= 1 / NARROWEST:
        axes.set_aspect("equal")
    for label, number in ((label_along, 0), (label_up, 1)):
        label(axes, _direction(plane, number))
    return drawn


def _direction(plane: Plane, number: int) -> str:
    """Return the label of a direction, with the share of the variance that a component explains."""
    if number < len(plane.explained):
        return f"component {number + 1} ({100 * plane.explained[number]:.3g} %)"
    return f"direction {number + 1}"


def _surface(axes: Any, plane: Plane, scale: Normalize, request: Request) -> Any:
    """Draw the squares between four finite points; one with a hole at a corner is left out."""
    import matplotlib
    from matplotlib.ticker import MaxNLocator
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    def height(value: float) -> float:
        return math.log10(value) if _is_log(scale) and value > 0 else value

    corners, colours = [], []
    for i in range(len(plane.y) - 1):
        for j in range(len(plane.x) - 1):
            four = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
            values = [float(plane.values[at]) for at in four]
            if all(map(math.isfinite, values)):
                corners.append([(plane.x[b], plane.y[a], height(v)) for (a, b), v in zip(four, values, strict=True)])
                colours.append(sum(values) / 4)
    colour = matplotlib.colormaps["cividis_r"]
    squares = Poly3DCollection(corners, cmap=colour, norm=scale, edgecolor="#00000055", linewidth=0.25)
    squares.set_array(np.asarray(colours))
    axes.add_collection3d(squares)
    _states_above(axes, plane, request, height)
    low, high = height(float(scale.vmin or 0)), height(float(scale.vmax or 0))
    axes.set(xlim=(plane.x[0], plane.x[-1]), ylim=(plane.y[0], plane.y[-1]), zlim=(low, high))
    axes.set_xlabel(_direction(plane, 0), fontsize=LEAST, labelpad=-3)
    axes.set_ylabel(_direction(plane, 1), fontsize=LEAST, labelpad=-3)
    axes.view_init(elev=35, azim=-60)
    axes.set_box_aspect((4, 4, 3), zoom=0.85)
    axes.tick_params(labelsize=LEAST, pad=-2)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_major_locator(MaxNLocator(5))
    if _is_log(scale):
        axes.zaxis.set_major_formatter(lambda value, _: plain(10**value))
    return squares


def _states_above(axes: Any, plane: Plane, request: Request, height: Callable[[float], float]) -> None:
    """Mark the states at their own height, which along a training is not that of the plane."""
    measure = request.measures[0]
    heights = [finite(row[measure]) for row in plane.states]
    known = [
        (row["x"], row["y"], height(request.factor(measure) * value), str(row["name"]))
        for row, value in zip(plane.states, heights, strict=True)
        if math.isfinite(value)
    ]
    mark: dict[str, Any] = {"color": "black", "markerfacecolor": "white", "linestyle": "none", "zorder": 11}
    if request.analysis.looks_at == "trajectory" and known:
        path = list(zip(*known, strict=True))[:3]
        axes.plot(*path, color="black", linewidth=1.2, marker="o", markersize=3, zorder=10)
        for at, marker, label in ((0, "s", "start of the training"), (-1, "*", "its end")):
            axes.plot(*([c] for c in known[at][:3]), marker=marker, markersize=6, label=label, **mark)
        return
    for number, (x, y, z, name) in enumerate(known):
        axes.plot([x], [y], [z], marker=MARKERS[number], markersize=5, label=name, **mark)


def _font() -> Any:
    import matplotlib

    return matplotlib.rc_context(FONT)
