"""Pictures of what changes by layer, along a training, and along the gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.figures.drawing import (
    HOLE,
    MOST_NAMES,
    Drawn,
    Request,
    arguments_of,
    finite,
    labels_of_axis,
    mean,
    title,
)
from lottery.figures.profile_curves import legend, seed_style, shade, thin
from lottery.figures.style import grid, label_along, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lottery.analysis.profiles import Profiles


def layers_figure(request: Request) -> Drawn:
    """Draw signals by depth on a logarithmic axis, one curve for each state along the training, means over seeds.

    Where the mean square is shown, that which the mean-field recursion expects at the first state is dotted.
    """
    figure, panels = grid([title(cell) for cell in request.cells], request.measures, width=request.width)
    for measure, every in panels.items():
        for axes, cell in zip(every, request.cells, strict=True):
            states = _states(cell, "step")
            rows = [_defined(each.profile, measure) for each in cell.found]
            for number, step in enumerate(states):
                style = shade(number, len(states)) | {"label": f"step {step}"}
                _means(axes, _of_state(cell, rows, "step", number), "depth", measure, style)
            if measure == "mean_square":
                style = {"color": "black", "linestyle": ":", "label": "expected at the first state"}
                expected = [_defined(each.profile, "expected_mean_square") for each in cell.found]
                _means(axes, _of_state(cell, expected, "step", 0), "depth", "expected_mean_square", style)
            _name_layers(axes, cell)
            if measure not in ("dead", "saturated"):
                log_axis(axes)
        words = {"variance": "variance of outputs", "gradient": "gradient norm in outputs"}
        labels_of_axis(every, words.get(measure, request.axis(measure)))
    legend(figure, panels)
    shows = (
        f"{' and '.join(map(request.axis, request.measures))} by layer from the input to the output, means over seeds."
    )
    return Drawn(figure, shows, "logarithmic, values of 0 left out; layers one by one")


def _defined(profile: Sequence[Mapping[str, Any]], measure: str) -> list[Mapping[str, Any]]:
    """Return the rows of the kinds, layers or activations, that have the measure at all."""
    known = {row.get("kind") for row in profile if not math.isnan(float(row[measure]))}
    return [row for row in profile if row.get("kind") in known]


def _name_layers(axes: Axes, cell: Profiles) -> None:
    named = {row["depth"]: row["layer"] for row in cell.found[0].profile}
    every = math.ceil(len(named) / MOST_NAMES)
    shown = sorted(named)[::every]
    axes.set_xticks(shown, [str(named[depth]) for depth in shown], rotation=60, ha="right", rotation_mode="anchor")


def training_figure(request: Request) -> Drawn:
    """Draw gradient norm and smallest eigenvalue, or loss, along a training, a curve for each seed.

    Where eigenvalues are known, marks are filled where the curvature is not positive; dotted is the norm below which a
    gradient is small.
    """
    figure, panels = grid([title(cell) for cell in request.cells], request.measures, width=request.width)
    seeds = sorted({each.job.seed for cell in request.cells for each in cell.found})
    share = arguments_of(request.analysis).get("threshold")
    for measure, every in panels.items():
        for axes, cell in zip(every, request.cells, strict=True):
            for each in cell.found:
                style = seed_style(seeds.index(each.job.seed))
                at = [row["step"] for row in each.profile]
                values = [finite(row[measure]) for row in each.profile]
                label = f"seed {each.job.seed}"
                hollow = thin(style) | {"markerfacecolor": "white", "markersize": 5}
                axes.plot(at, values, label=label, **hollow)
                flat = [
                    (x, y) for x, y, row in zip(at, values, each.profile, strict=True) if row.get("smallest", 1) <= 0
                ]
                if flat:
                    mark = {"marker": style["marker"], "markersize": 5, "color": style["color"], "linestyle": "none"}
                    axes.plot(*zip(*flat, strict=True), **mark)
                if measure == "gradient_norm" and share is not None:
                    least = share * max((y for y in values if math.isfinite(y)), default=HOLE)
                    axes.axhline(least, color=style["color"], linestyle=":", linewidth=1)
            label_along(axes, "training step")
            if measure in ("smallest", "largest"):
                axes.axhline(0, color="black", linewidth=0.8)
            else:
                log_axis(axes)
        words = {"smallest": "smallest eigenvalue found", "largest": "largest eigenvalue"}
        labels_of_axis(every, words.get(measure, request.axis(measure)))
    legend(figure, panels)
    small = "" if share is None else f", dotted {share:g} times the largest gradient norm of the run"
    if not any("smallest" in row for cell in request.cells for each in cell.found for row in each.profile):
        return Drawn(figure, "loss and gradient of the states along each training.", "logarithmic")
    shows = f"states along each training; marks are filled where an eigenvalue of at most 0 was found{small}."
    return Drawn(figure, shows, "gradient norm and loss logarithmic, eigenvalues linear")


def step_sizes_figure(request: Request) -> Drawn:
    """Draw what happens along the gradient over the step size, one curve for each state along the training."""
    figure, panels = grid([title(cell) for cell in request.cells], request.measures, width=request.width)
    for measure, every in panels.items():
        for axes, cell in zip(every, request.cells, strict=True):
            states = _states(cell, "training_step")
            for number, step in enumerate(states):
                style = shade(number, len(states)) | {"label": f"at step {step}"}
                rows = [list(each.profile) for each in cell.found]
                _means(axes, _of_state(cell, rows, "training_step", number), "step", measure, style)
            axes.set_xscale("log")
            label_along(axes, "size of the step along the gradient")
            if measure != "loss":
                log_axis(axes)
        words = {"beta": "effective beta", "gradient_change": "change of the gradient"}
        labels_of_axis(every, words.get(measure, request.axis(measure)))
    legend(figure, panels)
    shows = "loss and gradient after steps along the gradient, means over seeds."
    return Drawn(figure, shows, "step sizes logarithmic, the loss linear, all else logarithmic")


def _states(cell: Profiles, step: str) -> list[int]:
    """Return the steps of the states that the first measurement of a cell looks at."""
    return list(dict.fromkeys(int(row[step]) for row in cell.found[0].profile))


def _of_state(
    cell: Profiles, rows: Sequence[Sequence[Mapping[str, Any]]], step: str, number: int
) -> list[list[Mapping[str, Any]]]:
    """Return the rows of one state, by its number along the training, of each measurement."""
    found = []
    for each, own in zip(cell.found, rows, strict=True):
        steps = list(dict.fromkeys(row[step] for row in each.profile))
        found.append([row for row in own if number < len(steps) and row[step] == steps[number]])
    return found


def _means(
    axes: Axes, rows: Sequence[Sequence[Mapping[str, Any]]], along: str, measure: str, style: Mapping[str, Any]
) -> None:
    """Draw means over measurements; where one of them has no finite value there is a hole."""
    points: dict[float, list[float]] = {}
    for own in rows:
        for row in own:
            points.setdefault(row[along], []).append(finite(row[measure]))
    at = sorted(points)
    axes.plot(at, [mean(points[x]) if len(points[x]) == len(rows) else HOLE for x in at], **thin(style))
