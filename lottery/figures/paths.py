"""Pictures of paths between states, and of slices through one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import whose
from lottery.figures.drawing import (
    HOLE,
    Drawn,
    Request,
    arguments_of,
    finite,
    grouped,
    labels_of_axis,
    mean,
    percent,
    title,
)
from lottery.figures.profile_curves import dashes, legend, seed_style, shade, thin
from lottery.figures.style import follow, grid, label_along
from lottery.statistics.network_pairs import balanced, seed_values
from lottery.statistics.paired import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lottery.analysis.measurements import Measured
    from lottery.analysis.profiles import Profiles
    from lottery.results.study import Study


def path_figure(request: Request) -> Drawn:
    """Draw loss or error along paths between two states: means over pairs of networks with 95 % t intervals.

    A panel for each kind of pair, a curve for each level; broken where running statistics are measured anew.
    """
    named = grouped(request.cells, lambda cell: (whose(cell.head), cell.networks))
    figure, panels = grid([f"{who}: {networks}" for who, networks in named], request.measures, width=request.width)
    levels = sorted({cell.level for cell in request.cells})
    policies, along = policies_of(request), "t"
    for measure, every in panels.items():
        factor, seen = request.factor(measure), list[float]()
        for axes, cells in zip(every, named.values(), strict=True):
            for cell in cells:
                along = "alpha" if "alpha" in cell.found[0].profile[0] else "t"
                for policy in policies:
                    found = _by_point(cell.found, policy, along, measure, factor)
                    seen += [value for values in found.values() for value in values.values() if math.isfinite(value)]
                    style = shade(levels.index(cell.level), len(levels))
                    style |= {"label": percent(cell.density), **dashes(policy, len(policies) > 1)}
                    _with_interval(axes, request.study, cell.found, found, style)
            _along_label(axes, along, request, cells[0])
        labels_of_axis(every, request.axis(measure))
        follow(every, seen, percent=factor == 100.0)
    legend(figure, panels, policies)
    scale = "linear, 0 and 1 are the two states" + ("; 1 along the curve is its end" if along == "t" else "")
    return Drawn(
        figure,
        f"{' and '.join(map(request.axis, request.measures))} along the {'curve' if along == 't' else 'straight line'},"
        " means over seeds, or pairs of networks, with 95 % t intervals, which end at the edge of a panel; pairs that"
        " share a seed are not taken as independent.",
        scale,
    )


def _by_point(
    found: Sequence[Measured], policy: str, along: str, measure: str, factor: float
) -> dict[float, dict[int, float]]:
    """Return the values of each measurement, by its number, at each point of a path."""
    points: dict[float, dict[int, float]] = {}
    for number, each in enumerate(found):
        for row in each.profile:
            if row.get("bn") == policy and measure in row:
                points.setdefault(row[along], {})[number] = factor * finite(row[measure])
    return points


def _with_interval(
    axes: Axes,
    study: Study,
    found: Sequence[Measured],
    points: Mapping[float, Mapping[int, float]],
    style: Mapping[str, Any],
) -> None:
    at = sorted(points)
    whole = [len(points[x]) == len(found) for x in at]
    means = [mean(points[x].values()) if known else HOLE for x, known in zip(at, whole, strict=True)]
    axes.plot(at, means, **thin(style))
    bounds = [
        _interval(study, found, points[x]) if math.isfinite(m) else (HOLE, HOLE) for x, m in zip(at, means, strict=True)
    ]
    low, high = ([finite(bound[end]) for bound in bounds] for end in (0, 1))
    axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _interval(study: Study, found: Sequence[Measured], values: Mapping[int, float]) -> tuple[float, float]:
    """Return the t interval of a mean over pairs, in which those that share a seed are not independent."""
    by_seeds: dict[tuple[int, int], list[float]] = {}
    for number, each in enumerate(found):
        seeds = [study.plan.jobs[look.key].seed for look in each.job.looks]
        by_seeds.setdefault((min(seeds), max(seeds)), []).append(values[number])
    pairs = {pair: math.fsum(several) / len(several) for pair, several in by_seeds.items()}
    if len(pairs) == 1:  # of one seed: over samples, or over the children of one state
        independent = list(values.values())
    else:
        independent = seed_values(pairs) if balanced(pairs) else []
    if len(independent) < 2:
        return -math.inf, math.inf
    interval = t_interval(independent)
    return interval.low, interval.high


def _along_label(axes: Axes, along: str, request: Request, cell: Profiles) -> None:
    ends = cell.networks.split(" - ")
    if len(ends) == 1:
        ends = ["initialization", *ends] if request.analysis.looks_at == "state" else ["one copy", "the other"]
    label_along(axes, f"{'t along the curve' if along == 't' else 'alpha'}: 0 {ends[0]}, 1 {ends[-1]}")


def slice_figure(request: Request) -> Drawn:
    """Draw the loss along a direction through each minimum, side by side: wide or sharp.

    A curve for each seed; the state is the ring in the middle. Titles have the worst case of the recipe's `sharpness`.
    """
    from lottery.figures.minima import sharpness_said

    sharp = sharpness_said(request.study)
    titles = [title(cell) + (f"\n{said}" if (said := sharp(cell)) else "") for cell in request.cells]
    figure, panels = grid(titles, request.measures, width=request.width)
    policies = policies_of(request)
    seeds = sorted({each.job.seed for cell in request.cells for each in cell.found})
    for measure, every in panels.items():
        factor = request.factor(measure)
        for axes, cell in zip(every, request.cells, strict=True):
            for each in cell.found:
                style = seed_style(seeds.index(each.job.seed)) | {"label": f"seed {each.job.seed}"}
                for policy, rows in grouped(each.profile, lambda row: str(row["bn"])).items():
                    on_line = sorted((row for row in rows if row["kind"] == "grid"), key=lambda row: row["x"])
                    values = [factor * finite(row[measure]) for row in on_line]
                    axes.plot([row["x"] for row in on_line], values, **thin(style | dashes(policy, len(policies) > 1)))
                    (here,) = [row for row in rows if row["kind"] == "state"]
                    ring: dict[str, Any] = {"marker": "o", "markersize": 6, "markerfacecolor": "none"}
                    axes.plot([here["x"]], [factor * finite(here[measure])], color=style["color"], **ring)
            label_along(axes, "distance along the direction")
            if axes is not every[0]:
                axes.sharex(every[0])  # or a wide minimum and a sharp one would look alike
        labels_of_axis(every, request.axis(measure))
    legend(figure, panels, policies)
    shows = (
        f"{' and '.join(map(request.axis, request.measures))} along one random direction through each minimum, a curve"
        " for each seed; the ring is the minimum itself."
    )
    if any("\n" in each for each in titles):
        shows += " Sharpness goes with the learning rate: compare panels of one optimizer."
    return Drawn(figure, shows, f"linear; {unit_along(request)}")


def policies_of(request: Request) -> list[str]:
    """Return the policies for running statistics that profiles have rows of."""
    rows = (row for cell in request.cells for each in cell.found for row in each.profile)
    return list(dict.fromkeys(str(row["bn"]) for row in rows if "bn" in row))


def unit_along(request: Request) -> str:
    """Return what one unit along a direction of a slice or plane is."""
    if request.analysis.looks_at in ("three", "trajectory"):
        return "coordinates are L2 distances of the surviving weights"
    if arguments_of(request.analysis).get("directions") == "eigenvectors":
        return "1 along an eigenvector is as far as the state is from 0"
    if request.analysis.name in ("slice", "surface"):
        return "directions normalized filter by filter: 1 is as far as a filter's weights are from 0"
    return "coordinates of the analysis"
