"""Style that the figures share: colours that the colour-blind can tell, and grey print, panels, axes, the legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.figures.sizes import LEAST, NARROW_PANEL, POINTS, lines_high, panel_grid, wrapped

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe & Ito 2008, "Color universal design"; dense networks are black
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")
INSIDE = 0.72  # share of a panel's width that is between its axes
TICK_GAP = 0.1  # inches between labels of densities
ROOM = 0.6  # of an interval beyond what was seen, as a share of its range: those of two seeds would hide all else
BESIDE = 0.05  # of an axis, between what is drawn and its ends
HANDLE = 0.5  # inches that the mark of an entry of the legend takes, with room beside it
FONT: Any = {  # rc parameters
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": LEAST,
    "xtick.labelsize": LEAST,
    "ytick.labelsize": LEAST,
}


def line_style(index: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the curve with this index; no two of the first 28 share all three.

    Of the first 28 no two share marker and dashes either, and two of one colour share neither.
    """
    again = index // len(COLORS)
    return {
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[(index + again) % len(MARKERS)],
        "linestyle": DASHES[again % len(DASHES)],
        "markersize": 3.5,
        "linewidth": 1.2,
    }


def panels(titles: Sequence[str], *, share_y: bool = True, width: float | None = None) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel for each title, as many in a row as fit its width in inches.

    Raises:
        UsageError: There is no title.
    """
    if not titles:
        raise UsageError("nothing is finished yet that this figure shows; lottery run RECIPE trains it")
    figure, named = grid(titles, [""], share_y=share_y, width=width)
    return figure, named[""]


def grid(
    titles: Sequence[str],
    measures: Sequence[str],
    *,
    share_y: bool = True,
    projection: str | None = None,
    width: float | None = None,
    narrowest: float = NARROW_PANEL,
) -> tuple[Figure, dict[str, list[Axes]]]:
    """Return a figure with a panel for each title and measure, and the panels by measure, in the order of titles.

    Args:
        titles: The titles, which are broken into lines where they are wider than their panel.
        measures: The measures, one below the other.
        share_y: Whether the panels of a measure share their y axis.
        projection: The projection of the axes.
        width: The figure's width in inches; that of a column for one panel, of a page for several, where it is None.
        narrowest: The least width of a panel in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    known = panel_grid(len(titles), width, narrowest)
    titles = [wrapped(title, 0.9 * known.panel) for title in titles]
    high = known.height + max(map(lines_high, titles))
    named: dict[str, list[Axes]] = {}
    with matplotlib.rc_context(FONT):
        figure = Figure(figsize=(known.width, high * known.rows * len(measures)), layout="constrained")
        for block, measure in enumerate(measures):
            every: list[Axes] = []
            for place, title in enumerate(titles, start=1):
                first = every[0] if every and share_y else None
                at = known.rows * len(measures), known.columns, known.rows * known.columns * block + place
                axes = figure.add_subplot(*at, sharey=first, projection=projection)
                axes.set_title(title)
                if projection is None:
                    axes.grid(alpha=0.25)
                if share_y and (place - 1) % known.columns:
                    axes.tick_params(axis="y", which="both", labelleft=False)
                    axes.yaxis.get_offset_text().set_visible(False)
                every.append(axes)
            named[measure] = every
    return figure, named


def inches_wide(axes: Axes) -> float:
    """Return about how wide a panel's axis is, before its labels are laid out."""
    return INSIDE * _spot(axes)[0]


def label_along(axes: Axes, text: str) -> None:
    """Label the x axis of a panel, in as many lines as it takes."""
    axes.set_xlabel(wrapped(text, 0.9 * _spot(axes)[0], LEAST), fontsize=LEAST)


def label_up(axes: Axes, text: str) -> None:
    """Label the y axis of a panel, in as many lines as it takes."""
    axes.set_ylabel(wrapped(text, 0.85 * _spot(axes)[1]), fontsize=8)


