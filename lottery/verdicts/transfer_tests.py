"""Tests of tickets that are retrained with another optimizer, against what that optimizer reaches by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.cells import SCORE, accuracies, by_seed, dense, densities, differences_by_seed, diverged, floor
from lottery.analysis.columns import DENSITY, DIFFERENCE, LEVEL_OF_DENSITY, SEEDS, interval, p_values
from lottery.analysis.labels import finite, head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values, keys_of
from lottery.analysis.transfer import declared_transfer
from lottery.audit.audit import audit
from lottery.plan.kinds import Kind
from lottery.results.study import once
from lottery.statistics import paired
from lottery.verdicts.transfers import TransferDecision, TransferDifferences, decide

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec
    from lottery.results.record import Record
    from lottery.results.study import Study

AGAINST = ("dense", "own ticket")  # both of the optimizer that retrains
# rewind point, level, indexes of the optimizers that found the ticket and retrained it
Transfer = tuple[str, int, int, int]


@dataclass(frozen=True)
class _Comparison:
    """A transferred ticket against one side.

    Attributes:
        transfer: The transferred ticket.
        against: The other side: `dense` or `own ticket`.
        values: The differences between the two, paired by seed.
        records: The trainings of both sides.
    """

    transfer: Transfer
    against: str
    values: TransferDifferences
    records: Sequence[Record | None]


@once
def rows(study: Study) -> list[Row]:
    """Return two rows for each level and pair of optimizers: one against the dense network, one against the own ticket.

    A ticket `found_with` one optimizer and `retrained_with` the other stands `against` that other one's dense network,
    and against the ticket of this level that it found itself.

    `difference` is the mean over `n` seeds of the transferred ticket's accuracy less the other one's, a fraction, with
    its two-sided t interval (`low`, `high`); `p` that of the two-sided paired t test that they do not differ. Where the
    recipe declares a margin there are `p_matching` (shown to be less than the margin below), `p_losing` (shown to be
    more than that below), and the `verdict` matching, losing, inconclusive, or withheld where the audit found
    something. Each p is `_adjusted` by Holm's procedure over all transferred tickets of the recipe that are compared
    with the same side, be they trained yet or not.

    Raises:
        UsageError: The recipe retrains no ticket with another optimizer.
    """
    declared_transfer(study)
    compare, labels, known = study.recipe.compare, optimizer_labels(study.recipe.train.optimizer), densities(study)
    transferred = _transferred(study)
    table: list[Row] = []
    tested = {against: _tested(study, transferred, against, compare) for against in AGAINST}
    for number, (transfer, records) in enumerate(transferred.items()):
        if not any(records):
            continue
        point, level, finder, retrainer = transfer
        for against in AGAINST:
            cell, decision = tested[against][number]
            row = head(study.recipe, point, found_with=labels[finder], retrained_with=labels[retrainer])
            density = known.get((finder, point, level), next(r.density for r in records if r))
            row |= {LEVEL_OF_DENSITY: level, DENSITY: density, "against": against}
            confidence = compare.confidence if compare else 0.95
            seen = paired.t_interval(cell.values.differences, confidence, floor(study))
            low, high = interval("points", confidence)
            row |= {SEEDS: seen.n, DIFFERENCE: seen.estimate, low: seen.low, high: seen.high}
            for name, values in decision.p.items():
                columns = p_values(name, confidence, "losing" if name == "p_losing" else "")
                row |= zip(columns, values, strict=True)
            if compare is not None:
                row |= _judge(cell, decision, compare, _withheld(study, cell, labels))
            table.append(Row(finite(row), keys_of(study, cell.records)))
    return table


def _transferred(study: Study) -> dict[Transfer, list[Record | None]]:
    """Return every training of a ticket with another optimizer, in the order of the transfer table."""
    cells: dict[Transfer, list[Record | None]] = {}
    for job in study.plan:
        if job.transfer is not None and job.rewind is not None:
            transfer = (rewind_label(job.rewind), job.level, job.optimizer_index, job.transfer)
            cells.setdefault(transfer, []).append(study.found.get(job.key))
    return dict(sorted(cells.items()))


def _tested(
    study: Study, transferred: Mapping[Transfer, Sequence[Record | None]], against: str, compare: CompareSpec | None
) -> list[tuple[_Comparison, TransferDecision]]:
    """Return each transferred ticket against one side, with the decision on it among all of them."""
    cells = [_compare(study, transfer, records, against) for transfer, records in transferred.items()]
    return list(zip(cells, decide([cell.values for cell in cells], compare, floor(study)), strict=True))


def _compare(study: Study, transfer: Transfer, records: Sequence[Record | None], against: str) -> _Comparison:
    point, level, _, retrainer = transfer
    cells, place = accuracies(study), (retrainer, point, level)
    theirs = dense(cells, place) if against == "dense" else cells.get(place, {}).get("ticket", {})
    ours = by_seed(records, study.recipe.report, SCORE)
    kind = Kind.DENSE if against == "dense" else Kind.TICKET
    reference = [
        study.found.get(job.key)
        for job in study.plan
        if (job.kind, job.optimizer_index) == (kind, retrainer)
        and (
            kind is Kind.DENSE or (job.level == level and job.rewind is not None and rewind_label(job.rewind) == point)
        )
    ]
    lost = diverged(records) & theirs.keys(), diverged(reference) & ours.keys()
    differences = list(differences_by_seed(ours, theirs).values())
    values = TransferDifferences(differences, len(lost[0]), len(lost[1]))
    return _Comparison(transfer, against, values, [*records, *reference])


def _judge(cell: _Comparison, decision: TransferDecision, compare: CompareSpec, withheld: Sequence[str]) -> Values:
    """Return the verdict on a transferred ticket and its reason in words."""
    seen, margin = cell.values, compare.points
    n, lost = len(seen.differences), (seen.ours_diverged, seen.theirs_diverged)
    other = "the dense network" if cell.against == "dense" else "the other optimizer's own ticket"
    if withheld:
        return {"verdict": "withheld", "reason": "; ".join(withheld)}
    if decision.verdict == "matching":
        why = f"shown to be less than {margin} below {other}"
    elif decision.verdict == "losing":
        why = f"shown to be more than {margin} below {other}"
    elif any(lost):
        sides = zip(lost, ("transferred tickets", "of the other side alone"), strict=True)
        why = "; ".join(f"{number} {side} diverged" for number, side in sides if number)
    elif not n:
        why = "no seed has a result on both sides"
    elif min(decision.p["p_matching"][0], decision.p["p_losing"][0]) <= compare.alpha:
        why = "shown by itself, but not after the correction over all transferred tickets"
    else:
        why = f"{n} seeds do not show which side of -{margin} it is on"
    return {"verdict": decision.verdict, "reason": why}


def _withheld(study: Study, cell: _Comparison, labels: Sequence[str]) -> list[str]:
    """Return in words why no verdict is given: what the audit found of either side."""
    point, level, finder, retrainer = cell.transfer
    found = audit(study).withheld()
    theirs = (0, "dense") if cell.against == "dense" else (level, "ticket")
    sides = ((finder, point, level, f"with {labels[retrainer]}"), (retrainer, point, *theirs))

    def reasons() -> Iterator[str]:
        for side in sides:
            yield from found.get(side, ())

    return list(dict.fromkeys(reasons()))
