"""The verdict on pairs of networks: connected, not connected, or undecided, from the error barrier on their path."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lottery import registry
from lottery.analysis import columns
from lottery.analysis.cells import floor
from lottery.analysis.columns import DENSITY, LEVEL_OF_DENSITY, Column, p_values
from lottery.analysis.labels import density_label, finite, whose
from lottery.analysis.measurements import cells_of, density_of, head_of, measured
from lottery.analysis.rows import Row, Values
from lottery.audit.audit import audit
from lottery.audit.measurement_checks import wrong_in_record
from lottery.errors import UsageError
from lottery.recipe.families import acting
from lottery.results import resolution
from lottery.results.study import once
from lottery.statistics import paired
from lottery.statistics.independent import independent_means
from lottery.verdicts.barriers import CONFIDENCE, Barriers, ConnectedDecision, decide
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.results.study import Study

POWER = 0.8  # where the recipe compares nothing
POLICIES = {"": "interpolated", "_reset": "measured anew"}  # of running statistics, by the ends of values' names
PAIRS_NEEDED = Column("pairs_needed", readers="programs")  # people are told in the row's `reason`


@once
def rows(study: Study) -> list[Row]:
    """Return a row for each analysis of pairs, and each optimizer, rewind point, level and pair of networks in it.

    `barrier` is the mean over independent units of the rise of the test error on the path over the mean of its ends, a
    fraction, with its two-sided t interval. `n` is the number of these units, `pairs` that of the pairs measured.
    Networks with running statistics have a row for interpolated ones and one for those measured anew. The verdict is
    `withheld` where a record proves nothing.

    Raises:
        UsageError: The recipe has no analysis of what lies between two networks.
    """
    wanted = [each for each in study.recipe.analyses if registry.analyses[each.name].traits.connects]
    if not wanted:
        raise UsageError(
            f"{study.recipe.name}: has no analysis of what lies between two networks; add `analyses: [barrier]`"
        )
    return [row for analysis in wanted for row in _rows_of(study, analysis)]


def _rows_of(study: Study, analysis: AnalysisSpec) -> Iterator[Row]:
    """Yield the rows of one analysis, which are one family of tests."""
    compare = acting(study.recipe)
    confidence = CONFIDENCE if compare is None else compare.confidence
    power, margin = POWER if compare is None else compare.power, analysis.within
    value, least = registry.analyses[analysis.name].traits.connects, least_spread(study, analysis)
    places, found, found_jobs = [], [], []
    for place, jobs in cells_of(study, analysis).items():
        for policy in POLICIES:
            if (barriers := _barriers(study, jobs, f"{value}{policy}")) is not None:
                places.append((place, policy))
                found.append(barriers)
                found_jobs.append(jobs)
    decisions = decide(found, margin / 100, 1 - confidence, least)
    for (place, policy), barriers, jobs, decision in zip(places, found, found_jobs, decisions, strict=True):
        row: Values = {"analysis": analysis.label, **head_of(study, place), LEVEL_OF_DENSITY: place[2]}
        both = (place, "") in places and (place, "_reset") in places
        row |= {DENSITY: density_of(study, jobs), "networks": place[3]}
        row |= {"statistics": POLICIES[policy] if both or policy else ""}
        row |= _figures(barriers, confidence, least)
        for word in ("connected", "not_connected"):
            shows = word.replace("_", " ")
            row |= {column: getattr(decision, column) for column in p_values(f"p_{word}", confidence, shows)}
        wanted = _needed(barriers, decision, margin / 100, confidence, power, least)
        row |= {PAIRS_NEEDED: wanted, "verdict": decision.verdict}
        row["reason"] = _reason(barriers, decision, margin, 1 - confidence, wanted)
        if wrong := unproven(study, jobs):
            row |= {"verdict": "withheld", "reason": "; ".join(wrong)}
        keys = dict.fromkeys(key for job in jobs for key in (job.key, *(look.key for look in job.looks)))
        yield Row(finite(row), keys)


def sentences(study: Study) -> list[str]:
    """Return a sentence for each analysis of pairs and optimizer, rewind point and pair; none where there is none."""
    if not any(registry.analyses[each.name].traits.connects for each in study.recipe.analyses):
        return []
    told: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows(study):
        told.setdefault((row["analysis"], whose(row), row["networks"], row["statistics"]), []).append(row)
    margins = {each.label: each.within for each in study.recipe.analyses}
    compare = acting(study.recipe)
    sure = f"one-sided {100 * (CONFIDENCE if compare is None else compare.confidence):g} %"
    return [
        f"{analysis}, {optimizer}: {networks}{', statistics ' + how if how else ''}: "
        + ", ".join(f"{_at(row)} {row['verdict']}" for row in found)
        + f" (test error on the path within {margins[analysis]:g} points, {sure}, {_units(found)})."
        for (analysis, optimizer, networks, how), found in told.items()
    ]


def _at(row: Row) -> str:
    return f"level {row['level']}" if row["density"] is None else f"at {density_label(row['density'])}"


def _units(found: Sequence[Row]) -> str:
    low, high = min(row["n"] for row in found), max(row["n"] for row in found)
    return counted(low, "independent pair") if low == high else f"{low} to {high} independent pairs"


def _barriers(study: Study, jobs: Sequence[Job], name: str) -> Barriers | None:
    """Return the barriers of the pairs of one cell; None where none is measured, or has no such value."""
    known = measured(study)
    done = [known[job.key] for job in jobs if job.key in known]
    values = [(seeds_of(study, each.job), each.values[name]) for each in done if name in each.values]
    if not values:
        return None
    good = [(seeds, value) for seeds, value in values if math.isfinite(value)]
    trainings = [[study.found.get(look.key) for look in job.looks] for job in jobs]
    diverged = sum(any(record is not None and record.diverged is not None for record in each) for each in trainings)
    return Barriers(list(independent_means(good).values()), len(good), diverged + len(values) - len(good))


def seeds_of(study: Study, job: Job) -> frozenset[int]:
    """Return the seeds of the networks that an analysis looks at."""
    return frozenset(study.plan.jobs[look.key].seed for look in job.looks)


def _figures(barriers: Barriers, confidence: float, least: float) -> Values:
    interval = paired.t_interval(barriers.values, confidence, least) if barriers.values else None
    low, high = columns.interval("points", confidence)
    figures = (None, None, None) if interval is None else (interval.estimate, max(0.0, interval.low), interval.high)
    return {
        Column("n", words="independent pairs"): len(barriers.values),
        "pairs": barriers.pairs,
        Column("barrier", "points"): figures[0],
        low: figures[1],
        high: figures[2],
    }


def _needed(
    barriers: Barriers, decision: ConnectedDecision, margin: float, confidence: float, power: float, least: float
) -> int | None:
    """Return the number of independent pairs that the spread seen calls for where nothing is shown."""
    if decision.verdict != "undecided" or not barriers.shown():
        return None
    distance = abs(statistics.fmean(barriers.values) - margin)
    return paired.seeds_needed(statistics.stdev(barriers.values), distance, confidence, power, least)


def _reason(barriers: Barriers, decision: ConnectedDecision, margin: float, alpha: float, needed: int | None) -> str:
    n, points = len(barriers.values), f"{margin:g} points"
    if barriers.lost:
        return f"{counted(barriers.lost, 'pair')} diverged, or has a barrier that is not finite: nothing is claimed"
    if n < 2:
        return f"{counted(n, 'independent pair')} can show nothing of the spread; at least 2 are needed"
    if decision.verdict == "connected":
        return f"shown to rise less than {points}"
    if decision.verdict == "not connected":
        return f"shown to rise more than {points}"
    if min(decision.p_connected, decision.p_not_connected) <= alpha:
        return "shown by itself, but not after the correction over the rows (holm)"
    more = f"; the spread seen calls for {needed}" if needed is not None and needed > n else ""
    return f"{n} independent pairs do not show which side of {points} it is on{more}"


def least_spread(study: Study, analysis: AnalysisSpec) -> float:
    """Return the least spread that is believed: errors are counts of as many test examples as are looked at."""
    examples = analysis.component.args.get("examples")
    known = floor(study)
    return max(known, resolution.floor(int(examples))) if examples and known else known


def unproven(study: Study, jobs: Sequence[Job]) -> list[str]:
    """Return what is wrong with the records that a cell is made of, in words."""
    wrong = [what for job in jobs if study.store.find(job.key) for what in wrong_in_record(study.store, job)]
    keys = {look.key for job in jobs for look in job.looks}
    failed = [each for each in audit(study).findings if each.key in keys and not (each.ours or each.dense)]
    return list(dict.fromkeys([*wrong, *(finding.words for finding in failed)]))
