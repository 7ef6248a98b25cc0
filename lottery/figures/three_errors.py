"""Picture of the three errors of networks: of representation, of optimization and of generalization."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import whose
from lottery.analysis.measurements import errors_of
from lottery.figures.drawing import Drawn, Request, finite, grouped, labels_of_axis, mean
from lottery.figures.style import COLORS, MARKERS, grid, inches_wide, legend_below
from lottery.statistics.paired import t_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from lottery.analysis.profiles import Profiles
    from lottery.analysis.three_errors import ToldApart

NAMES = ("representation", "optimization", "generalization")
SHIFTS = (-0.22, 0.0, 0.22)  # of the three, from the middle of their network
SUM = "their sum: the test value"
NAME_INCHES = 0.75  # of the name of a network, which is turned where it has less room


def three_errors_figure(request: Request) -> Drawn:
    """Draw the three errors of each network side by side: seeds faint, means with their t interval, and their sum.

    A panel for each optimizer and rewind point; within it networks by level.
    """
    known = errors_of(request.study, request.analysis)
    groups = grouped(request.cells, lambda cell: whose(cell.head))
    figure, panels = grid(list(groups), request.measures, width=request.width)
    for measure, every in panels.items():
        errors, factor = known["loss" if measure == "loss" else "error"], request.factor(f"test_{measure}")
        for axes, cells in zip(every, groups.values(), strict=True):
            for place, cell in enumerate(cells):
                _network(axes, place, [(each.job.seed, errors[each.job.key]) for each in cell.found], factor)
            axes.axhline(0, color="black", linewidth=0.6)
            axes.set_xlim(-0.6, len(cells) - 0.4)
            turned: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
            crowded = len(cells) * NAME_INCHES > inches_wide(axes)
            axes.set_xticks(range(len(cells)), list(map(_named, cells)), **(turned if crowded else {}))
        labels_of_axis(every, f"part of the {request.axis(f'test_{measure}')}")
    legend_below(figure, [axes for every in panels.values() for axes in every])
    shows = (
        "the three errors of each network, which add up to its test value: means over seeds with 95 % t intervals,"
        " seeds faint. Representation is the best fit found to the training set, an estimate and no bound."
    )
    return Drawn(figure, shows, "linear", ("train", "test"))


def _network(axes: Axes, place: int, found: Sequence[tuple[int, ToldApart]], factor: float) -> None:
    """Draw the errors of the networks of one cell, each with its seed, and their sum."""
    total = 0.0
    for name, shift, color, marker in zip(NAMES, SHIFTS, COLORS, MARKERS, strict=False):
        values = [(seed, factor * finite(getattr(each.errors, name))) for seed, each in found]
        by_seed = [mean(value for _, value in several) for several in grouped(values, lambda pair: pair[0]).values()]
        x, style = place + shift, dict[str, Any]({"color": color, "marker": marker, "linestyle": "none"})
        axes.plot([x] * len(values), [value for _, value in values], alpha=0.3, markersize=3, **style)
        axes.plot([x], [mean(by_seed)], label=name, markersize=4.5, **style)
        total += mean(by_seed)
        if all(map(math.isfinite, by_seed)):
            interval = t_interval(by_seed)
            if math.isfinite(interval.low):  # not where there is one seed, or few that are all equal
                axes.plot([x, x], [interval.low, interval.high], color=color, linewidth=1.2)
    axes.plot([place - 0.35, place + 0.35], [total, total], label=SUM, color="black", linewidth=1.2)


def _named(cell: Profiles) -> str:
    """Return the label of a network, in lines: its name, its level where it has one, its density."""
    said = [f"level {cell.level}"] if cell.level else []
    said += [f"{100 * cell.density:.3g} %"] if cell.density is not None else []
    return f"{cell.networks}\n{', '.join(said)}"
