"""Rows of tables, which know the trainings that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study

Values = dict[str, Any]  # values by the names of their columns: a part of a row


class Row(dict[str, Any]):
    """The values of a row by the names of its columns, and the keys of the trainings that they were made from.

    Operators that make a new dictionary of rows (`|`, `{**row}`) give plain values, which are no row: a table has to
    say anew what its rows are made from.

    Args:
        values: The values by the names of their columns, in the order in which tables show them.
        made_from: The full keys of the trainings, see `keys_of`.
    """

    def __init__(self, values: Mapping[str, Any], made_from: Iterable[str]) -> None:
        super().__init__(values)
        self.made_from = tuple(made_from)


def with_equal_columns(rows: Sequence[Row], last: Sequence[str] = ("note",)) -> list[Row]:
    """Return rows that all have the same columns, with None where a row had none.

    They stand in the order in which they are first met, but for those that are to be the last.
    """
    names = {str(name): name for row in rows for name in row}
    order = [names[name] for name in (*(n for n in names if n not in last), *(n for n in last if n in names))]
    return [Row({name: row.get(name) for name in order}, row.made_from) for row in rows]


def keys_of(study: Study, records: Iterable[Record | None]) -> tuple[str, ...]:
    """Return the full keys of finished trainings, each once, in the plan's order; None stands for a missing one."""
    return in_plan_order(study, (record.job.key for record in records if record is not None))


def in_plan_order(study: Study, keys: Iterable[str]) -> tuple[str, ...]:
    """Return keys of a study's jobs, each once, in the plan's order."""
    return tuple(sorted(set(keys), key=_places(study).__getitem__))


@once
def _places(study: Study) -> dict[str, int]:
    return {job.key: place for place, job in enumerate(study.plan)}
