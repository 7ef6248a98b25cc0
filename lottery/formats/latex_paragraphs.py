r"""Tables in LaTeX whose columns are as wide as they are told, with cells of several lines, to \input in a paper.

They need the package booktabs. A long table becomes floats of a page each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lottery.formats.latex import line

LINE = 84  # characters of footnote size across the text of an article
LONGEST = 46  # lines of a float beside its caption and header


def paragraph_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float], caption: str, label: str
) -> list[str]:
    """Return a table as one or more floats.

    Args:
        headers: The header of each column.
        rows: The cells of each row, as words that are escaped here.
        widths: The width of each column as a fraction of the width of the text; 0 for as wide as its widest cell.
        caption: The caption.
        label: The label of the first float; those of the others have `-2` and so on after it.
    """
    made = []
    for number, chunk in enumerate(_chunks(rows, widths), start=1):
        lines = [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{line(caption)}{' (continued)' if number > 1 else ''}}}",
            rf"\label{{{label}{f'-{number}' if number > 1 else ''}}}",
            rf"\begin{{tabular}}{{@{{}}{''.join(map(_column, widths))}@{{}}}}",
            r"\toprule",
            _row(headers, widths),
            r"\midrule",
            "\n\\addlinespace[2pt]\n".join(_row(row, widths) for row in chunk),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        made.append("\n".join(lines))
    return made


def _column(width: float) -> str:
    return rf"p{{{width:g}\linewidth}}" if width else "l"


def _row(cells: Sequence[str], widths: Sequence[float]) -> str:
    r"""Return a row; \raggedright gives \\ another meaning, so that \tabularnewline ends it."""
    told = (r"\raggedright " * bool(width) + line(cell) for cell, width in zip(cells, widths, strict=True))
    return " & ".join(told) + r" \tabularnewline"


def _chunks(rows: Sequence[Sequence[str]], widths: Sequence[float]) -> Iterator[Sequence[Sequence[str]]]:
    """Yield the rows of each float: as many as fit on a page."""
    first, taken = 0, 0
    for number, row in enumerate(rows):
        needed = max(
            math.ceil(len(cell) / (LINE * width)) if width else 1 for cell, width in zip(row, widths, strict=True)
        )
        if taken + needed > LONGEST and number > first:
            yield rows[first:number]
            first, taken = number, 0
        taken += needed
    yield rows[first:]
