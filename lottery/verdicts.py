"""What may be claimed of tickets: winning, matching, losing or inconclusive, from differences paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery import stats
from lottery.frontier_view import decided
from lottery.pairs import censored, declared, dense, densities, differences, steps
from lottery.study import once
from lottery.tables import Place, Row, by_place, density_label, finite, head, optimizer_labels, rewind_label
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.schema import CompareSpec
    from lottery.study import Study

Verdict = Literal["winning", "matching", "losing", "inconclusive"]  # and withheld, where the audit found something
DRAWS = 2_000  # of seeds, for the interval of the sparsest matching density


@dataclass(frozen=True)
class Cell:
    """What was seen at one density: differences of accuracy to the dense network, a value a seed, as fractions.

    `early` are the early-stop steps of ticket and dense network and which of them are censored, a tuple a seed; None
    without a validation split. `diverged` is the number of tickets that diverged though their dense network did not."""

    differences: Sequence[float]
    diverged: int = 0
    early: Sequence[tuple[float, float, bool, bool]] | None = None


@dataclass(frozen=True)
class Decision:
    """The verdict on one density, and the p-values behind it, as they are and corrected for the other densities."""

    verdict: Verdict
    p_matching: float
    p_matching_adjusted: float
    p_losing: float
    p_losing_adjusted: float
    p_earlier: float | None
    p_winning_adjusted: float | None


def decide(cells: Sequence[Cell], compare: CompareSpec, *, may_win: bool) -> list[Decision]:
    """The verdicts on densities given from dense to sparse.

    Matching is non-inferiority: the paired t test rejects a mean difference of -margin or less. Losing is its mirror
    image. Each of the two is corrected over the densities, by the fixed sequence (matching from dense to sparse, losing
    from sparse to dense) or Holm's procedure, so that the chance of one false claim among them is 1 - confidence at
    most. Winning is matching and stopping early no later than the dense network; both must be shown (intersection-
    union), corrected by Holm's procedure. A density with a diverged ticket is neither matching nor losing."""
    margin, alpha = compare.margin / 100, compare.alpha
    matching = [1.0 if cell.diverged else _p(cell.differences, -margin, 1) for cell in cells]
    losing = [1.0 if cell.diverged else _p(cell.differences, -margin, -1) for cell in cells]
    if compare.densities == "holm":
        matching_adjusted, losing_adjusted = stats.holm(matching), stats.holm(losing)
    else:
        matching_adjusted = stats.fixed_sequence(matching)
        losing_adjusted = stats.fixed_sequence(losing[::-1])[::-1]
    sooner = [_p_earlier(cell, compare.later) if may_win else None for cell in cells]
    both = stats.holm([max(p, 1.0 if q is None else q) for p, q in zip(matching, sooner, strict=True)])
    decisions = []
    for place in range(len(cells)):
        won = None if sooner[place] is None else max(both[place], matching_adjusted[place])
        verdict: Verdict = "inconclusive"
        if matching_adjusted[place] <= alpha:
            verdict = "winning" if won is not None and won <= alpha else "matching"
        elif losing_adjusted[place] <= alpha:
            verdict = "losing"
        p_values = (matching[place], matching_adjusted[place], losing[place], losing_adjusted[place])
        decisions.append(Decision(verdict, *p_values, sooner[place], won))
    return decisions


def _p(values: Sequence[float], null: float, sign: int) -> float:
    """Of the t test that the mean is above the null value, or below it where `sign` is -1.

    Where all values are equal a t test shows anything: there the sign test decides."""
    if len(values) < 2:
        return 1.0
    if max(values) - min(values) < stats.NO_SPREAD:
        return 0.5 ** len(values) if sign * (values[0] - null) > stats.NO_SPREAD else 1.0
    return stats.t_pvalue(values, null, "greater" if sign > 0 else "less")


def _p_earlier(cell: Cell, later: float) -> float | None:
    if cell.early is None:
        return None
    if not cell.early:
        return 1.0
    ticket, dense_steps, ticket_censored, dense_censored = zip(*cell.early, strict=True)
    return stats.earlier(ticket, dense_steps, ticket_censored, dense_censored, later=later)


