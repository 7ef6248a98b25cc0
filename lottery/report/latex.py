r"""A report in LaTeX, to \input in a paper: tables need the package booktabs, figures are there where graphicx is.

Tables too wide for a page are cut into parts that repeat the columns which say what a row is, long ones into floats of
a page each; sentences of a row stand below under a letter. The keys of a row's trainings follow it as a comment.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.report.columns import PLACE, Column, colophon, columns, in_common, is_sentence
from lottery.words import short

if TYPE_CHECKING:
    from lottery.report.content import Picture, Report, Section, Table

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
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "\u00a0": "~",
}


def latex(report: Report) -> bytes:
    """The whole report but the rows of long tables, which lie in files of their own."""
    return ("\n\n".join(_blocks(report)) + "\n").encode()


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is. A character that its standard fonts lack becomes its number, as in [U+4E2D]."""
    text = re.sub(r"\s*\n\s*", "\n\n", text.strip())  # a line of its own stays one
    characters = (_SPECIAL.get(character) or _known(character) for character in unicodedata.normalize("NFC", text))
    return re.sub("-(?=-)", "-{}", "".join(characters))  # two hyphens are no dash


def _known(character: str) -> str:
    """A character that the encoding OT1, which LaTeX begins with, can set; else its number."""
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


def _line(text: str) -> str:
    return escaped(" ".join(text.split()))


def _comment(text: str) -> str:
    return re.sub(r"[^ -~]", "?", " ".join(text.split()))


def _blocks(report: Report) -> Iterator[str]:
    yield "\n".join(
        [
            f"% {_comment(report.name)}: by {_comment(report.software)}, trainings up to {report.date or 'none'}",
            r"% \usepackage{booktabs}",
            r"% \usepackage{graphicx} for the figures; where this file lies in another folder than the paper,",
            r"% \graphicspath{{that folder/}}",
        ]
    )
    yield rf"\subsection*{{{_line(report.name)}}}"
    if report.question:
        yield escaped(report.question)
    for warning in report.warnings:
        yield rf"\textbf{{Mind:}} {_line(warning)}."
    for section in report.sections:
        yield from _section(report, section)
    data = ", ".join(rf"{_line(name)} (\texttt{{{short(value)}}})" for name, value in report.fingerprints.items())
    yield rf"{{\raggedright Data: {data}. {_line(colophon(report))}\par}}"


def _section(report: Report, section: Section) -> Iterator[str]:
    yield rf"\subsubsection*{{{_line(section.title)}}}"
    if section.sentences:
        yield "\n\n".join(_line(sentence) for sentence in section.sentences)
    if section.explanation:
        yield escaped(section.explanation)
    for table in section.tables:
        if table.appendix:
            where = rf"\texttt{{{_line(table.name)}}} of the formats csv, parquet and json"
            yield f"{_line(table.caption)}: {len(table.rows)} rows, {where}."
        else:
            yield from _floats(report, table)
    for picture in section.pictures:
        yield _figure(report, picture)
    for reason in section.absent:
        yield rf"\emph{{{_line(reason)}}}"


def _figure(report: Report, picture: Picture) -> str:
    return "\n".join(
        [
            r"\ifdefined\includegraphics",
            r"\begin{figure}[htbp]",
            r"\centering",
            rf"\includegraphics[width=\linewidth]{{{picture.name}.pdf}}",
            rf"\caption{{{_line(picture.caption)}}}",
            rf"\label{{fig:{report.name}-{picture.name}}}",
            r"\end{figure}",
            r"\fi",
        ]
    )


def _floats(report: Report, table: Table) -> Iterator[str]:
    """The table as one or more floats, labelled tab:NAME-TABLE, tab:NAME-TABLE-2 and so on."""
    shown = columns(table, report.confidence)
    notes = [column for column in shown if is_sentence(column, table)]
    parts = list(_parts(table, [column for column in shown if column not in notes]))
    groups = [parts]  # of parts that share a float
    if LONGEST // len(parts) - HEADER < min(LONGEST // 4, len(table.rows)):
        groups = [[part] for part in parts]
    floats = [
        (group, rows, said)
        for group in groups
        for said in [notes if group is groups[-1] else []]
        for rows in _chunks(table, len(group), said)
    ]
    shared = in_common(table, report.confidence)
    for number, (group, rows, said) in enumerate(floats, start=1):
        label = f"tab:{report.name}-{table.name}" + (f"-{number}" if number > 1 else "")
        caption = _line(table.caption) + (" (continued)" if number > 1 else f". {_line(shared)}" if shared else "")
        yield _float(table, rows, group, said, caption, label)


