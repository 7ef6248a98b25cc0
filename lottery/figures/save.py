"""Writing a figure to a file, in the format that its name says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.errors import UsageError
from lottery.figures import figure_bytes
from lottery.files.write import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SUFFIXES = (".png", ".svg", ".pdf")


def save_figure(path: Path, draw: Callable[[], Figure]) -> None:
    """Draw a figure into a file, all or nothing; the same bytes for the same figure.

    Raises:
        UsageError: The name says no format that there is; nothing was drawn.
    """
    form = check_suffix(path).suffix.lower()[1:]
    write_atomic(path, figure_bytes(draw(), form))


def check_suffix(path: Path) -> Path:
    """Return the path, if its name says a format that there is.

    Raises:
        UsageError: It does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{path}: no picture is called so; end the name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    return path
