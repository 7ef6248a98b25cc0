"""Tables of ticket against dense accuracy, from finished jobs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.analysis import columns
from lottery.analysis.cells import (
    SCORE,
    CellKey,
    by_seed,
    column_of,
    differences_by_seed,
    measured_cell,
    records_by_cell,
)
from lottery.analysis.columns import Column
from lottery.analysis.labels import head, optimizer_labels, rewind_label
from lottery.analysis.notes import edge_of_the_rates, notes
from lottery.analysis.rows import Row, Values, keys_of
from lottery.plan.kinds import Kind
from lottery.recipe.readings import CHOSEN, READINGS

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study


def means(study: Study) -> list[Row]:
    """Return a row for each optimizer, rewind point (where there are several) and density with a finished training.

    Where nothing is pruned yet there is one for the dense network alone.

    Columns: `optimizer`, `lr` where the recipe tunes it, `density`, then for `dense`, `ticket` and each control the
    mean test accuracy over seeds as a fraction (r2 for regression), with `_std` (of the sample), `_n` seeds,
    `_diverged` (the first step, where a training did), `_step` (mean early-stop step) and `_diff` (mean difference to
    dense, paired by seed); samples of a control are averaged within their seed first. What the recipe asks for under
    `metrics` stands in columns of its own, `ticket_top5` and so on, with `_std`, `_n` and `_diverged`. `note` says what
    a reader must know: missing seeds, diverged trainings, mixed environments, collapsed layers, censored early-stop
    steps, a learning rate at the edge of its range.
    """
    pruned = _rows(study, lambda cell: bool(cell[2]))
    beside = {cell[:2] for cell in pruned}
    return [*pruned.values(), *_rows(study, lambda cell: not cell[2] and cell[:2] not in beside).values()]


def means_of(study: Study, network: str) -> dict[CellKey, Row]:
    """Return the rows of `means` by cell: of the dense networks those of level 0, of other networks those below it."""
    return _rows(study, lambda cell: bool(cell[2]) == (network != "dense"))


def _rows(study: Study, wanted: Callable[[CellKey], bool]) -> dict[CellKey, Row]:
    """Return the rows of the wanted cells that have a finished training of their level."""
    recipe, cells = study.recipe, records_by_cell(study)
    labels = optimizer_labels(recipe.train.optimizer)
    names = ["dense", *(["ticket", *(branch.label for branch in recipe.branches)] if recipe.prune.levels else [])]
    table = {}
    for cell, named in cells.items():
        every = {**named, "dense": cells[cell[0], cell[1], 0]["dense"]}
        trainings = {name: [record for _, record in every.get(name, [])] for name in names}
        own = names[1:] if cell[2] else ["dense"]
        if wanted(cell) and any(record for name in own for record in trainings[name]):
            table[cell] = _row(study, labels[cell[0]], cell[1], trainings)
    return table


def long(study: Study) -> list[Row]:
    """Return a row for each finished training, with its key, its cell in the study and what was measured."""
    labels, metrics = optimizer_labels(study.recipe.train.optimizer), study.recipe.metrics
    table = []
    for job in study.plan:
        record = study.found.get(job.key)
        if record is None:
            continue
        row: Values = {
            "optimizer": labels[job.optimizer_index],
            "rewind": rewind_label(job.rewind) if job.rewind else None,
            columns.SEED: job.seed,
            columns.LEVEL: job.level,
            "kind": column_of(job),
            "retrained_with": labels[job.transfer] if job.transfer is not None else None,
            columns.RATE: record.rate,
            "sample": job.sample if job.kind is Kind.BRANCH else None,
            columns.DENSITY: record.density,
            "status": record.manifest.status,
            columns.steps("diverged_step"): record.diverged,
        }
        for reading in READINGS:
            measured = record.at(reading) or {}
            score = "r2" if "test_r2" in measured else "accuracy"
            row |= {
                columns.steps(f"{reading}_step"): measured.get("step"),
                f"{reading}_train_loss": measured.get("train_loss"),
            }
            for part in ("validation", "test"):
                row[f"{reading}_{part}_loss"] = measured.get(f"{part}_loss")
                for name in (f"{part}_{each}" for each in (score, *metrics)):
                    row[Column(f"{reading}_{name}", "fraction")] = measured.get(name)
        row |= {f"{reading}_censored": (record.at(reading) or {}).get("censored") for reading in CHOSEN}
        environment = record.manifest.environment
        row |= {name: environment.get(name) for name in ("device", "threads", "deterministic", "torch", "lottery")}
        row["engine"] = " and ".join(sorted(record.manifest.engines))
        row[columns.KEY] = job.key
        table.append(Row(row, [job.key]))
    return table


def _row(study: Study, optimizer: str, rewind: str, trainings: Mapping[str, Sequence[Record | None]]) -> Row:
    recipe, row = study.recipe, Values(optimizer=optimizer)
    found = [record for column in trainings.values() for record in column if record]
    if recipe.tune is not None:
        row[columns.RATE] = found[0].rate if found else None
    row |= head(recipe, rewind)
    pruned = [record for record in trainings.get("ticket", ()) if record]
    row[columns.DENSITY] = (pruned or [record for record in found if record.job.level] or found)[0].density
    accuracy = {name: by_seed(column, recipe.report, SCORE) for name, column in trainings.items()}
    for name, column in trainings.items():
        row |= measured_cell(name, column, recipe.report, recipe.metrics)
        steps = list(by_seed(column, "early_stop" if recipe.data.validation else "end", "step").values())
        row[columns.steps(f"{name}_step", name)] = statistics.fmean(steps) if steps else None
        if name != "dense":
            pairs = differences_by_seed(accuracy[name], accuracy["dense"]).values()
            row[columns.diff(name)] = statistics.fmean(pairs) if pairs else None
    row["note"] = "; ".join([*notes(recipe, trainings), *edge_of_the_rates(trainings)])
    return Row(row, keys_of(study, found))
