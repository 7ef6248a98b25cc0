r"""Tables in LaTeX, to \input in a paper; they need the package booktabs.

A table too wide for a page is cut into parts that repeat the columns which say what a row is, a long one into floats of
a page each; sentences of a row stand below under a letter. The keys of a row's trainings follow it as a comment.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lottery.formats.pages import columns, in_common, is_place, is_sentence
from lottery.words import short

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.formats.cells import Shown

WIDEST = 84  # characters of a row of footnote size, column gaps included, in the text of an article
LONGEST = 40  # lines of a float: rows, headers and notes
HEADER = 4  # lines that a part takes beside its rows
NOTE = 90  # characters of a line of notes

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\char96{}",
    "[": "{[}",  # after the end of a row it would begin an argument
    "]": "{]}",
    "*": "{*}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "∞": r"$\infty$",
    "²": "$^2$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "≈": r"$\approx$",
    "●": r"$\bullet$",
    "○": r"$\circ$",
    "▼": r"$\bigtriangledown$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "\u00a0": "~",
}


def escaped(text: str) -> str:
    """Return text so that LaTeX sets it as it is.

    A character that its standard fonts lack becomes its number, as in [U+4E2D].
    """
    text = re.sub(r"\s*\n\s*", "\n\n", text.strip())  # a line of its own stays one
    characters = (_SPECIAL.get(character) or _known(character) for character in unicodedata.normalize("NFC", text))
    return re.sub("-(?=-)", "-{}", "".join(characters))  # two hyphens are no dash


def _known(character: str) -> str:
    """Return a character that the encoding OT1, which LaTeX begins with, can set; else its number."""
    if character == "\n" or " " <= character <= "~":
        return character
    if character.isspace():
        return " "
    letter, *marks = list(unicodedata.normalize("NFD", character))
    if character in _LETTERS or (character < "\u0180" and letter in string.ascii_letters and set(marks) <= _MARKS):
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


_LETTERS = "ßÆæŒœØøÅåŁłıĲĳ"
_MARKS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")  # accents that OT1 has


def line(text: str) -> str:
    """Return text in one line, escaped."""
    return escaped(" ".join(text.split()))


def floats(rows: Sequence[Row], caption: str, label: str) -> list[str]:
    """Return a table as one or more floats.

    Args:
        rows: The rows, one at least.
        caption: The caption; what all rows share is said after it.
        label: The label of the first float; those of the others have `-2` and so on after it.
    """
    shared = in_common(rows)
    made = []
    for number, piece in enumerate(_pieces(rows), start=1):
        said = line(caption) + (" (continued)" if number > 1 else f". {line(shared)}" if shared else "")
        lines = [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{said}}}",
            rf"\label{{{label}{f'-{number}' if number > 1 else ''}}}",
            *piece,
            r"\end{table}",
        ]
        made.append("\n".join(lines))
    return made


def tabulars(rows: Sequence[Row]) -> str:
    """Return a table for a float of the reader's own: without caption and label, what all rows share below it."""
    pieces = ["\n".join(piece) for piece in _pieces(rows)] if rows else []
    shared = in_common(rows)
    return "\n\\par\\medskip\n".join([*pieces, *([_below([line(shared)])] if shared else [])])


def _pieces(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Yield what each float holds, in lines."""
    shown = columns(rows)
    notes = [column for column in shown if is_sentence(column, rows)]
    parts = list(_parts(rows, [column for column in shown if column not in notes]))
    groups = [parts]  # of parts that share a float
    if LONGEST // len(parts) - HEADER < min(LONGEST // 4, len(rows)):
        several = max(1, LONGEST // (HEADER + len(rows)))  # parts of a few rows share a float as far as they fit
        groups = [parts[at : at + several] for at in range(0, len(parts), several)]
    for group in groups:
        sentences = notes if group is groups[-1] else []
        for chunk in _chunks(rows, len(group), sentences):
            yield _piece(chunk, group, sentences)


def _chunks(rows: Sequence[Row], parts: int, notes: Sequence[Shown]) -> Iterator[Sequence[Row]]:
    """Yield the rows of each float: as many as fit on a page in so many parts with the notes that are new to it."""
    first, lines, said = 0, HEADER * parts, set[str]()
    for number, row in enumerate(rows):
        new = {text for column in notes if (text := column.text(row))}
        needed = parts + sum(1 + len(text) // NOTE for text in new - said)
        if lines + needed > LONGEST and number > first:
            yield rows[first:number]
            first, lines, said = number, HEADER * parts, set[str]()
            needed = parts + sum(1 + len(text) // NOTE for text in new)
        lines, said = lines + needed, said | new
    yield rows[first:]


def _parts(rows: Sequence[Row], shown: Sequence[Shown]) -> Iterator[list[Shown]]:
    """Yield the columns in parts that fit the width of a page, each with those that say what a row is."""
    lead = [column for column in shown if is_place(column)]
    widths = {
        column.column: 2 + max(*map(len, _header(column.header)), *(len(column.text(row)) for row in rows))
        for column in shown
    }
    first = sum(widths[column.column] for column in lead)
    part, width = list(lead), first
    for column in shown:
        if column in lead:
            continue
        if width + widths[column.column] > WIDEST and len(part) > len(lead):
            yield part
            part, width = list(lead), first
        part.append(column)
        width += widths[column.column]
    yield part


def _header(header: str) -> list[str]:
    """Return a header in two lines: the name and, below it, the unit; names of several words are halved."""
    name, bracket, unit = header.partition(" (")
    if bracket:
        return [name, f"({unit}"]
    words = name.split()
    return [" ".join(words[: (len(words) + 1) // 2]), " ".join(words[(len(words) + 1) // 2 :])]


def _piece(rows: Sequence[Row], parts: Sequence[list[Shown]], notes: Sequence[Shown]) -> list[str]:
    """Return rows in parts, one below the other, with the sentences marked in the last, in lines."""
    said = [[note for column in notes if (note := line(column.text(row)))] for row in rows]
    letters = {note: letter(n) for n, note in enumerate(dict.fromkeys(note for each in said for note in each))}
    marks = ["$^{" + ",".join(letters[note] for note in each) + "}$" if each else "" for each in said]
    made = [_tabular(rows, part, marks if part is parts[-1] else [""] * len(rows)) for part in parts]
    below = [rf"$^{{{letter}}}$ {note}" for note, letter in letters.items()]
    return ["\n\\par\\medskip\n".join(made), *([r"\par\smallskip" + _below(below)] if below else [])]


def _below(notes: Sequence[str]) -> str:
    return r"\parbox{\linewidth}{\raggedright " + r" \par ".join(notes) + "}"


def _tabular(rows: Sequence[Row], part: Sequence[Shown], marks: Sequence[str]) -> str:
    body = []
    for row, mark in zip(rows, marks, strict=True):
        cells = " & ".join(line(column.text(row)) for column in part)
        keys = ", ".join(short(key) for key in row.made_from)
        body.append(cells + mark + r" \\" + (f" % {keys}" if keys else ""))
    headers = [_header(column.header) for column in part]
    heads = [" & ".join(line(header[number]) for header in headers) + r" \\" for number in (0, 1)]
    alignment = "".join("r" if column.number else "l" for column in part)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            *(head for head in heads if head.strip("& \\")),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def letter(number: int) -> str:
    """Return a to z, then aa, ab and so on."""
    first, second = divmod(number, 26)
    return (letter(first - 1) if first else "") + string.ascii_lowercase[second]
