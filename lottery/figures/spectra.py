"""Pictures of spectra: the density of eigenvalues on a logarithmic axis, and the largest of them as ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import whose
from lottery.errors import UsageError
from lottery.figures.drawing import Drawn, Request, finite, grouped, labels_of_axis, percent
from lottery.figures.profile_curves import legend, shade
from lottery.figures.style import grid, label_along

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lottery.analysis.profiles import ProfileRow, Profiles

MOST_BLOCKS = 24  # panels
TICK = 0.035  # height of a row of ticks, as a share of the axis


def spectrum_figure(request: Request) -> Drawn:
    """Draw the spectra of one seed: a panel for each block of the network, a curve for each network.

    The density is drawn over the absolute value of the eigenvalue where its axis is logarithmic, negative ones dashed.
    Ticks at the lower edge are the largest eigenvalues, and the smallest; hollow where that is negative.
    """
    curves = [(cell, each.profile) for cell in request.cells if (each := request.one(cell)) is not None]
    if not curves:
        raise UsageError(f"{request.analysis.label}: no spectrum of seed {request.seed} is finished")
    named: dict[tuple[str, str], list[tuple[Profiles, list[ProfileRow]]]] = {}
    for cell, profile in curves:
        for block, rows in grouped(profile, lambda row: row["block"]).items():
            named.setdefault((whose(cell.head), block), []).append((cell, rows))
    panels = list(named.items())
    axis = next((row["axis"] for _, profile in curves for row in profile if "axis" in row), None)
    figure, by_measure = grid(
        [f"{who}: {block}" for (who, block), _ in panels[:MOST_BLOCKS]], [""], share_y=False, width=request.width
    )
    every = by_measure[""]
    for axes, (_, here) in zip(every, panels[:MOST_BLOCKS], strict=True):
        _panel(axes, here, axis)
    labels_of_axis(every, "" if axis is None else f"density per {'decade' if axis == 'log' else 'unit'}")
    legend(figure, {"": every})
    more = f" The first {MOST_BLOCKS} of {len(panels)} blocks." if len(panels) > MOST_BLOCKS else ""
    dashed = " Negative eigenvalues are dashed, and hollow ticks." if axis != "linear" else ""
    shows = (
        f"share of the eigenvalues of seed {request.seed}, smoothed by a Gaussian kernel, with its standard error over"
        f" probes; ticks are the largest eigenvalues and the smallest.{dashed}{more}"
        if axis is not None
        else f"the largest eigenvalues and the smallest, of seed {request.seed}.{dashed}{more}"
    )
    widths = [row["width"] for _, profile in curves for row in profile if row.get("kind") == "density"]
    wide = " to ".join(dict.fromkeys(f"{of(widths):.2g}" for of in (min, max))) if widths else ""
    width = f", the kernel's width is {wide}{' decades' if axis == 'log' else ''}"
    scale = "eigenvalues linear" if axis == "linear" else "absolute eigenvalues logarithmic"
    return Drawn(figure, shows, f"{scale}, densities logarithmic{width}" if axis is not None else scale)


def _panel(axes: Axes, here: Sequence[tuple[Profiles, list[ProfileRow]]], axis: str | None) -> None:
    least, most, reach = math.inf, 0.0, list[float]()
    for number, (cell, rows) in enumerate(here):
        style = shade(number, len(here))
        label = f"{cell.networks}, {percent(cell.density)}"
        _ticks(axes, rows, number, style | {"label": label}, linear=axis == "linear")
        points = [row for row in rows if row["kind"] == "density"]
        for negative in (False, True):
            branch = [row for row in points if (row["eigenvalue"] < 0) == negative or axis == "linear"]
            if axis == "linear" and negative:
                continue
            _density(axes, branch, style, negative=negative, linear=axis == "linear")
        least = min(least, _single(rows) / 30)
        most = max([most, *(value for row in points if math.isfinite(value := row["spectral_density"]))])
        reach += [abs(row["eigenvalue"]) for row in points if row["spectral_density"] > least and row["eigenvalue"]]
    if axis != "linear":
        axes.set_xscale("log")
    if axis is not None:
        axes.set_yscale("log", nonpositive="mask")
        if math.isfinite(least) and most > least:
            axes.set_ylim(least, 3 * most)
            if axis == "log" and reach:
                axes.set_xlim(min(reach) / 2, 2 * max(reach))
    else:
        axes.set_yticks([])
    label_along(axes, "eigenvalue" if axis == "linear" else "absolute value of the eigenvalue")


def _density(axes: Axes, rows: Sequence[ProfileRow], style: Mapping[str, Any], *, negative: bool, linear: bool) -> None:
    points = sorted((row["eigenvalue"] if linear else abs(row["eigenvalue"]), row) for row in rows if row["eigenvalue"])
    at = [x for x, _ in points]
    values = [finite(row["spectral_density"]) for _, row in points]
    errors = [finite(row["standard_error"]) for _, row in points]
    axes.plot(at, values, color=style["color"], linestyle="--" if negative else "-", linewidth=1.1)
    low = [max(value - error, 0.0) for value, error in zip(values, errors, strict=True)]
    high = [value + error for value, error in zip(values, errors, strict=True)]
    axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _ticks(axes: Axes, rows: Sequence[ProfileRow], number: int, style: Mapping[str, Any], *, linear: bool) -> None:
    """Draw the eigenvalues that were found in a row of their own at the lower edge."""
    found = [finite(row["eigenvalue"]) for row in rows if row["kind"] == "eigenvalue"]
    edge = axes.get_xaxis_transform()
    mark: dict[str, Any] = {"color": style["color"], "marker": style["marker"], "markersize": 4.5, "linestyle": "none"}
    for wanted, face in ((True, style["color"]), (False, "white")):
        here = [value for value in found if (value >= 0) == wanted]
        label = {"label": style["label"]} if wanted else {}
        at = here if linear else [abs(value) for value in here]
        axes.plot(at, [TICK * (number + 1)] * len(at), transform=edge, markerfacecolor=face, **mark, **label)


def _single(rows: Sequence[ProfileRow]) -> float:
    """Return the density at the peak of a single eigenvalue, the lowest that means something."""
    sizes = [row["size"] for row in rows if row["kind"] == "trace"]
    widths = [row["width"] for row in rows if row["kind"] == "density"]
    return 1 / (sizes[0] * widths[0] * math.sqrt(2 * math.pi)) if sizes and widths and widths[0] > 0 else math.inf
