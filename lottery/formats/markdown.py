"""Tables in Markdown, as code hosting sites show them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from lottery.formats.pages import columns, in_common
from lottery.words import short

if TYPE_CHECKING:
    from lottery.analysis.rows import Row

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|&~])")
_LINE_START = re.compile(r"(?m)^(\s*)([-+=]|\d+[.)])(?=\s|[-=]|$)")


def escaped(text: str) -> str:
    """Return text so that Markdown, and HTML inside it, shows it as it is."""
    text = _SPECIAL.sub(r"\\\1", text.replace("\r\n", "\n"))
    return _LINE_START.sub(lambda match: f"{match[1]}{match[2][:-1]}\\{match[2][-1]}", text)


def line(text: str) -> str:
    """Return text in one line, escaped."""
    return " ".join(escaped(text).split())


def pipe_table(rows: Sequence[Row], *, keys: bool = False) -> str:
    """Return a pipe table, after a sentence on what all rows share; empty where there are no rows.

    With `keys` the first digits of the keys of the trainings that a row was made from stand in the last column.
    """
    if not rows:
        return ""
    shown = columns(rows)
    cells = [[_marked(line(column.text(row)), column.best(row)) for column in shown] for row in rows]
    headers = [line(column.header) for column in shown]
    sides = ["right" if column.number else "left" for column in shown]
    if keys:
        made_from = (", ".join(f"`{short(key)}`" for key in row.made_from) for row in rows)
        cells = [[*told, each] for told, each in zip(cells, made_from, strict=True)]
        headers, sides = [*headers, "made from"], [*sides, "left"]
    made = tabulate(cells, headers, tablefmt="pipe", disable_numparse=True, colalign=sides)
    return "\n\n".join(filter(None, [line(in_common(rows)), made]))


def _marked(cell: str, best: bool) -> str:
    return f"**{cell}**" if best else cell


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a pipe table of words, which are escaped here; its columns are not padded, as cells may be long."""
    told = [[line(cell) for cell in cells] for cells in (headers, *rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in told]
    return "\n".join([lines[0], "|" + "---|" * len(headers), *lines[1:]])