@once
def rows(study: Study) -> list[Row]:
    """A row for each optimizer, rewind point and density with a finished pair of trainings: the verdict, its reason,
    and the figures behind it.

    `difference` is the mean of ticket less dense accuracy, a fraction, with its two-sided t interval (`low`, `high`)
    and bootstrap interval (`bca_low`, `bca_high`); `bound` the one-sided lower bound; `steps_ratio` the geometric mean
    of the ratio of early-stop steps; `seeds_needed` how many seeds the seen spread calls for where nothing is shown.
    The verdict is `withheld` where the audit found a difference that the recipe does not name.
    Raises UsageError where the recipe declares no margin."""
    compare, recipe = declared(study), study.recipe
    table: list[Row] = []
    labels, known, withheld = optimizer_labels(recipe.train.optimizer), densities(study), study.audit.withheld()
    for (optimizer, rewind), places in _sequences(study).items():
        first = next(each for each in recipe.rewind if rewind_label(each) == rewind)
        may_win = first.to.value == 0 and first.mode == "weights" and bool(recipe.data.validation)
        cells = [_cell(study, place) for place in places]
        decisions = decide(cells, compare, may_win=may_win)
        sequential = _sequential(study, optimizer, rewind)
        for place, cell, decision in zip(places, cells, decisions, strict=True):
            row = head(recipe, rewind, optimizer=labels[optimizer])
            row |= {"level": place[2], "density": known[place]}
            if sequential is not None:
                row |= _sequential_row(sequential.get(place[2]), cell, decision, compare)
            else:
                row |= {"verdict": decision.verdict, **_figures(cell, decision, compare)}
                row["reason"] = _reason(cell, decision, compare, may_win)
            if why := withheld.get((*place, "ticket")):
                row |= {"verdict": "withheld", "reason": "; ".join(why)}
            table.append(row)
    return table


def _figures(cell: Cell, decision: Decision, compare: CompareSpec) -> Row:
    values, confidence = cell.differences, compare.confidence
    row = {**stats.summary(values, confidence), "bound": stats.lower_bound(values, confidence)}
    row |= {"p_matching": decision.p_matching, "p_matching_adjusted": decision.p_matching_adjusted}
    row |= {"p_losing": decision.p_losing, "p_losing_adjusted": decision.p_losing_adjusted}
    ratios = [math.log(max(1, ticket) / max(1, other)) for ticket, other, _, _ in cell.early or ()]
    row["steps_ratio"] = math.exp(statistics.fmean(ratios)) if ratios else None
    row |= {"p_earlier": decision.p_earlier, "p_winning_adjusted": decision.p_winning_adjusted}
    row["seeds_needed"] = _seeds_needed(cell, compare) if decision.verdict == "inconclusive" else None
    return finite(row)


def _seeds_needed(cell: Cell, compare: CompareSpec) -> int | None:
    if len(cell.differences) < 2:
        return None
    distance = abs(statistics.fmean(cell.differences) + compare.margin / 100)
    return stats.seeds_needed(statistics.stdev(cell.differences), distance, compare.confidence, compare.power)


def _reason(cell: Cell, decision: Decision, compare: CompareSpec, may_win: bool) -> str:
    n, margin = len(cell.differences), compare.points
    if cell.diverged:
        return f"{cell.diverged} tickets diverged whose dense networks did not: nothing is claimed"
    if n < 2:
        return f"{counted(n, 'seed')} can show nothing of the spread; at least 2 are needed"
    if decision.verdict == "losing":
        return f"shown to be more than {margin} below dense"
    if decision.verdict in ("winning", "matching"):
        shown = f"shown to be less than {margin} below dense"
        if decision.verdict == "winning":
            return f"{shown}, and to stop early no later"
        return f"{shown}; not shown to stop early no later" if may_win else shown
    needed = _seeds_needed(cell, compare)
    more = f"; the spread seen calls for {needed} seeds" if needed is not None and needed > n else ""
    if min(decision.p_matching, decision.p_losing) <= compare.alpha:
        return f"shown by itself, but not after the correction over densities{more}"
    return f"{n} seeds do not show which side of -{margin} it is on{more}"


def _sequential(study: Study, optimizer: int, rewind: str) -> dict[int, str] | None:
    """The decisions of `levels: auto` by level: there the tests were taken as seeds came, with bounds of their own."""
    if study.recipe.prune.auto is None:
        return None
    number = [rewind_label(each) for each in study.recipe.rewind].index(rewind)
    return {step.level: step.decision for step in decided(study)[optimizer, number]}


def _sequential_row(decision: str | None, cell: Cell, fixed: Decision, compare: CompareSpec) -> Row:
    verdict = decision if decision in ("matching", "losing") else "inconclusive"
    figures = _figures(cell, fixed, compare)
    unfit = ("bound", "p_matching", "p_matching_adjusted", "p_losing", "p_losing_adjusted")  # they are of a fixed n
    row: Row = {"verdict": verdict, **figures, **dict.fromkeys((*unfit, "p_winning_adjusted", "seeds_needed"))}
    row["reason"] = f"sequential test: {decision or 'not reached'}"
    return row


