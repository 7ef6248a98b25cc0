"""Tables of ticket against dense accuracy, from finished jobs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.analysis.cells import SCORE, by_place, by_seed, column_of, differences_by_seed, measured_cell
from lottery.analysis.labels import Row, head, optimizer_labels, rewind_label
from lottery.environment import mixed
from lottery.plan.kinds import Kind
from lottery.plan.origins import origin_of
from lottery.recipe.finetuning import trains_as_lr
from lottery.recipe.readings import CHOSEN, READINGS, under_its_best
from lottery.results import coverage

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.results.record import Record
    from lottery.results.study import Study


def means(study: Study) -> list[Row]:
    """A row for each optimizer, rewind point (where there are several) and density that has a finished training;
    for the dense network alone where nothing is pruned yet.

    Columns: `optimizer`, `lr` where the recipe tunes it, `density`, then for `dense`, `ticket` and each control the
    mean test accuracy over seeds as a fraction (r2 for regression), with `_std` (of the sample), `_n` seeds,
    `_diverged` (the first step, where a training did), `_step` (mean early-stop step) and `_diff` (mean difference to
    dense, paired by seed); samples of a control are averaged within their seed first. What the recipe asks for under
    `metrics` stands in columns of its own, `ticket_top5` and so on, with `_std`, `_n` and `_diverged`. `note` says what
    a reader must know: missing seeds, diverged trainings, mixed environments, collapsed layers, censored early-stop
    steps, a learning rate at the edge of its range.
    """
    recipe, cells = study.recipe, by_place(study)
    labels = optimizer_labels(recipe.train.optimizer)
    names = ["dense", *(["ticket", *(branch.label for branch in recipe.branches)] if recipe.prune.levels else [])]
    table: list[Row] = []
    alone: dict[tuple[int, str], Row] = {}  # dense networks without a pruned one beside them, so far
    for (which, rewind, level), columns in cells.items():
        every, optimizer = {**columns, "dense": cells[which, rewind, 0]["dense"]}, labels[which]
        row = {name: [record for _, record in every.get(name, [])] for name in names}
        if any(record for name in names[1:] for record in row[name]):
            table.append(_row(recipe, optimizer, rewind, row))
            alone.pop((which, rewind), None)
        elif level == 0 and any(row["dense"]):
            alone[which, rewind] = _row(recipe, optimizer, rewind, row)
    return [*table, *alone.values()]


def long(study: Study) -> list[Row]:
    """A row for each finished training, with its key, its place in the study and what was measured."""
    labels, metrics = optimizer_labels(study.recipe.train.optimizer), study.recipe.metrics
    table = []
    for job in study.plan:
        record = study.found.get(job.key)
        if record is None:
            continue
        row: Row = {
            "optimizer": labels[job.place],
            "rewind": rewind_label(job.rewind) if job.rewind else None,
            "seed": job.seed,
            "level": job.level,
            "kind": column_of(job),
            "retrained_with": labels[job.transfer] if job.transfer is not None else None,
            "lr": record.rate,
            "sample": job.sample if job.kind is Kind.BRANCH else None,
            "density": record.density,
            "status": record.manifest.status,
            "diverged_step": record.diverged,
        }
        for reading in READINGS:
            measured = record.at(reading) or {}
            score = "r2" if "test_r2" in measured else "accuracy"
            names = [f"{part}_{name}" for part in ("validation", "test") for name in ("loss", score, *metrics)]
            for name in ("step", "train_loss", *names):
                row[f"{reading}_{name}"] = measured.get(name)
        row |= {f"{reading}_censored": (record.at(reading) or {}).get("censored") for reading in CHOSEN}
        environment = record.manifest.environment
        row |= {name: environment.get(name) for name in ("device", "threads", "deterministic", "torch", "lottery")}
        row["engine"] = " and ".join(sorted(record.manifest.engines))
        row["key"] = job.key
        table.append(row)
    return table


def _row(recipe: Recipe, optimizer: str, rewind: str, columns: Mapping[str, Sequence[Record | None]]) -> Row:
    first: Row = {"optimizer": optimizer}
    if recipe.tune is not None:
        first["lr"] = next((record.rate for column in columns.values() for record in column if record), None)
    row = head(recipe, rewind, **first)
    pruned = [record for name, column in columns.items() if name == "ticket" for record in column if record]
    others = [record for column in columns.values() for record in column if record]
    row["density"] = (pruned or [r for r in others if r.job.level] or others)[0].density
    accuracy = {name: by_seed(column, recipe.report, SCORE) for name, column in columns.items()}
    for name, column in columns.items():
        row |= measured_cell(name, column, recipe.report, recipe.metrics)
        steps = list(by_seed(column, "early_stop" if recipe.data.validation else "end", "step").values())
        row[f"{name}_step"] = statistics.fmean(steps) if steps else None
        if name != "dense":
            pairs = differences_by_seed(accuracy[name], accuracy["dense"]).values()
            row[f"{name}_diff"] = statistics.fmean(pairs) if pairs else None
    row["note"] = "; ".join([*notes(recipe, columns), *_edge(columns)])
    return row


def _edge(columns: Mapping[str, Sequence[Record | None]]) -> list[str]:
    """A chosen learning rate that no trial lies beyond: a better one may."""
    edges = {record.metrics.get("lr_edge") for column in columns.values() for record in column if record}
    return [f"lr is the {edge} tried" for edge in sorted(filter(None, edges))]


def notes(recipe: Recipe, columns: Mapping[str, Sequence[Record | None]]) -> Iterator[str]:
    for name, column in columns.items():
        diverged = [record.diverged for record in column if record and record.diverged is not None]
        if diverged:
            yield f"{name}: {len(diverged)} of {len(column)} diverged (step {min(diverged)})"
        missing = sum(record is None for record in column)
        if missing:
            yield f"{name}: {missing} of {len(column)} runs missing"
    found = [record for column in columns.values() for record in column if record]
    if mixed(record.manifest.machines for record in found):
        yield "mixed environments"
    collapsed = sorted({layer for record in found for layer in record.metrics.get("collapsed", [])})
    if collapsed:
        yield f"collapsed: {', '.join(collapsed)}"
    stops = {name: [record.at("early_stop") for record in column if record] for name, column in columns.items()}
    censored = {name: sum(bool(stop and stop["censored"]) for stop in each) for name, each in stops.items()}
    told = [f"{name} {count} of {len(columns[name])}" for name, count in censored.items() if count]
    if told and recipe.data.validation:
        yield f"early-stop step censored: {', '.join(told)}"
    report = recipe.report
    firsts = {
        name: len({r.job.seed for r in column if r and _stopped_first(r, report)}) for name, column in columns.items()
    }
    seeds = {name: len({record.job.seed for record in column if record}) for name, column in columns.items()}
    at_first = [f"{name} {count} of {seeds[name]}" for name, count in firsts.items() if count]
    if at_first and report in CHOSEN:
        yield f"stopped at the first measure after going on from trained weights: {', '.join(at_first)}"
    gaps = [under_its_best(report, record.metrics) for record in columns.get("dense", ()) if record]
    known = [gap for gap in gaps if gap is not None]
    if recipe.compare is not None and known and statistics.fmean(known) > recipe.compare.margin / 100:
        yield f"dense is read {100 * statistics.fmean(known):.3g} points of validation accuracy under its best"
    yield from coverage.of_records(found)
    tickets = {record.job.rewind for record in found if record.job.kind is Kind.TICKET and record.job.rewind}
    if any(trains_as_lr(recipe, rewind) for rewind in tickets):
        yield "fine-tuning at the only rate the schedule has from here on is the training of mode lr"
    if any("test_r2" in (record.at("end") or {}) for record in found):
        yield "r2 in place of accuracy"


def _stopped_first(record: Record, reading: str) -> bool:
    """True if it goes on from trained weights and no later measure was better than the first one after its start."""
    job, stop = record.job, record.at(reading)
    if job.rewind is None or job.kind is Kind.DENSE or not stop:
        return False
    curve = record.metrics["curve"]
    goes_on = origin_of(job.branch.component if job.branch else None, job.rewind.mode).goes_on
    return goes_on and len(curve) > 1 and bool(stop["step"] == curve[1]["step"])