def _spot(axes: Axes) -> tuple[float, float]:
    """Return width and height in inches of a panel with its labels."""
    spot, figure = axes.get_subplotspec(), axes.get_figure(root=True)
    assert spot is not None and figure is not None  # panels are made by `grid`
    places = spot.get_gridspec()
    return figure.get_figwidth() / places.ncols, figure.get_figheight() / places.nrows


def follow(every: Sequence[Axes], seen: Iterable[float], *, percent: bool = False) -> None:
    """Let the y axis that panels share follow what was seen, in its unit; intervals far beyond are cut off.

    Of a share in `percent` it never leaves 0 to 100, which it is not fixed to either. To be called once all is drawn.
    """
    known = [value for value in seen if math.isfinite(value)]
    if not every or not known:
        return
    low, high = min(known), max(known)
    bottom, top = every[0].get_ylim()
    room = ROOM * ((high - low) or 0.02 * abs(high) or 1.0)
    least, most = max(bottom, low - room), min(top, high + room)
    beyond = BESIDE * (most - least)
    least, most = min(least, low - beyond), max(most, high + beyond)
    every[0].set_ylim(*((max(0.0, least), min(100.0, most)) if percent else (least, most)))


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
    from matplotlib.ticker import MaxNLocator

    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    if high < 100 * low:
        plain_labels(axes.yaxis)
    if high < 5 * low:  # 1, 2 and 5 times a power of ten would be one label, or none
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))


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
    whole, inches = math.log(high * spread * spread / low), inches_wide(axes)
    ticks: dict[float, str] = {}
    for density in shown:
        label = f"{100 * density:.3g}"
        wide = [text_inches(each) for each in (label, *list(ticks.values())[-1:])]
        if not ticks or inches * math.log(list(ticks)[-1] / density) / whole >= TICK_GAP + sum(wide) / 2:
            ticks[density] = label
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("weights left (%)")


def text_inches(text: str, points: float = LEAST) -> float:
    """Return about how wide a line of text is, in inches."""
    return 0.62 * points * len(text) / POINTS


def finish(figure: Figure, axes: Sequence[Axes], y_label: str, also: Sequence[Artist] = ()) -> None:
    """Give the figure one label of the y axis and one legend for all panels, with `also` what stands for many curves.

    The legend stands below the panels, in as many columns as fit beside one another, and the figure grows by it: it
    covers nothing and nothing of it is cut off.
    """
    title = figure.supylabel(wrapped(y_label, 0.9 * figure.get_figheight()), fontsize=8, multialignment="center")
    taken = legend_below(figure, axes, also)
    if taken:
        title.set_y(0.5 + 0.5 * taken / figure.bbox.height)  # the middle of the panels


def legend_below(
    figure: Figure, axes: Sequence[Axes], also: Sequence[Artist] = (), first: Sequence[str] | None = None
) -> float:
    """Draw the legend that `finish` describes, and return its height in pixels; 0 where nothing has a label.

    The artists in `also` stand for what has their labels. The labels in `first` come before all others, in this order.
    """
    handles: dict[str, Any] = {}
    for each in axes:
        for handle, label in zip(*each.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    handles |= {str(artist.get_label()): artist for artist in also}
    if not handles:
        return 0.0
    order = [label for label in first or () if label in handles]
    order += [label for label in handles if label not in order]
    words = [wrapped(label, figure.get_figwidth() - HANDLE, LEAST) for label in order]
    for columns in range(len(order), 0, -1):
        legend = figure.legend(
            [handles[label] for label in order],
            words,
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=LEAST,
            columnspacing=1.4,
            handlelength=2.4,
        )
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)
    return float(size.height)


def put_caption(figure: Figure) -> None:
    """Write the figure's label above the panels, in as many lines as it takes, and let the figure grow by them."""
    words = wrapped(str(figure.get_label()), figure.get_figwidth() - 0.1, LEAST)
    above = figure.suptitle(words, fontsize=LEAST, x=0.01, ha="left", color="#333333")
    figure.set_figheight(figure.get_figheight() + above.get_window_extent().height / figure.dpi)
