"""A table as text: aligned columns with numbered notes below it, in blocks where it is wider than the terminal."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest

from lottery.analysis.columns import Column
from lottery.formats.cells import TERMINAL, Shown, Values, for_programs
from lottery.words import short

Cells = Sequence[Mapping[str, str]]  # the rows as they are read, each with the same columns
Heads = Mapping[str, tuple[list[str], int]]  # by column: its header in lines, and its width

GAP = "  "
NOTES = ("note", "reason")  # columns of sentences, which stand below the table
ALWAYS = (
    "study",
    "optimizer",
    "found_with",
    "rewind",
    "density",
    "networks",
    "verdict",
)  # columns that stay, though all rows say the same
FIRST = ("verdict", *NOTES)  # columns that the first block has, wherever they stand in the table
REPEATED = (  # columns that say what a row is, which each block repeats; those named last make room first
    *(
        "study",
        "optimizer",
        "found_with",
        "density",
        "networks",
        "rewind",
        "seed",
        "kind",
        "layer",
        "branch",
        "sample",
        "against",
        "claim",
    ),
    *("field", "between", "other", "retrained_with"),
)
TALL = 20  # rows of a block at most, where there are several blocks
MOST = 0.75  # of the width, for what is repeated


def text(rows: Sequence[Values], width: int | None = None) -> str:
    """Return a table in lines, with its notes below.

    Without a width every column stands in one line, as files and pipes want it. With one nothing is wider: columns that
    are empty, the same in all rows or for programs only are left out, the others fall into blocks that repeat what a
    row is, and many rows into bands, so that the blocks of a row are not far from one another.
    """
    columns = TERMINAL.columns(rows)
    headers = {str(shown.column): shown.header for shown in columns}
    cells: Cells = [{str(shown.column): _marked(shown, row) for shown in columns} for row in rows]
    if width is None:
        cells, below = _with_numbers(cells)
        return "".join(f"{line}\n" for line in [*_aligned(cells, _heads(cells, headers)), *below])
    cells, shared = _varying(rows, columns, cells)
    cells, below = _with_numbers(cells)
    heads = _heads(cells, headers)
    networks = {str(shown.column): shown.column.network for shown in columns if shown.column.network}
    swept = [str(shown.column) for shown in columns if shown.column.quantity == "swept"]
    parts = list(_parts(networks, heads, width, swept))
    bands = list(_bands(cells)) if len(parts) > 1 else [cells]
    blocks = [_fitting(_only(part, band), width, heads) for band in bands for part in parts]
    under = [line for note in [*below, *shared] for line in _wrapped(note, width)]
    return "\n\n".join("\n".join(lines) for lines in [*blocks, under] if lines) + "\n"


def _marked(shown: Shown, row: Values) -> str:
    return shown.text(row) + " *" * shown.best(row)


def _with_numbers(cells: Cells) -> tuple[Cells, list[str]]:
    """Return the cells with numbers in place of the NOTES, and the lines that say what they mean.

    What all of several rows say needs no number.
    """
    said = {name: [_statements(name, row[name]) for row in cells] for name in NOTES if cells and name in cells[0]}
    everywhere = {
        name: [each for each in rows[0] if len(rows) > 1 and all(each in row for row in rows)]
        for name, rows in said.items()
    }
    numbers: dict[str, int] = {}
    numbered: list[dict[str, str]] = []
    for place, row in enumerate(cells):
        new = dict(row)
        for name, rows in said.items():
            own = [each for each in rows[place] if each not in everywhere[name]]
            marks = [numbers.setdefault(each, len(numbers) + 1) for each in own]
            new[name] = f"[{','.join(map(str, sorted(marks)))}]" if marks else ""
        numbered.append(new)
    empty = {name for name in said if not any(row[name] for row in numbered)}
    below = [f"[{number}] {note}" for note, number in numbers.items()]
    below += [f"all rows: {note}" for notes in everywhere.values() for note in notes]
    return [{name: cell for name, cell in row.items() if name not in empty} for row in numbered], below


def _statements(name: str, cell: str) -> list[str]:
    """Return the statements of a cell: a note is a list of them, a reason is one."""
    return list(dict.fromkeys(cell.split("; ") if name == "note" else [cell])) if cell else []


def _varying(rows: Sequence[Values], columns: Sequence[Shown], cells: Cells) -> tuple[Cells, list[str]]:
    """Return the cells of the columns that tell rows apart, with keys in short, and lines that say what all rows share.

    Left out are columns for programs only, those that are empty in all rows, and those of one word in all of several.
    Numbers stay, beside those that they are to be compared with.
    """
    kept: dict[str, Column] = {}
    shared, left_out = [], for_programs(rows)
    for shown in columns:
        if shown.column in left_out:
            continue
        name, told = str(shown.column), [row[shown.column] for row in cells]
        if not any(told):
            continue
        word = isinstance(rows[0].get(shown.column), (str, bool))
        always = name in (*ALWAYS, *NOTES) or shown.column.quantity == "swept"
        if word and len(told) > 1 and len(set(told)) == 1 and not always:
            shared.append(f"{shown.header} {_in_short(shown.column, told[0])}")
        else:
            kept[name] = shown.column
    lines = [f"all rows: {', '.join(shared)}"] if shared else []
    return [{name: _in_short(column, row[name]) for name, column in kept.items()} for row in cells], lines


def _in_short(column: Column, cell: str) -> str:
    return short(cell) if column.unit == "key" else cell


def _parts(networks: Mapping[str, str], heads: Heads, width: int, swept: Sequence[str]) -> Iterator[list[str]]:
    """Yield the names of the columns in parts that fit the width, each with those that say what a row is.

    What is said of one network stays together, where a part has room for it.
    """
    names = list(heads)
    widths = {name: len(GAP) + heads[name][1] for name in names}
    lead = [name for name in (*swept, *REPEATED) if name in names]
    while len(lead) > 1 and sum(widths[name] for name in lead) > MOST * width:
        lead.pop()
    first = sum(widths[name] for name in lead) - len(GAP)
    part, used = list(lead), first
    others = sorted((name for name in names if name not in lead), key=lambda name: name not in FIRST)
    for group in _groups(networks, others):
        together = sum(widths[name] for name in group)
        for chunk in [group] if first + together <= width else [[name] for name in group]:
            wanted = sum(widths[name] for name in chunk)
            if used + wanted > width and len(part) > len(lead):
                yield [name for name in names if name in part]
                part, used = list(lead), first
            part += chunk
            used += wanted
    yield [name for name in names if name in part]


def _bands(cells: Cells) -> Iterator[Cells]:
    """Yield the rows in bands of TALL at most, which begin with a new optimizer where there is one."""
    band: list[Mapping[str, str]] = []
    for _, group in groupby(cells, lambda row: next(iter(row.values()))):
        rows = list(group)
        if len(band) + len(rows) > TALL and band:
            yield band
            band = []
        band += rows
        while len(band) > TALL:
            yield band[:TALL]
            band = band[TALL:]
    if band or not cells:
        yield band


def _groups(networks: Mapping[str, str], names: Sequence[str]) -> list[list[str]]:
    """Return the columns of each network together, every other one for itself."""
    groups: dict[tuple[bool, str], list[str]] = {}
    for name in names:
        groups.setdefault((name in networks, networks.get(name, name)), []).append(name)
    return list(groups.values())


def _only(names: Sequence[str], cells: Cells) -> Cells:
    return [{name: row[name] for name in names} for row in cells]


def _heads(cells: Cells, headers: Mapping[str, str]) -> Heads:
    """Return how each column of the whole table is headed, which all of its blocks share."""
    heads = {}
    for name in cells[0] if cells else ():
        told = [row[name] for row in cells]
        folded = _folded(headers[name], told)
        heads[name] = (folded, max(map(len, (*folded, *told))))
    return heads


def _aligned(cells: Cells, heads: Heads) -> list[str]:
    """Return lines of columns as narrow as they can be for the whole table, with a rule below their names."""
    names, rows = list(cells[0]) if cells else [], [list(row.values()) for row in cells]
    widths = [heads[name][1] for name in names]
    above = zip_longest(*(heads[name][0] for name in names), fillvalue="")
    lines = [*above, ["-" * width for width in widths], *rows]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return [GAP.join(line).rstrip() for line in padded]


def _fitting(cells: Cells, width: int, heads: Heads) -> list[str]:
    """Return the lines of a part; where even that is too wide, its widest cells are broken into lines."""
    lines = _aligned(cells, heads)
    if max(map(len, lines)) <= width:
        return lines
    from rich.console import Console
    from rich.rule import Rule
    from rich.table import Table

    names = list(cells[0])
    grid = Table.grid(padding=(0, len(GAP)))
    for _ in names:
        grid.add_column(overflow="fold")
    grid.add_row(*("\n".join(heads[name][0]) for name in names))
    grid.add_row(*(Rule(characters="-", style="none") for _ in names))
    for row in cells:
        grid.add_row(*row.values())
    console = Console(width=width, color_system=None, force_terminal=False, markup=False, highlight=False, emoji=False)
    with console.capture() as drawn:
        console.print(grid)
    return [line.rstrip() for line in drawn.get().splitlines()]


def _folded(header: str, cells: Sequence[str]) -> list[str]:
    """Return a column's header in lines that are no wider than its cells or its longest word.

    It is broken at spaces and after underscores.
    """
    first, *words = re.split("(?<=[_ ])(?=.)", header)
    width = max(len(text.rstrip()) for text in (first, *words, *cells))
    lines = [first]
    for word in words:
        if len(lines[-1]) + len(word.rstrip()) <= width:
            lines[-1] += word
        else:
            lines.append(word)
    return [line.rstrip() for line in lines]


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line below the table in lines of this width, the later ones set in below the words of its note."""
    mark = re.match(r"\[\d+\] |", line)
    indent = len(mark[0]) if mark and mark[0] else 2
    return textwrap.wrap(line, width, subsequent_indent=" " * min(indent, width // 2), break_on_hyphens=False)
