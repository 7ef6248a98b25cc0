"""Picture of the table of signal propagation: which networks explode, vanish or hold at initialization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lottery.errors import UsageError
from lottery.figures.sizes import LEAST, NARROW_PANEL
from lottery.figures.style import grid, label_along, legend_below, put_caption, text_inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
MOST_NUMBERED = 5  # depths in a panel, above which numbers do not fit into its cells
CELL = 0.5  # inches of a cell with numbers
ROW_HEIGHT, AROUND = 0.46, 0.75  # inches of an init, and of a panel's title and labels


class Look(NamedTuple):
    """The look of a verdict; marks and greys tell verdicts apart where colours do not."""

    face: str
    ink: str
    mark: str
    hatch: str = ""


LOOKS = {
    "explodes": Look("#D55E00", "white", "▲"),
    "holds": Look("#FFFFFF", "black", "●"),
    "vanishes": Look("#9AD0F0", "black", "▼"),
    "refused": Look("#DDDDDD", "black", "×", "////"),
}


def propagation_figure(rows: Rows, network: str, *, captioned: bool = True, width: float | None = None) -> Figure:
    """Draw what signals do, a panel for each activation and normalization, inits against depths.

    The caption is the figure's label, from which files take what they say of themselves.

    Args:
        rows: The rows of `lottery.analysis.propagation.propagation_table`.
        network: The networks in words, for the caption.
        captioned: Write the caption above the panels as well.
        width: The figure's width in inches, see `sizes.width_of`.

    Raises:
        UsageError: There are no rows.
    """
    if not rows:
        raise UsageError("there are no rows of signal propagation to draw")
    panels: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        panels.setdefault((row["activation"], row["norm"]), []).append(row)
    inits, depths = (list(dict.fromkeys(row[key] for row in rows)) for key in ("init", "depth"))
    names = max(map(text_inches, inits))
    many = len(depths) if len(depths) <= MOST_NUMBERED else 1
    titles = [f"{activation}, norm {norm}" for activation, norm in panels]
    figure, named = grid(titles, [""], width=width, narrowest=max(NARROW_PANEL, names + CELL * many))
    every = named[""]
    spot = every[0].get_subplotspec()
    assert spot is not None
    places = spot.get_gridspec()
    cell = (figure.get_figwidth() - names) / places.ncols / len(depths)
    numbered = len(depths) <= MOST_NUMBERED and cell >= CELL
    figure.set_figheight(places.nrows * (AROUND + ROW_HEIGHT * len(inits)))
    for axes, found in zip(every, panels.values(), strict=True):
        for row in found:
            _cell(axes, depths.index(row["depth"]), inits.index(row["init"]), row, numbered=numbered)
        axes.grid(visible=False)
        axes.set_xlim(-0.5, len(depths) - 0.5)
        axes.set_ylim(len(inits) - 0.5, -0.5)  # the first init on top
        axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
        label_along(axes, "hidden layers")
    every[0].set_yticks(range(len(inits)), inits)
    _legend(figure, every, {row["verdict"] for row in rows})
    figure.set_label(_caption(network, numbered=numbered))
    if captioned:
        put_caption(figure)
    return figure


def _cell(axes: Axes, x: int, y: int, row: Mapping[str, Any], *, numbered: bool) -> None:
    from matplotlib.patches import Rectangle

    look = LOOKS[row["verdict"]]
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=look.face, edgecolor="#999999", linewidth=0.5))
    if look.hatch:
        axes.add_patch(
            Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch=look.hatch, edgecolor="white", linewidth=0)
        )
    rates = f"\n→ {_rate(row['forward_rate'])}\n← {_rate(row['backward_rate'])}"
    words = look.mark + (rates if numbered and row["verdict"] != "refused" else "")
    axes.text(x, y, words, color=look.ink, ha="center", va="center", fontsize=LEAST)


def _rate(value: float) -> str:
    """Return a growth a layer with its sign, `?` where there is none."""
    if math.isnan(value):
        return "?"
    if abs(value) < 0.005:
        return "0.00"  # without the sign of what was rounded away
    return f"{value:+.2f}".replace("inf", "∞").replace("-", "−")


def _legend(figure: Figure, every: Sequence[Axes], there: set[str]) -> None:
    from matplotlib.patches import Patch

    also = [
        Patch(facecolor=look.face, edgecolor="#999999", hatch=look.hatch, label=f"{look.mark} {verdict}")
        for verdict, look in LOOKS.items()
        if verdict in there
    ]
    legend_below(figure, every, also)


def _caption(network: str, *, numbered: bool) -> str:
    numbers = (
        " Numbers: growth a layer of the logarithm of the mean square forward (→), and of the squared gradient"
        " backward (←)."
        if numbered
        else ""
    )
    return (
        f"What signals do at initialization in {network}: they explode where one grows by more than e⁶ over the hidden"
        f" layers, vanish where one shrinks so, and hold elsewhere; nothing is trained.{numbers}"
    )
