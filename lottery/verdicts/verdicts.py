"""The verdicts on tickets: winning, matching, losing or inconclusive, from differences paired by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lottery.analysis import columns
from lottery.analysis.cells import (
    CellKey,
    censored,
    declared,
    dense,
    densities,
    differences,
    floor,
    records_by_cell,
    steps,
)
from lottery.analysis.columns import BOUND, DENSITY, LEVEL_OF_DENSITY, SEEDS, SEEDS_NEEDED, Column, p_values
from lottery.analysis.labels import density_label, finite, head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values, in_plan_order, keys_of
from lottery.audit.audit import audit
from lottery.audit.disclosures import disclosed_of_cell
from lottery.recipe.families import only_by_families
from lottery.results.study import once
from lottery.statistics import paired
from lottery.verdicts.decisions import DenseDifferences, MatchingDecision, decide, only_corrected, sequence_end
from lottery.verdicts.frontier import decided
from lottery.verdicts.other_readings import with_other_readings
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec
    from lottery.results.record import Record
    from lottery.results.study import Study

DRAWS = 2_000  # of seeds, for the interval of the sparsest matching density


@once
def rows(study: Study) -> list[Row]:
    """Return a row for each optimizer, rewind point and density with a finished pair: verdict, reason and figures.

    `difference` is the mean of ticket less dense accuracy, a fraction, with its two-sided t interval (`low`, `high`)
    and, with ten seeds or more, bootstrap interval (`bca_low`, `bca_high`); `bound` the one-sided lower bound. `also`
    says where the ticket is shown to be better than the dense network, or equivalent to it, and `better_by` how much
    better at least, at all densities together (Bonferroni). `steps_ratio` is the geometric mean of the ratio of
    early-stop steps; `seeds_needed` the number of seeds that the seen spread calls for where a density by itself shows
    nothing. The verdict is `withheld` where the audit found a difference that the recipe does not name. The values at
    the other readings stand beside it, see `lottery.verdicts.other_readings`.

    Raises:
        UsageError: The recipe declares no margin.
    """
    return with_other_readings(study, _at_report(study), partial(_at_report, bootstrap=False))


def _at_report(study: Study, bootstrap: bool = True) -> list[Row]:
    compare, recipe = declared(study), study.recipe
    table: list[Row] = []
    labels, known, withheld = optimizer_labels(recipe.train.optimizer), densities(study), audit(study).withheld()
    for (optimizer, rewind), cell_keys in _sequences(study).items():
        first = next(each for each in recipe.rewind if rewind_label(each) == rewind)
        may_win = first.to.value == 0 and first.mode == "weights" and bool(recipe.data.validation)
        cells = [_dense_differences(study, cell_key) for cell_key in cell_keys]
        decisions = decide(cells, compare, may_win=may_win, floor=floor(study))
        sequential = _sequential(study, optimizer, rewind)
        for cell_key, cell, decision in zip(cell_keys, cells, decisions, strict=True):
            row = head(recipe, rewind, optimizer=labels[optimizer])
            row |= {LEVEL_OF_DENSITY: cell_key[2], DENSITY: known[cell_key]}
            if sequential is not None:
                row |= _sequential_row(sequential.get(cell_key[2]), cell, decision, compare, floor(study), bootstrap)
            else:
                row |= _row(cell, decision, compare, len(cells), floor(study), bootstrap)
                at = sequence_end(decision, decisions, compare)
                stopped = "" if at is None else density_label(known[cell_keys[at]])
                row["reason"] = _reason(row, cell, decision, compare, may_win, stopped)
                if decision.verdict == "inconclusive" and not cell.diverged:
                    row["reason"] += only_by_families(recipe, min(decision.p_matching, decision.p_losing))
            if why := withheld.get((*cell_key, "ticket")):
                row |= {"verdict": "withheld", "also": "", "better_by": None, "reason": "; ".join(why)}
            if told := disclosed_of_cell(study, (*cell_key, "ticket")):
                row["reason"] += f"; {told}"
            table.append(Row(row, keys_of(study, _compared(study, cell_key))))
    return table


def _row(
    cell: DenseDifferences,
    decision: MatchingDecision,
    compare: CompareSpec,
    family: int,
    least: float,
    bootstrap: bool,
) -> Values:
    """Return the verdict on one of a `family` of densities with its figures; `least` is the spread that is believed."""
    words = [word for word in ("better", "equivalent") if getattr(decision, word)]
    row = {"verdict": decision.verdict, "also": ", ".join(words), **_figures(cell, decision, compare, least, bootstrap)}
    if decision.better:
        gain = paired.lower_bound(cell.differences, 1 - compare.alpha / family, least)
        row["better_by"] = gain if gain > 0 else None
    return row


def _figures(
    cell: DenseDifferences, decision: MatchingDecision, compare: CompareSpec, least: float, bootstrap: bool
) -> Values:
    values, confidence = cell.differences, compare.confidence
    row = columns.comparison(paired.summary(values, confidence, least, bootstrap=bootstrap), confidence)
    row[BOUND] = paired.lower_bound(values, confidence, least)
    row[Column("better_by", "points", words="better by at least")] = None
    for word in ("matching", "losing", "better", "equivalent"):
        shows = "" if word == "matching" else word
        row |= {column: getattr(decision, column) for column in p_values(f"p_{word}", confidence, shows)}
    ratios = [math.log(max(1, ticket) / max(1, other)) for ticket, other, _, _ in cell.early or ()]
    row[Column("steps_ratio", words="steps, ticket / dense")] = math.exp(statistics.fmean(ratios)) if ratios else None
    for name, corrects in (("p_earlier", ""), ("p_winning_adjusted", "p_earlier")):
        column = Column(name, "p", confidence=confidence, shows="winning", corrects=corrects)
        row[column] = getattr(decision, name)
    open_ = decision.verdict == "inconclusive" and not only_corrected(decision, compare)
    row[SEEDS_NEEDED] = _seeds_needed(cell, compare, least) if open_ else None
    return finite(row)


def _seeds_needed(cell: DenseDifferences, compare: CompareSpec, least: float) -> int | None:
    if len(cell.differences) < 2:
        return None
    distance = abs(statistics.fmean(cell.differences) + compare.margin / 100)
    return paired.seeds_needed(statistics.stdev(cell.differences), distance, compare.confidence, compare.power, least)


def _reason(
    row: Values, cell: DenseDifferences, decision: MatchingDecision, compare: CompareSpec, may_win: bool, stopped: str
) -> str:
    """Return the reason of a verdict in words.

    `stopped` is the density that ended the sequence, if that is all that keeps this one from being shown.
    """
    n, margin, alpha = len(cell.differences), compare.points, compare.alpha
    if cell.diverged:
        return f"{counted(cell.diverged, 'ticket')} diverged whose dense networks did not: nothing is claimed"
    if n < 2:
        return f"{counted(n, 'seed')} can show nothing of the spread; at least 2 are needed"
    if decision.verdict == "losing":
        return f"shown to be more than {margin} below dense"
    if decision.verdict in ("winning", "matching"):
        shown = f"shown to be less than {margin} below dense"
        if decision.verdict == "winning":
            shown += ", and to reach its early-stop step no later"
        elif may_win:
            shown += "; not shown to reach its early-stop step no later"
        by = "" if row["better_by"] is None else f", by {100 * row['better_by']:.2g} points at least"
        shown += f"; shown to be better than dense{by}" if decision.better else ""
        return shown + (f"; shown to be less than {margin} above it too" if decision.equivalent else "")
    if only_corrected(decision, compare):
        order = "dense to sparse" if decision.p_matching <= alpha else "sparse to dense"
        how = f": the sequence from {order} ended at {stopped}" if stopped else f" ({compare.densities})"
        return f"shown by itself, but not after the correction over densities{how}"
    needed = row["seeds_needed"]
    more = f"; the spread seen calls for {needed} seeds" if needed is not None and needed > n else ""
    return f"{n} seeds do not show which side of -{margin} it is on{more}"


def _sequential(study: Study, optimizer: int, rewind: str) -> dict[int, str] | None:
    """Return the decisions of `levels: auto` by level; tests were taken as seeds came, with bounds of their own."""
    if study.recipe.prune.auto is None:
        return None
    number = [rewind_label(each) for each in study.recipe.rewind].index(rewind)
    return {step.level: step.decision for step in decided(study)[optimizer, number]}


def _sequential_row(
    decision: str | None,
    cell: DenseDifferences,
    fixed: MatchingDecision,
    compare: CompareSpec,
    least: float,
    bootstrap: bool,
) -> Values:
    verdict = decision if decision in ("matching", "losing") else "inconclusive"
    figures = _figures(cell, fixed, compare, least, bootstrap)
    words = ("matching", "losing", "better", "equivalent")
    unfit = ["bound", *(f"p_{word}" for word in words), *(f"p_{word}_adjusted" for word in words)]  # of a fixed n
    row: Values = {"verdict": verdict, "also": "", **figures}
    row |= dict.fromkeys((*unfit, "p_winning_adjusted", "seeds_needed"))
    row["reason"] = f"sequential test: {decision or 'not reached'}"
    return row


@once
def sparsest_matching(study: Study) -> Mapping[tuple[str, str | None], float | None]:
    """Return the sparsest density that matches, or wins, as all denser ones do, by optimizer and rewind point.

    None where the densest does not.
    """
    found: dict[tuple[str, str | None], float | None] = {}
    ended = set[tuple[str, str | None]]()
    for row in rows(study):
        at = row["optimizer"], row.get("rewind")
        found.setdefault(at, None)
        if at not in ended and row["verdict"] in ("matching", "winning"):
            found[at] = row["density"]
        else:
            ended.add(at)
    return found


@once
def sparsest(study: Study) -> list[Row]:
    """Return a row for each optimizer and rewind point with its `sparsest_matching` density.

    Beside it stands where the mean difference falls below -margin, with an interval.
    `crossing` is found on the line through the mean differences against the logarithm of the density; its interval is
    that of bootstrap draws of the seeds that have all levels, widened for their small number. `how` says where it is
    censored: no crossing down to the sparsest level trained.
    """
    table, known, compare = [], densities(study), declared(study)
    cells, matched = differences(study), sparsest_matching(study)
    for ((optimizer, rewind), density), cell_keys in zip(matched.items(), _sequences(study).values(), strict=True):
        mine = [row for row in rows(study) if (row["optimizer"], row.get("rewind")) == (optimizer, rewind)]
        per_level = [cells[cell_key]["ticket"] for cell_key in cell_keys]
        seeds = sorted(set.intersection(*(set(values) for values in per_level)))
        about = head(study.recipe, rewind, optimizer=optimizer) | {DENSITY: density, SEEDS: len(seeds)}
        curve = [[values[seed] for seed in seeds] for values in per_level]
        found = crossing_interval(
            curve, [known[cell_key] for cell_key in cell_keys], compare.margin / 100, compare.confidence
        )
        table.append(Row(about | found, in_plan_order(study, (key for each in mine for key in each.made_from))))
    return table


def crossing_interval(
    curve: Sequence[Sequence[float]], at: Sequence[float], margin: float, confidence: float
) -> dict[str, float | str | None]:
    """Return the density at which the mean difference first falls below -margin, with an interval.

    The interval is the expanded percentile interval (Hesterberg 2015): each end leaves out of the draws what the t
    interval of so many seeds leaves out of a normal distribution. With fewer than 5 seeds it is their range, still too
    narrow.

    Args:
        curve: For each density in `at` a difference per seed, the same seeds in the same order.
        at: The densities, falling.
        margin: The margin, a fraction.
        confidence: The two-sided confidence of the interval.

    Returns:
        The densities `crossing`, `low` and `high`, None where there is no crossing, and in words `how` they were found.
    """
    import numpy as np
    from scipy.special import ndtr, stdtrit

    values = np.asarray(curve, dtype=float)
    names = (Column("crossing", "fraction"), *columns.interval("fraction", confidence))
    if values.size == 0 or values.shape[1] < 2:
        return {**dict.fromkeys(names), "how": "fewer than 2 seeds have all levels"}
    seen = _crossing(values.mean(axis=1), at, margin)
    draws = np.random.default_rng(0).integers(0, values.shape[1], (DRAWS, values.shape[1]))
    drawn = sorted(_crossing(values[:, seeds].mean(axis=1), at, margin) for seeds in draws)
    n = values.shape[1]
    tail = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - confidence) / 2)))
    low, high = drawn[math.floor(tail * (DRAWS - 1))], drawn[math.ceil((1 - tail) * (DRAWS - 1))]
    how = "bootstrap of seeds, expanded percentile"
    if low < at[-1]:  # a mark for no crossing
        often = "" if seen < at[-1] else " in some draws"
        how += f"; no crossing down to {density_label(at[-1])}{often}"
    figures = dict(zip(names, (seen, low, high), strict=True))
    return {**{name: None if value < at[-1] else value for name, value in figures.items()}, "how": how}


def _crossing(means: Sequence[float], at: Sequence[float], margin: float) -> float:
    """Return the density at which the line through the means first falls below -margin; 0 where it does not."""
    above, x = margin, 0.0  # the dense network differs from itself by nothing
    for mean, density in zip(means, at, strict=True):
        here = float(mean) + margin
        if here < 0:
            share = above / (above - here)
            return math.exp(x + share * (math.log(density) - x))
        above, x = here, math.log(density)
    return 0.0


@once
def _sequences(study: Study) -> Mapping[tuple[int, str], list[CellKey]]:
    """Return the cells with a finished pair of ticket and dense network, dense to sparse, by optimizer and rewind."""
    found, known = differences(study), densities(study)
    sequences: dict[tuple[int, str], list[CellKey]] = {}
    for cell_key in sorted(records_by_cell(study), key=lambda at: (at[0], at[2])):
        if (
            cell_key[2]
            and cell_key in known
            and found[cell_key].get("ticket") is not None
            and _has_ticket(study, cell_key)
        ):
            sequences.setdefault((cell_key[0], cell_key[1]), []).append(cell_key)
    return sequences


def _has_ticket(study: Study, cell_key: CellKey) -> bool:
    return any(record is not None for _, record in records_by_cell(study)[cell_key].get("ticket", ()))


def _compared(study: Study, cell_key: CellKey) -> Iterator[Record | None]:
    """Yield the trainings that the verdict on a cell is made from: its tickets and the dense networks beside them."""
    for at, column in (((cell_key[0], cell_key[1], 0), "dense"), (cell_key, "ticket")):
        yield from (record for _, record in records_by_cell(study)[at].get(column, ()))


def _dense_differences(study: Study, cell_key: CellKey) -> DenseDifferences:
    values = differences(study)[cell_key]["ticket"]
    dense_done = {
        job.seed
        for job, record in records_by_cell(study)[cell_key[0], cell_key[1], 0].get("dense", ())
        if record is not None and record.diverged is None
    }
    diverged = sum(
        record is not None and record.diverged is not None and job.seed in dense_done
        for job, record in records_by_cell(study)[cell_key]["ticket"]
    )
    if not study.recipe.data.validation:
        return DenseDifferences(list(values.values()), diverged)
    found = steps(study)
    tickets, others = found[cell_key]["ticket"], dense(found, cell_key)
    late, dense_late = censored(study, cell_key, "ticket"), censored(study, cell_key, "dense")
    early = [(tickets[s], others[s], s in late, s in dense_late) for s in values if s in tickets and s in others]
    return DenseDifferences(list(values.values()), diverged, early)