@once
def sparsest(study: Study) -> list[Row]:
    """For each optimizer and rewind point the sparsest density with a verdict of matching (or winning) that all denser
    ones share, and where the mean difference falls below -margin, with an interval.

    `crossing` is found on the line through the mean differences against the logarithm of the density; its interval is
    that of bootstrap draws of the seeds that have all levels, widened for their small number. `how` says where it is
    censored: no crossing down to the sparsest level trained."""
    table, known, compare = [], densities(study), declared(study)
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows(study):
        grouped.setdefault((row["optimizer"], row.get("rewind", "")), []).append(row)
    cells = differences(study)
    for ((optimizer, rewind), mine), places in zip(grouped.items(), _sequences(study).values(), strict=True):
        matched: float | None = None
        for row in mine:
            if row["verdict"] not in ("matching", "winning"):
                break
            matched = row["density"]
        per_level = [cells[place]["ticket"] for place in places]
        seeds = sorted(set.intersection(*(set(values) for values in per_level)))
        row = {**head(study.recipe, rewind, optimizer=optimizer), "density": matched, "n": len(seeds)}
        curve = [[values[seed] for seed in seeds] for values in per_level]
        found = crossing_interval(curve, [known[place] for place in places], compare.margin / 100, compare.confidence)
        table.append({**row, **found})
    return table


def crossing_interval(
    curve: Sequence[Sequence[float]], at: Sequence[float], margin: float, confidence: float
) -> dict[str, float | str | None]:
    """Where the mean difference first falls below -margin: `crossing`, `low` and `high` density, and `how`.

    `curve` has for each density in `at`, falling, a difference a seed, the same seeds in the same order. The interval
    is the expanded percentile interval (Hesterberg 2015): each end leaves out of the draws what the t interval of so
    many seeds leaves out of a normal distribution. With fewer than 5 seeds it is their range, still too narrow."""
    import numpy as np
    from scipy.stats import norm, t

    values = np.asarray(curve, dtype=float)
    if values.size == 0 or values.shape[1] < 2:
        return {"crossing": None, "low": None, "high": None, "how": "fewer than 2 seeds have all levels"}
    seen = _crossing(values.mean(axis=1), at, margin)
    draws = np.random.default_rng(0).integers(0, values.shape[1], (DRAWS, values.shape[1]))
    drawn = sorted(_crossing(values[:, seeds].mean(axis=1), at, margin) for seeds in draws)
    n = values.shape[1]
    tail = float(norm.sf(math.sqrt(n / (n - 1)) * t.isf((1 - confidence) / 2, n - 1)))
    low, high = drawn[math.floor(tail * (DRAWS - 1))], drawn[math.ceil((1 - tail) * (DRAWS - 1))]
    how = "bootstrap of seeds, expanded percentile"
    if low < at[-1]:  # a mark for no crossing
        often = "" if seen < at[-1] else " in some draws"
        how += f"; no crossing down to {density_label(at[-1])}{often}"
    figures = {"crossing": seen, "low": low, "high": high}
    return {**{name: None if value < at[-1] else value for name, value in figures.items()}, "how": how}


def _crossing(means: Sequence[float], at: Sequence[float], margin: float) -> float:
    """The density where the line through the means first falls below -margin, 0 where it does not; 1 means dense."""
    above, x = margin, 0.0  # the dense network differs from itself by nothing
    for mean, density in zip(means, at, strict=True):
        here = float(mean) + margin
        if here < 0:
            share = above / (above - here)
            return math.exp(x + share * (math.log(density) - x))
        above, x = here, math.log(density)
    return 0.0


@once
def _sequences(study: Study) -> Mapping[tuple[int, str], list[Place]]:
    """The places with a finished pair of ticket and dense network, from dense to sparse, by optimizer and rewind."""
    found, known = differences(study), densities(study)
    sequences: dict[tuple[int, str], list[Place]] = {}
    for place in sorted(by_place(study), key=lambda at: (at[0], at[2])):
        if place[2] and place in known and found[place].get("ticket") is not None and _any(study, place):
            sequences.setdefault((place[0], place[1]), []).append(place)
    return sequences


def _any(study: Study, place: Place) -> bool:
    return any(record is not None for _, record in by_place(study)[place].get("ticket", ()))


def _cell(study: Study, place: Place) -> Cell:
    values = differences(study)[place]["ticket"]
    dense_done = {
        job.seed
        for job, record in by_place(study)[place[0], place[1], 0].get("dense", ())
        if record is not None and record.diverged is None
    }
    diverged = sum(
        record is not None and record.diverged is not None and job.seed in dense_done
        for job, record in by_place(study)[place]["ticket"]
    )
    if not study.recipe.data.validation:
        return Cell(list(values.values()), diverged)
    found = steps(study)
    tickets, others = found[place]["ticket"], dense(found, place)
    late, dense_late = censored(study, place, "ticket"), censored(study, place, "dense")
    early = [(tickets[s], others[s], s in late, s in dense_late) for s in values if s in tickets and s in others]
    return Cell(list(values.values()), diverged, early)
