"""How people read the rows of a table: percent and points, intervals in brackets, units in the headers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lottery.formats.readable_columns import for_programs_only
from lottery.words import short

if TYPE_CHECKING:
    from lottery.analysis.labels import Row
    from lottery.report.content import Report, Table

VERDICTS = ("verdict",)
NOTES = ("source", "note", "reason")  # told last
SENTENCE = 30  # characters: what is longer is too wide for a column of a page
PLACE = ("optimizer", "found_with", "rewind", "level", "density")  # columns that say what a row is
PERCENT = (
    "density",
    "crossing",
    "accuracy",
    "r2",
    "top5",
    "overlap",
    "chance",
    "survival",
    "jaccard",
    "share",
    "disagreement",
    "saved",
)
UNSAID = ("example", "tuning", "evaluation")  # first words of names of costs: for programs, which have every column
LARGE = 10_000_000  # from here on a number is told by its first digits and the power of ten
WORDS = {
    "n": "seeds",
    "p": "p",
    "bound": "lower bound (points)",
    "better_by": "better by at least (points)",
    "steps_ratio": "steps, ticket / dense",
    "seeds_needed": "seeds needed",
    "lr": "learning rate",
}


@dataclass(frozen=True)
class Column:
    """A column to be read: `text` makes a row's cell; numbers stand on the right; `name` is that of its first value."""

    name: str
    header: str
    text: Callable[[Row], str]
    number: bool


def columns(table: Table, confidence: float) -> list[Column]:
    """The columns of a table that tell its rows apart; those in which all cells are empty are left out.

    `confidence` is that of its intervals.
    """
    shared = [column.name for column in _shared(table, confidence)]
    return [column for column in _told(table, confidence) if column.name not in shared]


def in_common(table: Table, confidence: float) -> str:
    """What the other columns say, which is the same in every row; empty where there are none."""
    said = [f"{column.header}: {column.text(table.rows[0])}" for column in _shared(table, confidence)]
    return f"In every row {'; '.join(said)}." if said else ""


def _shared(table: Table, confidence: float) -> list[Column]:
    """Columns of words with one value in all rows. Places and verdicts stay beside the numbers they belong to."""
    if len(table.rows) < 2:
        return []
    return [
        column
        for column in _told(table, confidence)[1:]
        if not column.number
        and column.name not in (*PLACE, *VERDICTS, "also")
        and len({column.text(row) for row in table.rows}) == 1
    ]


def _told(table: Table, confidence: float) -> list[Column]:
    """All columns that say something, in the order they are read in."""
    names = list(dict.fromkeys(name for row in table.rows for name in row))
    left_out = for_programs_only(table.rows)
    if "density" in names and not table.appendix:  # which says it as well
        names = [name for name in names if name != "level"]
    names = [*(name for name in names if name not in NOTES), *(name for name in NOTES if name in names)]
    if "against" in names and "verdict" in names:
        names.remove("verdict")
        names.insert(names.index("against") + 1, "verdict")
    made = [column for name in names if name not in left_out for column in _column(name, names, table, confidence)]
    return [column for column in made if any(column.text(row) for row in table.rows)]


def _column(name: str, names: list[str], table: Table, confidence: float) -> Iterator[Column]:
    """Nothing where the value stands in the column of another, as the ends of an interval do."""
    sure = f"{100 * confidence:g} %"
    end, unit = _ENDS_OF.get(table.name, (signed, " (points)"))
    if table.name == "costs" and name.partition("_")[0] in UNSAID:
        return
    if name.rpartition("_")[0] in names and f"{name.rpartition('_')[0]}_low" in names:
        return
    if f"{name}_low" in names:
        yield Column(name, f"{_said(name)} (points) [{sure}]", lambda row: _part(row, name), True)
    elif f"{name}_n" in names:
        yield Column(name, f"{_said(name)} (%)", lambda row: _network(row, name), True)
    elif name in ("high", "bca_high") or any(
        name == f"{network}{end}" for network in _networks(names) for end in _ENDS
    ):
        return
    elif name in ("low", "bca_low"):
        other = name.replace("low", "high")
        header = f"{sure} {'BCa ' if name == 'bca_low' else ''}interval{unit}"
        if "bounds" in names:  # the column that says which
            header = "low, high"
        yield Column(name, header, lambda row: _interval(row.get(name), row.get(other), end), True)
    elif name.startswith("difference_"):
        yield Column(name, f"at {_said(name.partition('_')[2])} (points)", lambda row: signed(row.get(name)), True)
    elif name in ("difference", "bound", "better_by") or name.endswith("_diff"):
        said = WORDS.get(name) or f"{_said(name.removesuffix('_diff'))} − dense (points)"
        header = "difference (points)" if name == "difference" else said
        yield Column(name, header, lambda row: signed(row.get(name)), True)
    elif name.endswith("_step"):
        yield Column(name, _said(name), lambda row: step(row.get(name)), True)
    elif name.rpartition("_")[2] in PERCENT and _numeric(table, name):
        yield Column(name, f"{_said(name)} (%)", lambda row: percent(row.get(name)), True)
    elif name == "p" or name.startswith("p_"):
        yield Column(name, _p_said(name), lambda row: probability(row.get(name), 1 - confidence), True)
    else:
        yield Column(name, WORDS.get(name, _said(name)), lambda row: plain(name, row.get(name)), _numeric(table, name))


