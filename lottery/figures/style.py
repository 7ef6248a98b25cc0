"""Style that the figures share: colours that the colour-blind can tell, and grey print, panels, the density axis."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe & Ito 2008, "Color universal design"; dense networks are black
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
WIDTH, HEIGHT = 3.4, 2.6  # inches of a panel: a column of a paper
MOST_COLUMNS = 4
LETTERS = 19  # of a caption, in an inch
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
    if not titles:
        raise UsageError("nothing is finished yet that this figure shows; lottery run RECIPE trains it")
    figure, named = grid(titles, [""], share_y=share_y)
    return figure, named[""]


def grid(
    titles: Sequence[str], measures: Sequence[str], *, share_y: bool = True, projection: str | None = None
) -> tuple[Figure, dict[str, list[Axes]]]:
    """Return a figure with a panel for each title and measure, and the panels by measure, in the order of titles.

    Up to four titles stand beside one another. Panels of a measure share their y axis where `share_y` is True.
    """
    import matplotlib
    from matplotlib.figure import Figure

    columns = min(MOST_COLUMNS, len(titles))
    rows = math.ceil(len(titles) / columns)
    named: dict[str, list[Axes]] = {}
    with matplotlib.rc_context(FONT):
        size = max(4.2, WIDTH * columns), HEIGHT * rows * len(measures)
        figure = Figure(figsize=size, layout="constrained")
        for block, measure in enumerate(measures):
            every: list[Axes] = []
            for place, title in enumerate(titles, start=1):
                first = every[0] if every and share_y else None
                at = rows * len(measures), columns, rows * columns * block + place
                axes = figure.add_subplot(*at, sharey=first, projection=projection)
                axes.set_title(title)
                if projection is None:
                    axes.grid(alpha=0.25)
                if share_y and (place - 1) % columns:
                    axes.tick_params(axis="y", which="both", labelleft=False)
                    axes.yaxis.get_offset_text().set_visible(False)
                every.append(axes)
            named[measure] = every
    return figure, named


def percent_axis(axes: Axes) -> None:
    """Make the y axis logarithmic, with labels in plain percent."""
    axes.set_yscale("log")
    plain_labels(axes.yaxis)


def plain_labels(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_axis(axes: Axes) -> None:
    """Make the y axis logarithmic once all is drawn; what is not above 0 is left out.

    Its labels are plain numbers where it spans less than two decades, of which powers of ten alone would label few.
    """
    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    if high < 100 * low:
        plain_labels(axes.yaxis)


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
    taken = legend_below(figure, axes, also)
    if taken:
        title.set_y(0.5 + 0.5 * taken / figure.bbox.height)  # the middle of the panels


def legend_below(figure: Figure, axes: Sequence[Axes], also: Sequence[Artist] = ()) -> float:
    """Draw the legend that `finish` describes, and return its height in pixels; 0 where nothing has a label."""
    handles: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    handles |= {str(artist.get_label()): artist for artist in also}
    if not handles:
        return 0.0
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False, fontsize=7
        )
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)
    return float(size.height)


def put_caption(figure: Figure) -> None:
    """Write the figure's label above the panels, in as many lines as it takes, and let the figure grow by them."""
    lines = textwrap.wrap(str(figure.get_label()), round(LETTERS * figure.get_figwidth()))
    above = figure.suptitle("\n".join(lines), fontsize=6.5, x=0.01, ha="left", color="#333333")
    figure.set_figheight(figure.get_figheight() + above.get_window_extent().height / figure.dpi)
