"""The values that a published claim speaks of, seed by seed, by what it measures of trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis import cells
from lottery.analysis.cells import diverged, means_by_seed
from lottery.plan.kinds import Kind
from lottery.recipe.claims import REACHING
from lottery.verdicts.claim_terms import Term, hindrances, manifests_of
from lottery.verdicts.published_claims import Observed

if TYPE_CHECKING:
    from lottery.recipe.claims import ClaimSpec, ReachesSpec
    from lottery.results.record import Record


@dataclass(frozen=True)
class Side:
    """The values of one term by seed, those without one as they diverged, and those whose true value is higher."""

    values: Mapping[int, float]
    lost: Collection[int] = ()
    late: Collection[int] = ()
    notes: Sequence[str] = ()


def observe(claim: ClaimSpec, terms: Sequence[Term]) -> Observed:
    """Return the values of a claim at one cell, added up within each seed, and what stands in the way of a verdict.

    A seed that diverged on one side leaves open how much worse that side is: less accurate, of a higher loss, later. Of
    seconds it says nothing. A seed that all sides have lost speaks for none.
    """
    sides = [_MEASURES[claim.measure](claim, term) for term in terms]
    why = hindrances(claim, terms)
    why += [told for term, side in zip(terms, sides, strict=True) for told in without_value(claim, term, side)]
    values = _together(claim, terms, sides)
    lost = [_lost(sides, index) for index in range(len(sides))]
    late = [set(side.late) & values.keys() for side in sides]
    notes = [f"{term.label} censored: {len(seeds)}" for term, seeds in zip(terms, late, strict=True) if seeds]
    notes += [f"{term.label} diverged: {len(seeds)}" for term, seeds in zip(terms, lost, strict=True) if seeds]
    notes += [note for side in sides for note in side.notes]
    why += [f"no seed has {'both' if len(terms) > 1 else 'a value'}"] * (not values and not why)
    return Observed(
        terms[0].at[2],
        terms[0].density,
        list(values.values()),
        _open(claim, terms, lost, late),
        tuple(why),
        tuple(notes),
        _floor(claim, terms),
        ("share" if len(terms) == 1 else "paired") if claim.measure == "diverged" else "",
    )


def _together(claim: ClaimSpec, terms: Sequence[Term], sides: Sequence[Side]) -> dict[int, float]:
    """Return the values of the seeds that all sides have, added up, on the scale that they are tested on."""
    scale = 100 if claim.measure in ("accuracy", "diverged") else 1
    found = {}
    for seed in sides[0].values:
        each = [side.values[seed] for side in sides if seed in side.values]
        if len(each) == len(sides) and (not claim.logarithmic or min(each) > 0):
            each = [math.log(value) for value in each] if claim.logarithmic else each
            found[seed] = scale * sum(term.sign * value for term, value in zip(terms, each, strict=True))
    return found


def without_value(claim: ClaimSpec, term: Term, side: Side) -> Iterator[str]:
    """Yield why seeds that are finished, and have not diverged, have no value that can be compared."""
    if lacking := term.finished - side.values.keys() - set(side.lost):
        yield f"{term.label}: no value for seed {', '.join(map(str, sorted(lacking)))}"
    if claim.logarithmic and (bad := sum(value <= 0 for value in side.values.values())):
        yield f"{term.label}: not above 0 in {bad} of {len(side.values)}, which have no ratio"


def _lost(sides: Sequence[Side], index: int) -> set[int]:
    """Return the seeds that a side has lost and another has; of one side alone, all that it has lost."""
    others = [side.values.keys() for place, side in enumerate(sides) if place != index]
    return set(sides[index].lost) & set().union(*others) if others else set(sides[index].lost)


def _open(
    claim: ClaimSpec, terms: Sequence[Term], lost: Sequence[Collection[int]], late: Sequence[Collection[int]]
) -> tuple[bool, bool]:
    """Return what the values leave open, see `Observed`, by the seeds of each side that diverged or are censored."""
    low, high = False, False
    for term, gone, later in zip(terms, lost, late, strict=True):
        worse_is_higher = claim.measure != "accuracy"
        up, down = bool(later) or (bool(gone) and worse_is_higher), bool(gone) and not worse_is_higher
        if gone and claim.measure == "seconds":
            up, down = True, True
        low |= down if term.sign > 0 else up
        high |= up if term.sign > 0 else down
    return low, high


def _floor(claim: ClaimSpec, terms: Sequence[Term]) -> float:
    """Return the least spread that is believed of accuracies in points, of one network or of a difference.

    It is 0 for what are no counts of test examples.
    """
    if claim.measure != "accuracy":
        return 0.0
    return 100 * math.sqrt(sum(cells.floor(term.study) ** 2 / 2 for term in terms))


def accuracy(term: Term) -> Mapping[int, float]:
    """Return test accuracies (or r2) at the recipe's `report` by seed, fractions."""
    if term.cell[:3] in (known := cells.transfers_by_cell(term.study)) and term.name in known[term.cell[:3]]:
        return cells.by_seed([record for _, record in term.trainings], term.study.recipe.report, cells.SCORE)
    return _column(cells.accuracies(term.study), term)