_ENDS = ("_std", "_n", "_diverged")


def _networks(names: list[str]) -> list[str]:
    return [name for name in names if f"{name}_n" in names]


def _numeric(table: Table, name: str) -> bool:
    values = [row.get(name) for row in table.rows if row.get(name) is not None]
    return bool(values) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _said(name: str) -> str:
    return name.replace("_", " ").replace("madds", "multiply-adds")


def _p_said(name: str) -> str:
    return " ".join(["p", *name.split("_")[1:]])


def _network(row: Row, name: str) -> str:
    """Mean ± standard deviation (seeds)."""
    value, spread, count = row.get(name), row.get(f"{name}_std"), row.get(f"{name}_n")
    if value is None:
        step = row.get(f"{name}_diverged")
        return "" if step is None else f"diverged (step {step})"
    return f"{100 * value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}") + f" ({count})"


def is_sentence(column: Column, table: Table) -> bool:
    """Whether its cells are too long for a column of a page."""
    return not column.number and any(len(column.text(row)) > SENTENCE for row in table.rows)


def _interval(low: float | None, high: float | None, end: Callable[[float], str]) -> str:
    """Both ends in brackets, or the one that is known."""
    if low is None or high is None:
        return " ".join(
            [*(["≥", end(low)] if low is not None else []), *(["≤", end(high)] if high is not None else [])]
        )
    return f"[{end(low)}, {end(high)}]"


def _part(row: Row, name: str) -> str:
    """A part of the gain with its interval, and the verdict where there is one."""
    interval, verdict = _interval(row.get(f"{name}_low"), row.get(f"{name}_high"), signed), row.get(f"{name}_verdict")
    told = [signed(row.get(name)), interval, verdict if verdict not in (None, "inconclusive") else ""]
    return " ".join(filter(None, told))


def percent(value: Any) -> str:
    """A fraction in percent, without the sign, which stands in the header."""
    return "" if value is None else _minus(f"{100 * value:.4g}")


def signed(value: Any) -> str:
    """A difference of fractions in percentage points, with its sign."""
    if value is None:
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{100 * value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else _minus(text)


def step(value: Any) -> str:
    """A mean over seeds of steps, in whole ones."""
    return "" if value is None else f"{value:.0f}"


def probability(value: Any, alpha: float) -> str:
    """Return a p-value to three places, or to as many as it takes to tell on which side of the level it is."""
    if value is None:
        return ""
    level = round(alpha, 12)
    least = min(0.001, 10.0 ** math.floor(math.log10(level)))
    if value < least:
        return f"< {least:g}"
    for places in range(3, 12):
        text = f"{value:.{places}f}"
        if float(text) and (float(text) - level) * (value - level) > 0:
            return text
    return f"{level:.3g}"  # the level itself, which is enough


def plain(name: str, value: Any) -> str:
    """Any other value: keys by their first digits, counts in full, other numbers to four digits, flags as words."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "key":
        return short(str(value))
    if name in ("first", "last"):
        return moment(value)
    if isinstance(value, int) and abs(value) < LARGE:
        return _minus(str(value) if name in ("seed", "level", "step") or abs(value) < 10_000 else f"{value:,}")
    if isinstance(value, (int, float)):
        return _minus(_real(value))
    return str(value)


def moment(date: str) -> str:
    """A date of ISO 8601 in UTC to the second."""
    return date[:19].replace("T", " ")


def colophon(report: Report) -> str:
    """How new the report is and what wrote it."""
    newest = f"{moment(report.date)} UTC" if report.date else "none"
    return f"Newest training: {newest}. Written by {report.software}."


def _real(value: float) -> str:
    if not math.isfinite(value):
        return str(value).replace("inf", "∞")
    if abs(value) >= LARGE:
        return f"{value:.3e}".replace("e+", "e")
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _minus(text: str) -> str:
    """With the sign that is as wide as a plus; `e-05` keeps its hyphen."""
    return f"−{text[1:]}" if text.startswith("-") else text


_ENDS_OF: dict[str, tuple[Callable[[Any], str], str]] = {  # of intervals, where they are not those of differences
    "sparsest": (percent, " (%)"),
    "replication": (partial(plain, "low"), ""),  # points or ratios, as the claim says
}
