"""Tables across optimizers: tickets found with one and retrained with another, and the learning rates tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.analysis.cells import measured_cell
from lottery.analysis.columns import DENSITY
from lottery.analysis.labels import DENSE, head, optimizer_labels, rewind_label
from lottery.analysis.notes import notes
from lottery.analysis.rows import Row, keys_of
from lottery.errors import UsageError
from lottery.plan.kinds import Kind
from lottery.results.study import once

if TYPE_CHECKING:
    from lottery.recipe.schema import TransferSpec
    from lottery.results.record import Record
    from lottery.results.study import Study


def declared_transfer(study: Study) -> TransferSpec:
    """Return which tickets are retrained with other optimizers.

    Raises:
        UsageError: Where the recipe retrains none.
    """
    if study.recipe.transfer is None:
        raise UsageError(f"{study.recipe.name}: retrains no ticket with another optimizer; add `transfer: all`")
    return study.recipe.transfer


@once
def transfer(study: Study) -> list[Row]:
    """Return the found-with x retrained-with table: test accuracy of each optimizer's ticket retrained with each.

    A row for each level and optimizer the ticket was found with; after `density` a column for each optimizer it was
    retrained with, its own ticket among them, with `_std` (of the sample), `_n` seeds and `_diverged` (the first step,
    where a training did), and the recipe's `metrics`. The rows found with "(dense)" are the dense networks of each, for
    comparison.
    """
    plan, found, recipe = study.plan, study.found, study.recipe
    declared_transfer(study)
    labels = optimizer_labels(recipe.train.optimizer)
    cells: dict[tuple[str, int, int], dict[int, list[Record | None]]] = {}
    dense: dict[int, list[Record | None]] = {}
    wanted = {job.level for job in plan if job.transfer is not None}
    for job in plan:
        record = found.get(job.key)
        if job.kind is Kind.DENSE:
            dense.setdefault(job.optimizer_index, []).append(record)
        elif job.rewind is not None and job.level in wanted and (job.kind is Kind.TICKET or job.transfer is not None):
            columns = cells.setdefault((rewind_label(job.rewind), job.level, job.optimizer_index), {})
            columns.setdefault(job.optimizer_index if job.transfer is None else job.transfer, []).append(record)
    table: list[Row] = []
    groups: list[tuple[int | None, str | None, dict[int, list[Record | None]]]] = []
    if any(record for column in dense.values() for record in column):
        groups.append((None, None, dense))
    for (point, _, finder), columns in sorted(cells.items()):
        if any(record for column in columns.values() for record in column):
            groups.append((finder, point, columns))
    for optimizer_index, rewind, columns in groups:
        row = head(recipe, rewind, found_with=DENSE if optimizer_index is None else labels[optimizer_index])
        named = {label: columns.get(other, []) for other, label in enumerate(labels)}
        row[DENSITY] = next(record.density for column in named.values() for record in column if record)
        for label, column in named.items():
            row |= measured_cell(label, column, recipe.report, recipe.metrics)
        row["note"] = "; ".join([*_carried(columns, optimizer_index, labels), *notes(recipe, named)])
        table.append(Row(row, keys_of(study, (record for column in named.values() for record in column))))
    return table


def _carried(
    columns: Mapping[int, Sequence[Record | None]], optimizer_index: int | None, labels: Sequence[str]
) -> Iterator[str]:
    """Say what a ticket retrained with another optimizer still has of the one that found it."""
    others = [record for other, column in columns.items() if other != optimizer_index for record in column if record]
    rewind = others[0].job.rewind if others and optimizer_index is not None else None
    if optimizer_index is None or rewind is None:
        return
    if rewind.mode != "weights":
        yield f"the others go on from weights trained with {labels[optimizer_index]} to the end"
    elif rewind.to.value:
        yield f"the others go on from weights trained with {labels[optimizer_index]} for {rewind.to}"