def _accuracy(_: ClaimSpec, term: Term) -> Side:
    return Side(accuracy(term), diverged(term.records))


def _early_stop_step(_: ClaimSpec, term: Term) -> Side:
    late = cells.censored(term.study, term.at, term.name)
    values = {seed: max(1, step) for seed, step in _column(cells.steps(term.study), term).items()}
    return Side(values, diverged(term.records), late)


def _column(values: cells.Cells, term: Term) -> Mapping[int, float]:
    return values.get(term.cell[:3], {}).get(term.name, {})


def _read(field: str) -> Callable[[ClaimSpec, Term], Side]:
    """Return what reads a loss at the recipe's `report`."""

    def measure(_: ClaimSpec, term: Term) -> Side:
        report = term.study.recipe.report
        found = means_by_seed(_columns(term), lambda record: (record.at(report) or {}).get(field))
        return Side(found, diverged(term.records))

    return measure


def _diverged(_: ClaimSpec, term: Term) -> Side:
    lost = diverged(term.records)
    values = {seed: float(seed in lost) for seed in sorted(term.finished)}
    return Side(values, notes=[f"{term.label} diverged: {len(lost)} of {len(values)}"])


def _seconds(_: ClaimSpec, term: Term) -> Side:
    lost = diverged(term.records)
    values = means_by_seed(_columns(term), lambda record: None if record.diverged is not None else took(record, term))
    return Side(values, lost)


def took(record: Record, term: Term) -> float | None:
    """Return the seconds of a training's work; those of a dense network from its initialization on.

    None where a part of it is not in the store any more.
    """
    manifests = manifests_of(record, term.study)
    known = [manifest.seconds for manifest in manifests if manifest is not None]
    return math.fsum(known) if len(known) == len(manifests) else None


def _reaching(claim: ClaimSpec, term: Term) -> Side:
    """Return the first evaluated step, or epoch, at which each seed reaches what the claim names.

    A training that ends, or diverges, without it is later than its last step.
    """
    assert claim.reaches is not None
    total, late = _length(term), set[int]()
    share = 1.0 if claim.measure == "steps_to" else _epochs_a_step(term, total)
    if share is None:
        return Side({}, notes=["no training tells how many steps an epoch has"])
    values: dict[int, list[float]] = {}
    for record in term.records:
        step = first_step(record, claim.reaches)
        if step is None:
            late.add(record.job.seed)
        values.setdefault(record.job.seed, []).append(share * max(1, _last(record, total) if step is None else step))
    lost = diverged(term.records) & late
    notes = [f"{term.label} diverged before: {len(lost)}"] * bool(lost)
    means = {seed: math.fsum(each) / len(each) for seed, each in values.items() if seed in term.finished}
    return Side(means, (), late, notes)


def first_step(record: Record, reaches: ReachesSpec) -> int | None:
    """Return the first evaluated step of a training at which a reading is reached; None where none is."""
    for row in record.metrics.get("curve") or ():
        for name, limit in (("train_loss", reaches.train_loss), ("validation_loss", reaches.loss)):
            if limit is not None and row.get(name) is not None and row[name] <= limit:
                return int(row["step"])
        accuracy = row.get("validation_r2", row.get("validation_accuracy"))
        if reaches.accuracy is not None and accuracy is not None and accuracy >= reaches.accuracy:
            return int(row["step"])
    return None


def _length(term: Term) -> int | None:
    """Return the last step of the trainings of an optimizer, as one that ended well has it; None where none did."""
    trunk = (r for r in term.study.found.values() if r.job.kind in (Kind.DENSE, Kind.TICKET) and r.diverged is None)
    ends = {int(r.metrics["curve"][-1]["step"]) for r in trunk if r.job.optimizer_index == term.at[0]}
    return max(ends, default=None)


def _last(record: Record, total: int | None) -> int:
    """Return a step that a training did not reach something by: its last, or, as it diverged, any up to the length."""
    if record.diverged is None:
        return int(record.metrics["curve"][-1]["step"])
    return max(record.diverged, total or 0)


def _epochs_a_step(term: Term, total: int | None) -> float | None:
    """Return how many epochs a step is; None where no training tells."""
    return None if total is None else term.study.recipe.train.length.value / total


def _columns(term: Term) -> list[Record | None]:
    return [record for _, record in term.trainings]


_MEASURES: dict[str, Callable[[ClaimSpec, Term], Side]] = {
    "accuracy": _accuracy,
    "loss": _read("test_loss"),
    "train_loss": _read("train_loss"),
    "early_stop_step": _early_stop_step,
    "diverged": _diverged,
    "seconds": _seconds,
    **dict.fromkeys(REACHING, _reaching),
}
