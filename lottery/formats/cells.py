"""Cells of tables as people read them: one rule for each kind of column, with the numbers of terminals or of pages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lottery.analysis.columns import Column, Quantity
from lottery.formats import numbers
from lottery.words import short

Values = Mapping[str, Any]
Parts = Mapping[Quantity, Column]  # the columns that are read in the cell of another
UNITS = {"density": " (%)", "fraction": " (%)", "points": " (points)"}  # after the name in a header


@dataclass(frozen=True)
class Shown:
    """A column as it is read: `text` makes a row's cell; numbers stand on the right, and the best ones are marked."""

    column: Column
    header: str
    text: Callable[[Values], str]
    number: bool
    best: Callable[[Values], bool]


def for_programs(rows: Sequence[Values]) -> set[str]:
    """Return the names of the columns that no table for people has.

    These are those that their view made for programs; p-values before their correction, where the corrected ones stand
    beside them; and p-values of a verdict that no row says in the columns `verdict` or `also`.
    """
    columns = named(rows)
    left_out = {str(column) for column in columns if column.readers == "programs"}
    left_out |= {column.corrects for column in columns if column.corrects}
    if "verdict" in columns:
        said = {word for row in rows for word in (row.get("verdict"), *(row.get("also") or "").split(", "))}
        left_out |= {str(column) for column in columns if column.shows and column.shows not in said}
    return left_out


def named(rows: Sequence[Values]) -> list[Column]:
    """Return the columns of a table in order; a name that its view said nothing of is that of a plain one."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name if isinstance(name, Column) else Column(name) for name in names]


class Style(ABC):
    """A way to read cells: which columns share one, and how numbers are written."""

    joins_intervals: bool  # both ends in one cell

    @abstractmethod
    def header(self, column: Column) -> str:
        """Return the header of a column."""

    @abstractmethod
    def value(self, column: Column, value: Any) -> str:
        """Return a value of a column that has one unit and no others beside it in its cell."""

    @abstractmethod
    def share(self, value: float) -> str:
        """Return a network's mean accuracy, or the spread of it."""

    @abstractmethod
    def difference(self, value: float) -> str:
        """Return a difference of accuracies, with its sign."""

    def columns(self, rows: Sequence[Values]) -> list[Shown]:
        """Return the columns of a table that have a cell of their own, in order."""
        every = {str(column): column for column in named(rows)}
        shown = []
        for column in every.values():
            whole = every.get(column.whole)
            if whole is None or (whole.quantity == "low" and not self.joins_intervals):
                parts = {part.quantity: part for part in every.values() if part.whole == column}
                reader, best = self._reader(column, parts), partial(_best, parts.get("best"))
                shown.append(Shown(column, self.header(column), reader, _numeric(column, rows), best))
        return shown

    def _reader(self, column: Column, parts: Parts) -> Callable[[Values], str]:
        if column.quantity == "mean":
            return lambda row: self._mean(row, column, parts)
        if column.quantity == "estimate":
            return lambda row: self._estimate(row, column, parts)
        if column.quantity == "low" and self.joins_intervals:
            return lambda row: self._interval(row, column, parts["high"], partial(self.value, column))
        if "std" in parts:
            return lambda row: self._with_spread(row, column, parts["std"])
        return lambda row: "" if row.get(column) is None else self.value(column, row[column])

    def _mean(self, row: Values, column: Column, parts: Parts) -> str:
        """Return mean ± standard deviation (seeds), or where a training diverged."""
        value, spread, step = (row.get(name) for name in (column, parts["std"], parts["diverged"]))
        if value is None:
            return "" if step is None else f"diverged (step {step})"
        return self.share(value) + ("" if spread is None else f" ± {self.share(spread)}") + f" ({row[parts['n']]})"

    def _with_spread(self, row: Values, column: Column, std: Column) -> str:
        """Return a value that is a mean, ± its standard deviation where that is known."""
        value, spread = row.get(column), row.get(std)
        if value is None or spread is None:
            return "" if value is None else self.value(column, value)
        told = self.share(spread) if std.unit == "points" else self.value(std, spread)  # a spread has no sign
        return f"{self.value(column, value)} ± {told}"

    def _estimate(self, row: Values, column: Column, parts: Parts) -> str:
        """Return a difference with its interval, and the verdict where there is one."""
        if row.get(column) is None:
            return ""
        verdict = row.get(parts["verdict"])
        told = [self.difference(row[column]), self._interval(row, parts["low"], parts["high"], self.difference)]
        return " ".join(filter(None, [*told, "" if verdict == "inconclusive" else verdict]))

    def _interval(self, row: Values, low: str, high: str, end: Callable[[Any], str]) -> str:
        """Return both ends in brackets, or the one that is known."""
        ends = row.get(low), row.get(high)
        if None not in ends:
            return f"[{end(ends[0])}, {end(ends[1])}]"
        return " ".join(f"{sign} {end(each)}" for sign, each in zip("≥≤", ends, strict=True) if each is not None)


