"""Parts of a table: its rows with some values, and some of its columns, as `--rows` and `--columns` name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lottery.analysis.columns import PLACES, Column
from lottery.analysis.rows import Row
from lottery.errors import UsageError
from lottery.registry import suggest

PERCENT = ("density", "fraction")  # units that people read, and write here, in percent
SAID = ("test", "note", "reason")  # and so do the words on what stands in the row


Wanted = Iterable[tuple[str, Sequence[str]]]  # names of columns, each with the values that rows may have


def select(rows: Sequence[Row], wanted: Wanted = (), columns: Sequence[str] = ()) -> list[Row]:
    """Return a part of a table.

    Args:
        rows: The table.
        wanted: Columns with values: the rows that have one of the values in each of the columns. Densities and other
            shares are written in percent, as people read them, and as far as digits are given: 20.97 and 21 both name
            20.972 %.
        columns: Names of columns in the order in which they are to stand. With one come those that are read in its
            cell, such as the standard deviation; what says what a row is, and its note, always stay.

    Raises:
        UsageError: There is no such column, or no row with such a value.
    """
    known = {str(name): name for row in rows for name in row}
    for name, values in wanted:
        rows = _with(rows, known, name, values)
    return _only(rows, known, columns) if columns else list(rows)


def setting(text: str) -> tuple[str, list[str]]:
    """Return what `column=value,value` names; a value with brackets, such as adam(lr=0.1, eps=1e-8), is one.

    Raises:
        UsageError: It is written otherwise.
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise UsageError(f"--rows {text}: write it as column=value, such as density=20.97,5.5")
    return name, [values] if "(" in values else [value.strip() for value in values.split(",")]


def _with(rows: Sequence[Row], known: Mapping[str, str], name: str, values: Sequence[str]) -> list[Row]:
    if rows and name not in known:
        raise UsageError(f"rows: there is no column {name!r}{suggest(name, known)}")
    kept: dict[int, Row] = {}
    for value in values:
        found = {place: row for place, row in enumerate(rows) if _reads(known[name], row.get(name), value)}
        if rows and not found:
            there = ", ".join(dict.fromkeys(_said(known[name], row.get(name)) for row in rows))
            raise UsageError(f"rows {name}={value}: no row has that; there are {there}")
        kept |= found
    return [kept[place] for place in sorted(kept)]


def _only(rows: Sequence[Row], known: Mapping[str, str], names: Sequence[str]) -> list[Row]:
    for name in names:
        if rows and name not in known:
            shown = [each for each in known if not getattr(known[each], "whole", "")]
            raise UsageError(
                f"columns: there is no column {name!r}{suggest(name, shown)}; there are {', '.join(shown)}"
            )
    first = [name for name, column in known.items() if name in PLACES or getattr(column, "quantity", "") == "swept"]
    parts = [part for name in names for part in known if part == name or getattr(known[part], "whole", "") == name]
    order = dict.fromkeys([*first, *parts, *(name for name in known if name in SAID)])
    return [Row({known[name]: row.get(name) for name in order}, row.made_from) for row in rows]


def _unit(column: str) -> str:
    return column.unit if isinstance(column, Column) else ""


def _said(column: str, value: Any) -> str:
    """Return a value as people read it."""
    if value is None:
        return "none"
    return f"{100 * value:.4g}" if _unit(column) in PERCENT else str(value)


def _reads(column: str, value: Any, text: str) -> bool:
    """Return True if a value is the one that a text names."""
    if value is None or isinstance(value, str):
        return (value or "none") == text
    try:
        wanted = float(text.removesuffix("%"))
    except ValueError:
        return str(value) == text
    if _unit(column) not in PERCENT:
        return bool(value == wanted)
    places = len(text.removesuffix("%").strip().partition(".")[2])
    return float(f"{100 * value:.{places}f}") == wanted
