"""Tables as pages have them: columns in reading order, what all rows share said once, sentences apart."""

from __future__ import annotations

from collections.abc import Sequence

from lottery.analysis.columns import PLACES
from lottery.formats.cells import PAGE, Shown, Values, for_programs

VERDICTS = ("verdict",)
NOTES = ("source", "note", "reason")  # told last
SENTENCE = 30  # characters: what is longer is too wide for a column of a page


def columns(rows: Sequence[Values]) -> list[Shown]:
    """Return the columns of a table that tell its rows apart; those in which all cells are empty are left out."""
    told = _told(rows)
    shared = [shown.column for shown in _shared(told, rows)]
    return [shown for shown in told if shown.column not in shared]


def in_common(rows: Sequence[Values]) -> str:
    """Return a sentence on the other columns, which are the same in every row; empty where there are none."""
    said = [f"{shown.header}: {shown.text(rows[0])}" for shown in _shared(_told(rows), rows)]
    return f"In every row {'; '.join(said)}." if said else ""


def is_place(shown: Shown) -> bool:
    """Return True for a column that says what a row is; those of swept keys do."""
    return shown.column in PLACES or shown.column.quantity == "swept"


def is_sentence(shown: Shown, rows: Sequence[Values]) -> bool:
    """Return True if the cells of a column are too long for a column of a page, and do not say what a row is."""
    return not shown.number and not is_place(shown) and any(len(shown.text(row)) > SENTENCE for row in rows)


def _shared(told: Sequence[Shown], rows: Sequence[Values]) -> list[Shown]:
    """Return the columns of words with one value in all rows. Places and verdicts stay beside their numbers."""
    if len(rows) < 2:
        return []
    return [
        shown
        for shown in told[1:]
        if not shown.number
        and not is_place(shown)
        and shown.column not in (*VERDICTS, "also")
        and len({shown.text(row) for row in rows}) == 1
    ]


def _told(rows: Sequence[Values]) -> list[Shown]:
    """Return all columns that say something, in the order they are read in."""
    left_out = for_programs(rows)
    found = {
        str(shown.column): shown
        for shown in PAGE.columns(rows)
        if shown.column.readers == "all" and shown.column not in left_out and any(map(shown.text, rows))
    }
    names = [*(name for name in found if name not in NOTES), *(name for name in NOTES if name in found)]
    if "against" in names and "verdict" in names:
        names.remove("verdict")
        names.insert(names.index("against") + 1, "verdict")
    return [found[name] for name in names]
