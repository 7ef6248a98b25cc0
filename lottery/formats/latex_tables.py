r"""Tables in LaTeX, to \input in a paper; they need the packages booktabs, siunitx (version 3) and threeparttable.

A table that fits into a column of a paper in two columns becomes a `table`, another one a `table*` across the page. One
that is too wide for a page too is cut into parts that repeat the columns which say what a row is, a long one into
floats of a page each. Sentences of a row stand below as table notes. The keys of a row's trainings follow it as a
comment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery.formats.latex import letter, line
from lottery.formats.latex_columns import GAP, SetColumn, seed_counts, set_column
from lottery.formats.pages import columns, in_common, is_place, is_sentence
from lottery.words import counted, short

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.formats.cells import Shown

PACKAGES = r"% \usepackage{booktabs,siunitx,threeparttable}"
WIDTHS = {"column": 229.0, "page": 345.0}  # points: of an article's column in two columns, of its text in one
LONGEST = 40  # lines of a float: rows, headers and notes
RULES = 2  # lines that a part takes beside its rows and its headers
NOTE = {"column": 58, "page": 90}  # characters of a line of notes

Width = Literal["column", "page"]


@dataclass(frozen=True)
class Paper:
    """How a table stands in a paper.

    Attributes:
        caption: The caption; none where it is empty.
        label: The label, without `tab:`; none where it is empty.
        width: The width that it is fitted to: with `page` every table goes across the page.
    """

    caption: str = ""
    label: str = ""
    width: Width = "column"


def floats(rows: Sequence[Row], paper: Paper) -> list[str]:
    """Return a table as one or more floats; the label of the first is that of the paper, others have `-2` after it."""
    if not rows:
        return []
    shown = columns(rows)
    sentences = [column for column in shown if is_sentence(column, rows)]
    counts = seed_counts(shown, rows)
    letters = {f"{counted(int(count), 'seed')}": "" for count in counts[1:]}
    letters |= {note: "" for row in rows for column in sentences if (note := line(column.text(row)))}
    letters = {note: letter(number) for number, note in enumerate(letters)}
    marks = {count: letters[counted(int(count), "seed")] for count in counts[1:]}
    made = [set_column(column, rows, marks, place=is_place(column)) for column in shown if column not in sentences]
    table = _Table(rows, paper, made, letters, [_notes(row, sentences) for row in rows], counts, in_common(rows))
    return list(table.floats())


def _notes(row: Row, sentences: Sequence[Shown]) -> list[str]:
    return [note for column in sentences if (note := line(column.text(row)))]


@dataclass(frozen=True)
class _Table:
    """A table that is about to be set.

    Attributes:
        rows: The rows.
        paper: How it stands in a paper.
        columns: The columns.
        letters: The letter of each note.
        notes: The notes of each row.
        seeds: The numbers of seeds behind its means, the most common first.
        shared: What all rows share, in words.
    """

    rows: Sequence[Row]
    paper: Paper
    columns: Sequence[SetColumn]
    letters: Mapping[str, str]
    notes: Sequence[Sequence[str]]
    seeds: Sequence[str]
    shared: str

    def floats(self) -> Iterator[str]:
        """Yield the floats."""
        width: Width = self.paper.width
        if width == "column" and _wide(self.columns) > WIDTHS["column"]:
            width = "page"
        parts = list(_parts(self.columns))
        groups: list[Sequence[Sequence[SetColumn]]] = [parts]  # of parts that share a float
        most, cut = LONGEST // 4, len([*self._chunks(len(parts), NOTE[width], first=True)]) > 1
        if LONGEST // len(parts) - self._head < min(most, len(self.rows)) or (cut and len(self.rows) <= most):
            groups = self._groups(parts, NOTE[width])
        number = 0
        for group in groups:
            for chunk in self._chunks(len(group), NOTE[width], first=not number):
                number += 1
                yield self._float(width, number, group, chunk)

    def _groups(self, parts: Sequence[Sequence[SetColumn]], note: int) -> list[Sequence[Sequence[SetColumn]]]:
        """Return the parts that share a float: of a few rows as many as fit with all notes."""
        notes = sum(1 + len(each) // note for each in (*self._general(), *self.letters))
        several = max(1, (LONGEST - notes) // (self._head + len(self.rows)))
        return [parts[at : at + several] for at in range(0, len(parts), several)]

    @property
    def _head(self) -> int:
        return RULES + max(len(column.head) for column in self.columns)

    def _said(self, chunk: range) -> list[str]:
        """Return the notes of some rows, those on numbers of seeds first."""
        told = {note for place in chunk for note in self.notes[place]}
        told |= {counted(int(count), "seed") for count in self.seeds[1:]}
        return [note for note in self.letters if note in told]

    def _general(self) -> list[str]:
        """Return the notes on the whole table."""
        said = []
        if self.seeds:
            also = " unless noted" if len(self.seeds) > 1 else ""
            said.append(rf"Mean $\pm$ standard deviation over {counted(int(self.seeds[0]), 'seed')}{also}.")
        return [*said, *([line(self.shared)] if self.shared else [])]

    def _chunks(self, parts: int, note: int, *, first: bool) -> Iterator[range]:
        """Yield the rows of each float: as many as fit on a page in so many parts with the notes that are new to it."""
        begun = self._head * parts + (sum(1 + len(each) // note for each in self._general()) if first else 0)
        start, lines, said = 0, begun, set[str]()
        for number, notes in enumerate(self.notes):
            needed = parts + sum(1 + len(each) // note for each in {*notes} - said)
            if lines + needed > LONGEST and number > start:
                yield range(start, number)
                start, lines, said = number, self._head * parts, set()
                needed = parts + sum(1 + len(each) // note for each in notes)
            lines += needed
            said |= {*notes}
        yield range(start, len(self.rows))

    def _float(self, width: Width, number: int, parts: Sequence[Sequence[SetColumn]], chunk: range) -> str:
        name, where = ("table", "[htbp]") if width == "column" else ("table*", "[tbp]")
        caption = line(self.paper.caption) + (" (continued)" if number > 1 else "")
        label = f"{self.paper.label}{f'-{number}' if number > 1 else ''}"
        below = [rf"\item[{self.letters[note]}] {note}" for note in self._said(chunk)]
        below += [rf"\item {note}" for note in (self._general() if number == 1 else ())]
        bodies = [self._part(part, chunk, below if part is parts[-1] else ()) for part in parts]
        return "\n".join(
            [
                rf"\begin{{{name}}}{where}",
                r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
                r"\sisetup{uncertainty-mode=separate,table-align-uncertainty=false,retain-explicit-plus}",
                *([rf"\setlength{{\belowcaptionskip}}{{4pt}}\caption{{{caption}}}"] if self.paper.caption else []),
                *([rf"\label{{tab:{label}}}"] if self.paper.label else []),
                "\n\\par\\medskip\n".join(bodies),
                rf"\end{{{name}}}",
            ]
        )

    def _part(self, part: Sequence[SetColumn], chunk: range, below: Sequence[str]) -> str:
        marked = next((place for place, column in enumerate(part) if not column.number), None)
        body = []
        for place in chunk:
            cells = [column.cells[place] for column in part]
            if letters := ",".join(self.letters[note] for note in self.notes[place]):
                at = 0 if marked is None else marked
                text = f"{cells[at]}\\tnote{{{letters}}}"
                cells[at] = text if marked is not None else f"{{{text}}}"
            keys = ", ".join(map(short, self.rows[place].made_from))
            body.append(" & ".join(cells) + r" \\" + (f" % {keys}" if keys else ""))
        lines = max(len(column.head) for column in part)
        heads = [[""] * (lines - len(column.head)) + column.head for column in part]
        return "\n".join(
            [
                r"\begin{threeparttable}",
                rf"\begin{{tabular}}{{@{{}}{''.join(column.kind for column in part)}@{{}}}}",
                r"\toprule",
                *(" & ".join(head[number] for head in heads) + r" \\" for number in range(lines)),
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                *([r"\begin{tablenotes}\raggedright", *below, r"\end{tablenotes}"] if below else []),
                r"\end{threeparttable}",
            ]
        )


def _wide(part: Sequence[SetColumn]) -> float:
    """Return the width of columns side by side, in points."""
    return sum(column.width for column in part) + GAP * (len(part) - 1)


def _parts(made: Sequence[SetColumn]) -> Iterator[list[SetColumn]]:
    """Yield the columns in parts that fit the width of a page, each with those that say what a row is.

    Of these the first part has all, the others those that tell rows apart.
    """
    lead = [column for column in made if column.place]
    again = [column for column in lead if len({*column.cells}) > 1] or lead[:1]
    part, places = list(lead), len(lead)
    for column in made:
        if column.place:
            continue
        if _wide([*part, column]) > WIDTHS["page"] and len(part) > places:
            yield part
            part, places = list(again), len(again)
        part.append(column)
    yield part
