"""Columns of tables in LaTeX: numbers aligned at their decimal marks by siunitx, words on the left, headers folded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.formats.latex import line
from lottery.formats.latex_widths import BOLD, width

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.formats.cells import Shown

GAP = 6.0  # points between two columns
WORDS = 110.0  # points: a column of words is broken into lines of so many, or of its longest word
MARK = 5.0  # points of the letter of a note
_NUMBER = re.compile(
    r"(?P<than>< |)(?P<sign>[+−]?)(?P<whole>\d[\d,]*)(?:\.(?P<places>\d+))?"
    r"(?: ± (?P<spread>\d+(?:\.\d+)?))?(?: \((?P<seeds>\d+)\))?"
)

Seeds = Mapping[str, str]  # the mark of a mean by its number of seeds, empty for the most common number


@dataclass(frozen=True)
class SetColumn:
    """A column as it is set.

    Attributes:
        head: Lines of the header, escaped.
        kind: What stands for it in the argument of the tabular.
        cells: Its cells, escaped.
        width: Its width in points.
        place: True if it says what a row is.
        number: True if siunitx sets it.
    """

    head: list[str]
    kind: str
    cells: list[str]
    width: float
    place: bool
    number: bool


def seed_counts(shown: Sequence[Shown], rows: Sequence[Row]) -> list[str]:
    """Return the numbers of seeds behind means, the most common first."""
    means = [column for column in shown if column.column.quantity == "mean"]
    found = (_NUMBER.fullmatch(column.text(row)) for column in means for row in rows)
    return [count for count, _ in Counter(each["seeds"] for each in found if each and each["seeds"]).most_common()]


def set_column(shown: Shown, rows: Sequence[Row], marks: Seeds, *, place: bool) -> SetColumn:
    """Return a column as it is set: as numbers where every cell that is not empty is one, or says that none is there.

    Args:
        shown: The column.
        rows: The rows.
        marks: The letters of the notes on the numbers of seeds, by the number.
        place: True if it says what a row is.
    """
    texts = [shown.text(row) for row in rows]
    numbers = [_NUMBER.fullmatch(text) for text in texts]
    means = shown.column.quantity == "mean"
    fit = [bool(found or not text or means) for found, text in zip(numbers, texts, strict=True)]
    if not shown.number or not any(numbers) or not all(fit):
        return _words(shown, texts, place)
    known = [found for found in numbers if found]
    best = [shown.best(row) for row in rows]
    cells = [
        _number(found, marks, bold) if found else f"{{{line(text)}}}"
        for text, found, bold in zip(texts, numbers, best, strict=True)
    ]
    needed = _number_width(known) * (BOLD if any(best) else 1)
    needed += MARK if any(marks.get(found["seeds"] or "") for found in known) else 0
    needed = max(needed, *(0.0 if found else width(text) for text, found in zip(texts, numbers, strict=True)))
    head, widest = _folded(shown.header, needed)
    kind = f"S[table-format={_format(known)}{',' + _BOLD if any(best) else ''}]"
    return SetColumn(
        [f"{{{line(each)}}}" if each else "" for each in head], kind, cells, max(needed, widest), place, True
    )


_BOLD = "text-series-to-math,propagate-math-font"


def _words(shown: Shown, texts: Sequence[str], place: bool) -> SetColumn:
    needed = max((width(text) for text in texts), default=0.0)
    kind = "r" if shown.number else "l"
    if needed > WORDS:
        needed = max(WORDS, *(width(word) for text in texts for word in text.split()))
        kind = rf">{{\raggedright\arraybackslash}}p{{{needed:.4g}pt}}"
    head, widest = _folded(shown.header, needed)
    return SetColumn(
        [line(each) for each in head], kind, [line(text) for text in texts], max(needed, widest), place, False
    )


def _number(found: re.Match[str], marks: Seeds, bold: bool) -> str:
    sign = {"−": "-"}.get(found["sign"], found["sign"])
    text = f"{found['than'].strip()}{sign}{found['whole'].replace(',', '')}"
    text += f".{found['places']}" if found["places"] else ""
    text += rf" \pm {found['spread']}" if found["spread"] else ""
    mark = marks.get(found["seeds"] or "", "")
    return (r"\bfseries " if bold else "") + text + (rf"\tnote{{{mark}}}" if mark else "")


def _format(known: Sequence[re.Match[str]]) -> str:
    """Return the table-format of siunitx: most digits before and after the mark, and of the uncertainty."""
    whole = max(len(found["whole"].replace(",", "")) for found in known)
    places = max(len(found["places"] or "") for found in known)
    than = "<" if any(found["than"] for found in known) else ""
    sign = "+" if any(found["sign"] for found in known) else ""
    spread = max(len((found["spread"] or "").replace(".", "").lstrip("0")) for found in known)
    if any(found["spread"] for found in known):
        return f"{than}{sign}{whole}.{places}({max(spread, places, 1)})"
    return f"{than}{sign}{whole}" + (f".{places}" if places else "")


def _number_width(known: Sequence[re.Match[str]]) -> float:
    before = max(width(f"{found['than']}{found['sign']}{found['whole']}") for found in known)
    after = max(width(f".{found['places']}") if found["places"] else 0.0 for found in known)
    spread = max(width(f" ± {found['spread']}") if found["spread"] else 0.0 for found in known)
    return before + after + spread


def _folded(header: str, widest: float) -> tuple[list[str], float]:
    """Return a header in lines, its unit in the last, and the width of the widest.

    Lines are as wide as the cells or the longest word.
    """
    name, bracket, unit = header.replace(" − ", " −\u00a0").partition(" (")
    words = name.split(" ")
    most = max(widest, *map(width, words))
    lines = [words[0]]
    for word in words[1:]:
        if width(f"{lines[-1]} {word}") <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    lines += [f"({unit}"] if bracket else []
    return lines, max(map(width, lines))
