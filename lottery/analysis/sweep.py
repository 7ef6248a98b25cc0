"""Tables of a sweep: the rows of its points with a column for each swept key in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lottery.analysis.columns import Column
from lottery.analysis.rows import Row
from lottery.analysis.views import VIEWS, imported, rows_of
from lottery.errors import UsageError
from lottery.values import in_flow
from lottery.words import short_keys

if TYPE_CHECKING:
    from lottery.recipe.sweep import Sweep
    from lottery.results.study import Study
    from lottery.results.sweep import SweptStudy


def swept_rows_of(found: SweptStudy, view: str) -> list[Row]:
    """Return the rows of a view of all points, in their order; see `lottery.analysis.views.rows_of`.

    Raises:
        UsageError: There is no such view, or a point has no such table.
    """
    if view in VIEWS and VIEWS[view].of_sweep:
        rows: list[Row] = imported(VIEWS[view].of_sweep)(found)
        return rows
    return swept_rows(found, lambda study: rows_of(study, view))


def swept_rows(found: SweptStudy, rows: Callable[[Study], Sequence[Row]]) -> list[Row]:
    """Return the rows that a function makes of each point, with the values of the swept keys in front.

    Raises:
        UsageError: A point has no such table.
    """
    made = []
    for values, (point, study) in zip(swept_values(found.sweep), found, strict=True):
        try:
            made += [Row({**values, **row}, row.made_from) for row in rows(study)]
        except UsageError as error:
            raise UsageError(f"{error} (at {point.label})" if len(found.studies) > 1 else str(error)) from error
    return made


def swept_values(sweep: Sweep) -> list[dict[str, Any]]:
    """Return for each point the values of the swept keys as cells, under their columns.

    A key all of whose values are numbers has numbers, every other one text as a recipe writes it.
    """
    shorter = short_keys(sweep.keys).items()
    columns = {key: Column(key, quantity="swept", words=short, label=short) for key, short in shorter}
    numbers = {key for key in sweep.keys if all(_number(point.values[key]) for point in sweep.points)}
    return [
        {column: point.values[key] if key in numbers else in_flow(point.values[key]) for key, column in columns.items()}
        for point in sweep.points
    ]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
