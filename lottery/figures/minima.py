"""Pictures of minima against each other: how far the loss rises near them, and critical points by index and loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lottery.analysis.labels import whose
from lottery.analysis.measurements import rows as rows_of_analysis
from lottery.figures.drawing import Drawn, Request, finite, grouped, labels_of_axis, mean, title
from lottery.figures.profile_curves import legend, seed_style
from lottery.figures.style import grid, label_along, log_axis

if TYPE_CHECKING:
    from lottery.analysis.profiles import Profiles
    from lottery.results.study import Study

SPREAD = 0.3  # of the distance of two networks, that their seeds take
WORST = "worst_case"


def sharpness_said(study: Study) -> Callable[[Profiles], str]:
    """Return a function that says how sharp the minima of a cell are, by the recipe's first analysis `sharpness`.

    It is empty where the recipe has no such analysis of these networks.
    """
    analysis = next((each for each in study.recipe.analyses if each.name == "sharpness"), None)
    if analysis is None:
        return lambda cell: ""
    table = rows_of_analysis(study, analysis.label)
    known = {(whose(row), row["level"], row["networks"]): row for row in table if row[WORST] is not None}

    def said(cell: Profiles) -> str:
        row = known.get((whose(cell.head), cell.level, cell.networks))
        if row is None:
            return ""
        spread = row[f"{WORST}_std"]
        return f"worst case {row[WORST]:.3g}" + ("" if spread is None else f" ± {spread:.2g}")

    return said


def rises_figure(request: Request) -> Drawn:
    """Draw the rise of the loss in each ball, network by network: seeds as dots, means as bars.

    The cross is the mean of what the quadratic model has; a seed whose ascent found less is hollow.
    """
    balls = list(dict.fromkeys(row["kind"] for cell in request.cells for e in cell.found for row in e.profile))
    groups = grouped(request.cells, lambda cell: whose(cell.head))
    titles = [f"{who}: {ball.replace('_', ' ')}" for who in groups for ball in balls]
    figure, panels = grid(titles, [""], share_y=False, width=request.width)
    seeds = sorted({each.job.seed for cell in request.cells for each in cell.found})
    wanted = [(cells, ball) for cells in groups.values() for ball in balls]
    for axes, (cells, ball) in zip(panels[""], wanted, strict=True):
        for place, cell in enumerate(cells):
            rows = [(each.job.seed, row) for each in cell.found for row in each.profile if row["kind"] == ball]
            for seed, row in rows:
                number = seeds.index(seed)
                shift = SPREAD * (number / max(1, len(seeds) - 1) - 0.5)
                style: dict[str, Any] = seed_style(number) | {"linestyle": "none", "markersize": 4}
                if row["rise"] < row["quadratic"]:
                    style["markerfacecolor"] = "white"
                axes.plot([place + shift], [finite(row["rise"])], label=f"seed {seed}", **style)
            bars: dict[str, Any] = {"color": "black", "linestyle": "none", "markersize": 12}
            axes.plot([place], [mean(finite(r["rise"]) for _, r in rows)], marker="_", label="mean", **bars)
            model = mean(finite(r["quadratic"]) for _, r in rows)
            axes.plot([place], [model], marker="x", label="quadratic model, mean", **bars | {"markersize": 5})
        names = [
            f"{cell.networks}\n{'' if c is None else f'{100 * c:.3g} %'}" for cell in cells for c in [cell.density]
        ]
        axes.set_xticks(range(len(cells)), names, rotation=60 if len(cells) > 4 else 0)
        log_axis(axes)
    labels_of_axis(panels[""], "rise of the train loss")
    legend(figure, panels)
    return Drawn(
        figure,
        "highest rise of the train loss that an ascent found in a ball around each minimum; a seed is hollow where that"
        " is below the quadratic model. Sharpness goes with the learning rate: compare networks of one optimizer.",
        "logarithmic; the ball of the worst case is in the weights, the adaptive one relative to each weight",
    )


def critical_points_figure(request: Request) -> Drawn:
    """Draw critical points by the index of their Hessian and their loss; marks are larger where more starts led."""
    from matplotlib.ticker import MaxNLocator

    figure, panels = grid([title(cell) for cell in request.cells], [""], width=request.width)
    seeds = sorted({each.job.seed for cell in request.cells for each in cell.found})
    for axes, cell in zip(panels[""], request.cells, strict=True):
        for each in cell.found:
            style = seed_style(seeds.index(each.job.seed))
            label = f"seed {each.job.seed}"
            for row in each.profile:
                size = 3 + 2 * math.sqrt(row["count"])
                mark = {"marker": style["marker"], "markersize": size, "markerfacecolor": "none", "linestyle": "none"}
                axes.plot([row["index"]], [finite(row["loss"])], color=style["color"], label=label, **mark)
        label_along(axes, "index: negative eigenvalues")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    labels_of_axis(panels[""], "train loss")
    legend(figure, panels)
    shows = "distinct critical points by index and loss, minima at 0; larger where more starts led there."
    return Drawn(figure, shows, "linear")
