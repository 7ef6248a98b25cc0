"""Warnings that stand in the column `note` beside means: a function for each, and the list of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lottery.environment import mixed
from lottery.plan.kinds import Kind
from lottery.plan.origins import origin_of
from lottery.recipe.finetuning import trains_as_lr
from lottery.recipe.readings import CHOSEN, under_its_best
from lottery.results import coverage

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.results.record import Record

    Trainings = Mapping[str, Sequence[Record | None]]  # of a row by column; None for one that is missing
    Warn = Callable[[Recipe, Trainings], Iterator[str]]


def notes(recipe: Recipe, trainings: Trainings) -> Iterator[str]:
    """Yield what a reader of a row of means must know, in the order of WARNINGS."""
    for warn in WARNINGS:
        yield from warn(recipe, trainings)


def lost(_: Recipe, trainings: Trainings) -> Iterator[str]:
    """Warn of trainings that diverged and of those that are missing, by column."""
    for name, column in trainings.items():
        diverged = [record.diverged for record in column if record and record.diverged is not None]
        if diverged:
            yield f"{name}: {len(diverged)} of {len(column)} diverged (step {min(diverged)})"
        missing = sum(record is None for record in column)
        if missing:
            yield f"{name}: {missing} of {len(column)} runs missing"


def mixed_environments(_: Recipe, trainings: Trainings) -> Iterator[str]:
    """Warn of trainings that ran on machines or versions which round otherwise than one another."""
    if mixed(record.manifest.machines for record in _finished(trainings)):
        yield "mixed environments"


def collapsed_layers(_: Recipe, trainings: Trainings) -> Iterator[str]:
    """Warn of layers of which no weight is left."""
    layers = {layer for record in _finished(trainings) for layer in record.metrics.get("collapsed", [])}
    if layers:
        yield f"collapsed: {', '.join(sorted(layers))}"


def censored_steps(recipe: Recipe, trainings: Trainings) -> Iterator[str]:
    """Warn of early-stop steps at the end of training: the true ones may lie later."""
    stops = {name: [record.at("early_stop") for record in column if record] for name, column in trainings.items()}
    counts = {name: sum(bool(stop and stop["censored"]) for stop in each) for name, each in stops.items()}
    told = [f"{name} {count} of {len(trainings[name])}" for name, count in counts.items() if count]
    if told and recipe.data.validation:
        yield f"early-stop step censored: {', '.join(told)}"


def stopped_at_once(recipe: Recipe, trainings: Trainings) -> Iterator[str]:
    """Warn of networks that go on from trained weights and were never better than at their first measure."""
    if recipe.report not in CHOSEN:
        return
    told = []
    for name, column in trainings.items():
        found = [record for record in column if record]
        stopped = {record.job.seed for record in found if _stopped_first(record, recipe.report)}
        if stopped:
            told.append(f"{name} {len(stopped)} of {len({record.job.seed for record in found})}")
    if told:
        yield f"stopped at the first measure after going on from trained weights: {', '.join(told)}"


def dense_under_its_best(recipe: Recipe, trainings: Trainings) -> Iterator[str]:
    """Warn where the dense networks are read further under their best validation accuracy than the margin is wide."""
    gaps = [under_its_best(recipe.report, record.metrics) for record in trainings.get("dense", ()) if record]
    known = [gap for gap in gaps if gap is not None]
    if recipe.compare is not None and known and statistics.fmean(known) > recipe.compare.margin / 100:
        yield f"dense is read {100 * statistics.fmean(known):.3g} points of validation accuracy under its best"


def never_pruned(_: Recipe, trainings: Trainings) -> Iterator[str]:
    """Tell of weights that are never pruned, see `coverage`."""
    yield from coverage.of_records(_finished(trainings))


def fine_tuned_as_mode_lr(recipe: Recipe, trainings: Trainings) -> Iterator[str]:
    """Tell where fine-tuning is the same training as rewinding the learning rate."""
    tickets = {r.job.rewind for r in _finished(trainings) if r.job.kind is Kind.TICKET and r.job.rewind}
    if any(trains_as_lr(recipe, rewind) for rewind in tickets):
        yield "fine-tuning at the only rate the schedule has from here on is the training of mode lr"


def regression(_: Recipe, trainings: Trainings) -> Iterator[str]:
    """Tell where the values are r2, not accuracies."""
    if any("test_r2" in (record.at("end") or {}) for record in _finished(trainings)):
        yield "r2 in place of accuracy"


WARNINGS: tuple[Warn, ...] = (
    lost,
    mixed_environments,
    collapsed_layers,
    censored_steps,
    stopped_at_once,
    dense_under_its_best,
    never_pruned,
    fine_tuned_as_mode_lr,
    regression,
)


def edge_of_the_rates(trainings: Trainings) -> Iterator[str]:
    """Warn of a chosen learning rate that no trial lies beyond: a better one may."""
    edges = {record.metrics.get("lr_edge") for record in _finished(trainings)}
    return (f"lr is the {edge} tried" for edge in sorted(filter(None, edges)))


def _finished(trainings: Trainings) -> list[Record]:
    return [record for column in trainings.values() for record in column if record]


def _stopped_first(record: Record, reading: str) -> bool:
    """Return True if it goes on from trained weights and no later measure was better than the first after its start."""
    job, stop = record.job, record.at(reading)
    if job.rewind is None or job.kind is Kind.DENSE or not stop:
        return False
    curve = record.metrics["curve"]
    goes_on = origin_of(job.branch.component if job.branch else None, job.rewind.mode).goes_on
    return goes_on and len(curve) > 1 and bool(stop["step"] == curve[1]["step"])
