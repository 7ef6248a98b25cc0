"""Widths of figures as papers print them, and how panels and words fit into them."""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass

from lottery.errors import UsageError

WIDTHS = {"column": 3.25, "page": 6.75}  # inches: the column and the page of two columns of the ICML's style
UNITS = {
    "in": 1.0,
    "cm": 1 / 2.54,
    "mm": 1 / 25.4,
    "pt": 1 / 72.27,
    "": 1.0,
}  # inches; TeX's point, as \the\columnwidth
NARROWEST, WIDEST = 1.5, 40.0  # inches
LEAST = 7  # points of the smallest letters
MOST_COLUMNS = 4
NARROW_PANEL = 1.5  # inches, with its labels
LOWEST_PANEL, HIGHEST_PANEL = 1.7, 3.0  # inches
SHAPE = 0.76  # height of a panel as a share of its width
LETTER = 0.58  # width of an average letter, as a share of its size
POINTS = 72  # in an inch
LEADING = 1.25  # height of a line, as a share of the size of its letters
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(in|cm|mm|pt|)")


def width_of(written: str | None) -> float | None:
    """Return a printed width in inches: that of `column` or `page`, or a number with `in`, `cm`, `mm`, `pt` or none.

    None stays None: the figure is then as wide as a column if it has one panel, else as a page.

    Raises:
        UsageError: It is none of these, or no width that a figure can have.
    """
    if written is None:
        return None
    if written in WIDTHS:
        return WIDTHS[written]
    found = _WRITTEN.fullmatch(written.strip())
    if found is None:
        raise UsageError(f"width {written}: is column, page, or a number of inches, such as 3.5in, 89mm or 8.9cm")
    width = float(found[1]) * UNITS[found[2]]
    if not NARROWEST <= width <= WIDEST:
        raise UsageError(f"width {written}: a figure is {NARROWEST:g} to {WIDEST:g} inches wide")
    return width


@dataclass(frozen=True)
class PanelGrid:
    """How panels stand beside and below one another.

    Attributes:
        columns: Number of panels in a row.
        rows: Number of rows.
        width: Width of the figure in inches.
        panel: Width of a panel in inches.
        height: Height of a panel in inches, without its title.
    """

    columns: int
    rows: int
    width: float
    panel: float
    height: float


def panel_grid(count: int, width: float | None = None, narrowest: float = NARROW_PANEL) -> PanelGrid:
    """Return the rows and columns of so many panels in a figure of this width, in inches.

    Rows are as even as they can be. A panel is `narrowest` inches wide at least, if the figure is.
    """
    if width is None:
        width = WIDTHS["column" if count == 1 else "page"]
    most = max(1, min(MOST_COLUMNS, count, math.floor(width / narrowest)))
    rows = math.ceil(count / most)
    columns = math.ceil(count / rows)
    panel = width / columns
    return PanelGrid(columns, rows, width, panel, min(HIGHEST_PANEL, max(LOWEST_PANEL, SHAPE * panel)))


def wrapped(text: str, inches: float, points: float = 8) -> str:
    """Return text in as many lines as it takes where a line is so long and its letters are so high."""
    letters = max(6, math.floor(inches * POINTS / (LETTER * points)))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, letters) or [""])


def lines_high(text: str, points: float = 8) -> float:
    """Return the height of text in inches."""
    return (1 + text.count("\n")) * LEADING * points / POINTS
