"""Options that the commands `lottery plot ...` share: the file, the width, and what of a study is shown."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.figures.selection import Selection

RecipeNames = Annotated[
    list[str],
    typer.Argument(
        metavar="RECIPE...",
        help="Recipe paths, or names of studies in the store (lottery studies) or of shipped recipes; several, or the "
        "points of a sweep, stand in one figure.",
    ),
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to [RECIPE-FIGURE.png]; .png, .svg, .pdf; repeatable."),
]
Width = Annotated[
    str | None,
    typer.Option(
        "--width",
        metavar="column|page|INCHES",
        help="Width in print: column (3.25in), page (6.75in), or a number with in, cm, mm or pt; else a "
        "column for one panel, a page for more.",
    ),
]
Optimizers = Annotated[
    list[str] | None,
    typer.Option("--optimizers", metavar="NAME,...", help="Only these, by name or label; repeatable."),
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--columns", metavar="NAME,...", help="Only these of ticket and controls; repeatable."),
]
Levels = Annotated[
    list[str] | None, typer.Option("--levels", metavar="N,...", help="Only these levels, as 1,3 or 1-4; repeatable.")
]
Densities = Annotated[
    list[str] | None,
    typer.Option("--densities", metavar="PERCENT,...", help="Only these densities, as 50,12.5; repeatable."),
]


def selection(
    optimizers: Iterable[str] | None = None,
    columns: Iterable[str] | None = None,
    levels: Iterable[str] | None = None,
    densities: Iterable[str] | None = None,
) -> Selection:
    """Return what is selected by the options of these names.

    Raises:
        UsageError: A level is no number.
    """
    from lottery.figures.selection import Selection

    numbers = tuple(level for text in listed(levels) for level in _levels(text))
    return Selection(listed(optimizers), listed(columns), numbers, listed(densities))


def listed(given: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of an option that takes several, with commas between them but for those in brackets."""
    found: list[str] = []
    for text in given or ():
        depth, name = 0, ""
        for letter in text:
            depth += (letter in "([{") - (letter in ")]}")
            if letter == "," and depth == 0:
                found, name = [*found, name], ""
            else:
                name += letter
        found.append(name)
    return tuple(name.strip() for name in found if name.strip())


def _levels(text: str) -> range:
    first, dash, last = text.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise UsageError(f"--levels {text}: is a level, such as 3, or some of them, such as 1,3 or 1-4")
    return range(int(first), int(last or first) + 1)