def _best(column: Column | None, row: Values) -> bool:
    return column is not None and bool(row.get(column))


def _numeric(column: Column, rows: Sequence[Values]) -> bool:
    """True if a column is one of numbers: by its unit or, where it has none, by its values."""
    if column.quantity in ("mean", "estimate", "low") or column.unit:
        return column.unit not in ("key", "date")
    values = [row[column] for row in rows if row.get(column) is not None]
    return bool(values) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


class Terminal(Style):
    """Names as files for programs have them, and their fractions in percent and points; minus signs are hyphens."""

    joins_intervals = False

    def header(self, column: Column) -> str:
        """Return the name of a column, with spaces where its cell takes in several or tells a step, and its unit."""
        return column.label + UNITS.get(column.unit, "")

    def value(self, column: Column, value: Any) -> str:
        """Return a value: fractions in percent, steps in whole ones, other numbers to four digits."""
        if column.unit == "points":
            return self.difference(value)
        if column.unit == "steps":
            return numbers.step(value)
        if column.unit in ("density", "fraction"):
            return f"{100 * value:.4g}"
        if isinstance(value, float):
            return f"{value:.4g}" if abs(value) < 1000 else f"{value:.6g}"
        return str(value)

    def share(self, value: float) -> str:
        """Return a fraction in percent, to two places."""
        return f"{100 * value:.2f}"

    def difference(self, value: float) -> str:
        """Return a difference of fractions in percentage points, to two places."""
        return numbers.signed(value).replace("−", "-")


class Page(Style):
    """Percent and points, with units in the headers and signs as they are set in print: for pages and papers."""

    joins_intervals = True

    def header(self, column: Column) -> str:
        """Return the words for a column with its unit."""
        unit = UNITS.get(column.unit, "")
        sure = f"{100 * column.confidence:g} %"
        if column.quantity == "estimate":
            return f"{column.words}{unit} [{sure}]"
        if column.quantity == "low" and unit:
            return f"{sure} {column.words}{unit}"
        return f"{column.words}{unit}"

    def value(self, column: Column, value: Any) -> str:
        """Return a value as its unit is read in print."""
        if column.unit in ("density", "fraction"):
            return numbers.percent(value)
        if column.unit == "points":
            return self.difference(value)
        if column.unit == "steps":
            return numbers.step(value)
        if column.unit == "p":
            return numbers.probability(value, 1 - column.confidence)
        if column.unit == "key":
            return short(str(value))
        if column.unit == "date":
            return numbers.moment(value)
        return numbers.plain(value, separated=column.unit != "ordinal")

    def share(self, value: float) -> str:
        """Return a fraction in percent, to two places."""
        return numbers.minus(f"{100 * value:.2f}")

    def difference(self, value: float) -> str:
        """Return a difference of fractions in percentage points, to two places."""
        return numbers.signed(value)


TERMINAL, PAGE = Terminal(), Page()
