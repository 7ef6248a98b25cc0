"""Style that the figures share: colours that the colour-blind can tell, and grey print, panels, the density axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, "Color universal design"; dense networks are black
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
WIDTH, HEIGHT = 3.4, 2.6  # inches of a panel: a column of a paper
MOST_COLUMNS = 4
TICK_GAP = 0.13  # of the axis, below which labels of densities would touch
FONT: Any = {  # rc parameters
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


def line_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the curve with this index; no two of the first 28 share all three."""
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": DASHES[(index // len(COLORS)) % len(DASHES)],
        "markersize": 3.5,
        "linewidth": 1.2,
    }


def panels(titles: Sequence[str], *, share_y: bool = True) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, up to four in a row.

    Raises:
        UsageError: There is no title.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if not titles:
        raise UsageError("nothing is finished yet that this figure shows; lottery run RECIPE trains it")
    columns = min(MOST_COLUMNS, len(titles))
    rows = math.ceil(len(titles) / columns)
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(max(4.2, WIDTH * columns), HEIGHT * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
        every: list[Axes] = list(grid.flat)
        for axes, title in zip(every, titles, strict=False):
            axes.set_title(title)
            axes.grid(alpha=0.25)
        for axes in every[len(titles) :]:
            axes.remove()
    return figure, every[: len(titles)]


def percent_axis(axes: Axes) -> None:
    """Make the y axis logarithmic, with labels in plain percent."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def density_axis(axes: Axes, densities: Sequence[float]) -> None:
    """Make the x axis logarithmic and falling to the right, labelled with the densities trained in percent.

    So do Frankle & Carbin 2019.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    shown = sorted(set(densities), reverse=True)
    low, high = shown[-1], shown[0]
    axes.set_xscale("log")
    spread = (high / low) ** 0.04 if high > low else 1.2
    axes.set_xlim(high * spread, low / spread)
    width = math.log(high * spread * spread / low)
    ticks: list[float] = []
    for density in shown:
        if not ticks or math.log(ticks[-1] / density) / width >= TICK_GAP:
            ticks.append(density)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{100 * tick:.3g}" for tick in ticks])
    axes.set_xlabel("weights left (%)")


def finish(figure: Figure, axes: Sequence[Axes], y_label: str, also: Sequence[Artist] = ()) -> None:
    """Give the figure one label of the y axis and one legend for all panels, with `also` what stands for many curves.

    The legend stands below the panels, in as many columns as fit beside one another, and the figure grows by it: it
    covers nothing and nothing of it is cut off.
    """
    title = figure.supylabel(y_label, fontsize=8)
    handles: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    handles |= {str(artist.get_label()): artist for artist in also}
    if not handles:
        return
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False, fontsize=7
        )
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)
    title.set_y(0.5 + 0.5 * size.height / figure.bbox.height)  # the middle of the panels
