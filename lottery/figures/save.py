"""Writing a figure to a file, in the format that its name asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.errors import UsageError
from lottery.figures import drawn
from lottery.files.write import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FORMATS = (".png", ".svg", ".pdf")


def image(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw a figure into a file, all or nothing; the same bytes for the same figure.

    Raises UsageError before drawing where the name says no format that there is.
    """
    form = checked(path).suffix.lower()[1:]
    write_atomic(path, drawn(draw(), form))


def checked(path: Path) -> Path:
    """The path, if its name says a format that there is. Raises UsageError."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: no picture is called so; end the name in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return path
