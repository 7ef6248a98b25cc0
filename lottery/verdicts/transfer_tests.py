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
        differences: The differences of accuracy by seed, as fractions.
        ours_diverged: Number of seeds where only the transferred ticket diverged.
        theirs_diverged: Number of seeds where only the other side diverged.
        records: The trainings of both sides.
    """

    transfer: Transfer
    against: str
    differences: Mapping[int, float]
    ours_diverged: int
    theirs_diverged: int
    records: Sequence[Record | None]  # of both sides


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
            cell, p = tested[against][number]
            row = head(study.recipe, point, found_with=labels[finder], retrained_with=labels[retrainer])
            density = known.get((finder, point, level), next(r.density for r in records if r))
            row |= {LEVEL_OF_DENSITY: level, DENSITY: density, "against": against}
            confidence = compare.confidence if compare else 0.95
            seen = paired.t_interval(list(cell.differences.values()), confidence, floor(study))
            low, high = interval("points", confidence)
            row |= {SEEDS: seen.n, DIFFERENCE: seen.estimate, low: seen.low, high: seen.high, **p}
            if compare is not None:
                row |= _judge(cell, p, compare, _withheld(study, cell, labels))
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
) -> list[tuple[_Comparison, dict[str, float]]]:
    """Return each transferred ticket against one side, with its p-values as they are and adjusted over all."""
    cells = [_compare(study, transfer, records, against) for transfer, records in transferred.items()]
    least = floor(study)

    def p(cell: _Comparison, lost: bool, null: float, alternative: paired.Alternative) -> float:
        return 1.0 if lost else paired.t_pvalue(list(cell.differences.values()), null, alternative, least)

    tests = {"p": [p(c, bool(c.ours_diverged or c.theirs_diverged), 0.0, "two-sided") for c in cells]}
    if compare is not None:
        margin = compare.margin / 100
        tests["p_matching"] = [p(c, bool(c.ours_diverged), -margin, "greater") for c in cells]
        tests["p_losing"] = [p(c, bool(c.theirs_diverged), -margin, "less") for c in cells]
    adjusted = {name: paired.holm(values) for name, values in tests.items()}
    confidence = compare.confidence if compare else 0.95
    names = {name: p_values(name, confidence, "losing" if name == "p_losing" else "") for name in tests}
    return [
        (
            cell,
            {column: by[n][i] for n, pair in names.items() for column, by in zip(pair, (tests, adjusted), strict=True)},
        )
        for i, cell in enumerate(cells)
    ]


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
    counts = len(lost[0]), len(lost[1])
    return _Comparison(transfer, against, differences_by_seed(ours, theirs), *counts, [*records, *reference])


def _judge(cell: _Comparison, p: Mapping[str, float], compare: CompareSpec, withheld: Sequence[str]) -> Values:
    n, margin = len(cell.differences), compare.points
    other = "the dense network" if cell.against == "dense" else "the other optimizer's own ticket"
    if withheld:
        return {"verdict": "withheld", "reason": "; ".join(withheld)}
    if p["p_matching_adjusted"] <= compare.alpha:
        return {"verdict": "matching", "reason": f"shown to be less than {margin} below {other}"}
    if p["p_losing_adjusted"] <= compare.alpha:
        return {"verdict": "losing", "reason": f"shown to be more than {margin} below {other}"}
    if not n and not cell.ours_diverged and not cell.theirs_diverged:
        return {"verdict": "inconclusive", "reason": "no seed has a result on both sides"}
    if cell.ours_diverged or cell.theirs_diverged:
        sides = ((cell.ours_diverged, "transferred tickets"), (cell.theirs_diverged, "of the other side alone"))
        return {"verdict": "inconclusive", "reason": "; ".join(f"{n} {side} diverged" for n, side in sides if n)}
    if min(p["p_matching"], p["p_losing"]) <= compare.alpha:
        why = "shown by itself, but not after the correction over all transferred tickets"
    else:
        why = f"{n} seeds do not show which side of -{margin} it is on"
    return {"verdict": "inconclusive", "reason": why}


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