def _chunks(table: Table, parts: int, notes: Sequence[Column]) -> Iterator[range]:
    """The rows of each float: as many as fit on a page in so many parts with the notes that are new to the float."""
    first, lines, said = 0, HEADER * parts, set[str]()
    for place, row in enumerate(table.rows):
        new = {text for column in notes if (text := column.text(row))}
        needed = parts + sum(1 + len(text) // NOTE for text in new - said)
        if lines + needed > LONGEST and place > first:
            yield range(first, place)
            first, lines, said = place, HEADER * parts, set[str]()
            needed = parts + sum(1 + len(text) // NOTE for text in new)
        lines, said = lines + needed, said | new
    yield range(first, len(table.rows))


def _parts(table: Table, shown: Sequence[Column]) -> Iterator[list[Column]]:
    """The columns in parts that fit the width of a page, each with those that say what a row is."""
    place = [column for column in shown if column.name in PLACE]
    widths = {
        column.header: 2 + max(_header_width(column), *(len(column.text(row)) for row in table.rows))
        for column in shown
    }
    part, width = list(place), sum(widths[column.header] for column in place)
    for column in shown:
        if column in place:
            continue
        if width + widths[column.header] > WIDEST and len(part) > len(place):
            yield part
            part, width = list(place), sum(widths[column.header] for column in place)
        part.append(column)
        width += widths[column.header]
    yield part


def _header_width(column: Column) -> int:
    return max(len(line) for line in _header(column.header))


def _header(header: str) -> list[str]:
    """A header in two lines: the name and, below it, the unit; names of several words are halved."""
    name, bracket, unit = header.partition(" (")
    if bracket:
        return [name, f"({unit}"]
    words = name.split()
    return [" ".join(words[: (len(words) + 1) // 2]), " ".join(words[(len(words) + 1) // 2 :])]


def _float(
    table: Table, rows: range, parts: Sequence[list[Column]], notes: Sequence[Column], caption: str, label: str
) -> str:
    """A float of these rows in its parts, one below the other, with the sentences marked in the last."""
    said = {place: [note for column in notes if (note := _line(column.text(table.rows[place])))] for place in rows}
    letters = {
        note: _letter(n) for n, note in enumerate(dict.fromkeys(note for each in said.values() for note in each))
    }
    marks = {place: "$^{" + ",".join(letters[note] for note in each) + "}$" for place, each in said.items() if each}
    tabulars = [_tabular(table, rows, part, marks if part is parts[-1] else {}) for part in parts]
    below = [rf"$^{{{letter}}}$ {note}" for note, letter in letters.items()]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            "\n\\par\\medskip\n".join(tabulars),
            *([r"\par\smallskip\parbox{\linewidth}{\raggedright " + r" \par ".join(below) + "}"] if below else []),
            r"\end{table}",
        ]
    )


def _tabular(table: Table, rows: range, part: Sequence[Column], marks: Mapping[int, str]) -> str:
    body = []
    for place in rows:
        cells = " & ".join(_line(column.text(table.rows[place])) for column in part)
        keys = ", ".join(short(key) for key in table.keys[place])
        body.append(cells + marks.get(place, "") + r" \\" + (f" % {keys}" if keys else ""))
    headers = [_header(column.header) for column in part]
    lines = [" & ".join(_line(header[line]) for header in headers) + r" \\" for line in (0, 1)]
    alignment = "".join("r" if column.number else "l" for column in part)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
            r"\toprule",
            *(line for line in lines if line.strip("& \\")),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _letter(number: int) -> str:
    """A to z, then aa, ab and so on."""
    first, second = divmod(number, 26)
    return (_letter(first - 1) if first else "") + string.ascii_lowercase[second]
