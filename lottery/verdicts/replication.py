"""Published claims compared with a study: which of them hold, with figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis import columns
from lottery.analysis.cells import (
    CellKey,
    Cells,
    accuracies,
    censored,
    dense,
    densities,
    differences_by_seed,
    diverged,
    floor,
    records_by_cell,
    steps,
)
from lottery.analysis.columns import DENSITY, LEVEL_OF_DENSITY, SEEDS
from lottery.analysis.labels import density_label, finite, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values, in_plan_order, keys_of
from lottery.audit.audit import audit
from lottery.errors import UsageError
from lottery.recipe.readings import IN_WORDS, READINGS
from lottery.results.study import once
from lottery.verdicts import measured_claims, published_claims
from lottery.verdicts.other_readings import with_other_readings
from lottery.verdicts.published_claims import Judgement, Observed

if TYPE_CHECKING:
    from lottery.audit.findings import Cell
    from lottery.plan.jobs import Job
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.record import Record
    from lottery.results.study import Study

NEAR = 0.08  # a level stands for a density of a paper that is at most this part away from its own
POWER = 0.8  # of the number of seeds asked for, where the recipe has no `compare`


@once
def rows(study: Study) -> list[Row]:
    """Return a row for each claim, optimizer, rewind point and density, with the verdict on the claim as a whole.

    `estimate` and its bounds `low` and `high` are percentage points of accuracy, or ratios of early-stop steps. The
    bounds are those that decide, one-sided, each at the confidence that `bounds` names; `here` is the verdict at this
    density. A claim on all of its densities holds where it holds at each, and fails where it fails at one of them; a
    claim on any of them the other way round, see `lottery.verdicts.published_claims.confidences`. Where the audit
    withholds a side, or a seed of the plan is not finished, nothing is decided and `note` says why. `seeds_needed`
    would decide this density, `claim_seeds_needed` the claim. The values at the other readings stand beside it
    (`estimate_end`, `here_end`, see `lottery.verdicts.other_readings`).

    Raises:
        UsageError: The recipe replicates nothing.
    """
    return with_other_readings(study, _at_report(study), _at_report, "estimate", "here")


def _at_report(study: Study) -> list[Row]:
    recipe, replicates = study.recipe, study.recipe.replicates
    if replicates is None:
        raise UsageError(f"{recipe.name}: replicates nothing of the literature; its recipe has no `replicates`")
    labels, table = optimizer_labels(recipe.train.optimizer), list[Row]()
    known, power = densities(study), POWER if recipe.compare is None else recipe.compare.power
    for claim in replicates.claims:
        for optimizer_index, label in enumerate(labels):
            if claim.optimizer not in (None, optimizer_index):
                continue
            for rewind in [rewind_label(r) for r in recipe.rewind if claim.rewind in (None, r.to)]:
                cell_keys = [_nearest_cell(known, optimizer_index, rewind, wanted) for wanted in claim.densities]
                seen = [
                    Observed(0, 0.0, (), hindrances=("not trained",)) if at is None else _observed(study, claim, at)
                    for at in cell_keys
                ]
                found = [published_claims.judge(claim, each, replicates.confidence, power) for each in seen]
                about: Values = {"claim": claim.text, "source": f"{replicates.source}, {claim.source}"}
                about |= {"optimizer": label, "rewind": rewind, "verdict": published_claims.verdict(claim, found)}
                needed = {"claim_seeds_needed": published_claims.seeds_needed(claim, found)}
                for wanted, at, one, judged in zip(claim.densities, cell_keys, seen, found, strict=True):
                    level = None if at is None else at[2]
                    figures = _row(claim, labels, wanted, level, one, judged)
                    values = {**about, **figures, **needed, "note": _note(one)}
                    table.append(Row(values, _compared(study, claim, at)))
    return table


def seeds_needed(table: Sequence[Row]) -> int | None:
    """Return the number of seeds that would decide all claims that more seeds can decide; None where there are none."""
    return max((row["claim_seeds_needed"] for row in table if row["claim_seeds_needed"] is not None), default=None)


@dataclass(frozen=True)
class ClaimInWords:
    """A claim as it is told to a person: the verdict and a line of figures for each density."""

    text: str
    source: str
    verdict: str
    where: str  # optimizer and rewind point, where the study has several
    figures: list[str]


def claims_in_words(table: Sequence[Row]) -> list[ClaimInWords]:
    """Return the claims of the rows of a replication, in their order."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in table:
        groups.setdefault((row["claim"], row["optimizer"], row["rewind"]), []).append(row)
    several = len({key[1:] for key in groups}) > 1
    return [
        ClaimInWords(
            claim,
            mine[0]["source"],
            mine[0]["verdict"],
            f" ({optimizer}, {rewind})" if several else "",
            _figures_in_words(mine),
        )
        for (claim, optimizer, rewind), mine in groups.items()
    ]


def _figures_in_words(mine: Sequence[Row]) -> list[str]:
    wanted = mine[0]["claim_seeds_needed"]
    lines = [f"{mine[0]['compared']}, claimed {mine[0]['claimed']}"]
    lines[0] += f"; {wanted} seeds would decide it" if wanted is not None else ""
    for row in mine:
        figures = row["note"]
        if row["estimate"] is not None:
            low, high = ("?" if row[name] is None else f"{row[name]:.4g}" for name in ("low", "high"))
            figures = f"{row['estimate']:.4g} [{low}, {high}] {row['bounds']}, from {row['n']} seeds: {row['here']}"
            more = f"; {row['seeds_needed']} seeds would decide" if row["seeds_needed"] is not None else ""
            figures += f"{more} ({'; '.join(filter(None, (row['note'], _elsewhere(row))))})"
        lines.append(f"at {density_label(row['density'])}: {figures}")
    return lines


def _elsewhere(row: Row) -> str:
    """Return in words what would be decided at the other readings, where that is something else."""
    there = [reading for reading in READINGS if row.get(f"here_{reading}") not in (None, row["here"])]
    told = [f"{row[f'here_{reading}']} ({row[f'estimate_{reading}']:.4g}) {IN_WORDS[reading]}" for reading in there]
    return f"read otherwise: {', '.join(told)}" if told else ""


def _row(
    claim: ClaimSpec, labels: Sequence[str], wanted: float, level: int | None, seen: Observed, judged: Judgement
) -> Values:
    compared = claim.column if claim.against is None else f"{claim.column} against {claim.against}"
    what = "accuracy, points" if claim.measure == "accuracy" else "early-stop step, ratio"
    if claim.analysis is not None:
        compared, what = str(claim.networks), f"{claim.value} of {claim.analysis}"
    if claim.minus is not None:
        compared += f" minus {claim.minus.networks or compared}"
        compared += "" if claim.minus.optimizer is None else f" of {labels[claim.minus.optimizer]}"
    estimate = statistics.fmean(seen.values) if seen.values else math.nan
    low, high = columns.interval("", 0.0, words="low, high")  # `bounds` says at which confidence
    figures: Values = {"estimate": estimate, low: judged.low, high: judged.high}
    if claim.measure == "early_stop_step":
        figures = {name: math.exp(figure) if figure != -math.inf else figure for name, figure in figures.items()}
    return {
        DENSITY: wanted,
        LEVEL_OF_DENSITY: level,
        "compared": f"{compared}: {what}",
        "claimed": _claimed(claim),
        **finite(figures),
        "bounds": _bounds(judged),
        SEEDS: len(seen.values),
        "here": judged.here,
        "seeds_needed": judged.seeds_needed,
    }


def _bounds(judged: Judgement) -> str:
    """Return in words the confidence of the bounds."""
    low, high = (f"{100 * confidence:.4g} %" for confidence in judged.confidences)
    return f"one-sided {low}" if low == high else f"one-sided {low} and {high}"


def _note(seen: Observed) -> str:
    where = [f"level {seen.level} at {density_label(seen.density)}"] if seen.density else []
    return "; ".join([*where, *seen.notes, *seen.hindrances])


def _claimed(claim: ClaimSpec) -> str:
    least = "" if claim.least is None else f"at least {claim.least:g}"
    most = "" if claim.most is None else f"at most {claim.most:g}"
    limits = " and ".join(filter(None, (least, most)))
    return limits if len(claim.densities) == 1 else f"{limits}, at {claim.where} of {len(claim.densities)} densities"


def _nearest_cell(known: Mapping[CellKey, float], optimizer_index: int, rewind: str, wanted: float) -> CellKey | None:
    """Return the cell whose density is nearest to the one wanted; None where none is near."""
    mine = {at: density for at, density in known.items() if at[:2] == (optimizer_index, rewind)}
    at = min(mine, key=lambda at: abs(math.log(mine[at] / wanted)), default=None)
    return at if at is not None and abs(mine[at] / wanted - 1) <= NEAR else None


def _compared(study: Study, claim: ClaimSpec, at: CellKey | None) -> tuple[str, ...]:
    """Return the keys of the jobs that a claim is judged by at one cell, in the order of the plan."""
    if at is None:
        return ()
    if claim.analysis is not None:
        return in_plan_order(study, (job.key for job in measured_claims.jobs_of(study, claim, at)))
    sides = [_jobs(study, *side) for side in _sides(claim, at)]
    return keys_of(study, (record for side in sides for _, record in side))


def _observed(study: Study, claim: ClaimSpec, at: CellKey) -> Observed:
    """Return the values at one cell, and what stands in the way of a verdict."""
    if claim.analysis is not None:
        return measured_claims.observe(study, claim, at, densities(study)[at])
    cells = accuracies(study) if claim.measure == "accuracy" else steps(study)
    sides = _sides(claim, at)
    values = [_column(cells, *side) for side in sides]
    if len(sides) == 1:
        pairs = {seed: 100 * value for seed, value in values[0].items()}
    elif claim.measure == "accuracy":
        pairs = {seed: 100 * difference for seed, difference in differences_by_seed(*values).items()}
    else:
        both = [seed for seed in values[0] if seed in values[1]]
        pairs = {seed: math.log(max(1, values[0][seed]) / max(1, values[1][seed])) for seed in both}
    lost = [diverged(record for _, record in _jobs(study, *side)) for side in sides]
    if len(sides) > 1:  # a seed that both have lost speaks for neither
        lost = [lost[0] & values[1].keys(), lost[1] & values[0].keys()]
    late = [censored(study, *side) & pairs.keys() if claim.measure == "early_stop_step" else set() for side in sides]
    notes = [f"{name} censored: {len(seeds)}" for (_, name), seeds in zip(sides, late, strict=True) if seeds]
    notes += [f"{name} diverged: {len(seeds)}" for (_, name), seeds in zip(sides, lost, strict=True) if seeds]
    unbounded = _unbounded(
        claim.measure == "accuracy", [bool(seeds) for seeds in lost], [bool(seeds) for seeds in late]
    )
    hindrances = [why for side in sides for why in _hindrances(study, *side)]
    hindrances += ["no seed has both"] * (not pairs and not hindrances)
    told = unbounded, tuple(hindrances), tuple(notes)
    return Observed(at[2], densities(study)[at], list(pairs.values()), *told, _floor(study, claim))


def _floor(study: Study, claim: ClaimSpec) -> float:
    """Return the least spread that is believed of accuracies in points, of one network or of a difference.

    It is 0 for steps, which are no counts of test examples.
    """
    if claim.measure != "accuracy":
        return 0.0
    return 100 * floor(study) * (math.sqrt(0.5) if claim.against is None and claim.minus is None else 1.0)


def _unbounded(accuracy: bool, lost: Sequence[bool], late: Sequence[bool]) -> tuple[bool, bool]:
    """Return what the values leave open, see `Observed`, by the seeds of each side that diverged or are censored."""
    ours_lost, ours_late, theirs_lost, theirs_late = lost[0], late[0], any(lost[1:]), any(late[1:])
    if accuracy:  # ours is the better one where it is high
        return ours_lost, theirs_lost
    return theirs_lost or theirs_late, ours_lost or ours_late


def _hindrances(study: Study, at: CellKey, name: str) -> list[str]:
    """Return why nothing may be said of a side: what the audit withholds, and seeds that are not finished."""
    if study.recipe.prune.auto is not None:
        return ["levels: auto adds seeds by what it sees: bounds of a number of seeds fixed before do not hold"]
    planned = _jobs(study, at, name)
    done = {job.seed for job, _ in planned} - {job.seed for job, record in planned if record is None}
    seeds = {job.seed for job, _ in planned}
    why = [f"{name}: {len(done)} of {len(seeds)} seeds finished"] * (done != seeds)
    cell: Cell = (at[0], at[1], 0 if name == "dense" else at[2], name)
    return why + [f"{name}: {reason}" for reason in audit(study).withheld().get(cell, ())]


def _sides(claim: ClaimSpec, at: CellKey) -> list[tuple[CellKey, str]]:
    """Return the cells and columns of the table of means that a claim speaks of: one, or two that are compared."""
    sides = [(at, claim.column)]
    if claim.minus is not None:
        assert claim.minus.optimizer is not None
        sides.append(((claim.minus.optimizer, *at[1:]), claim.column))
    elif claim.against is not None:
        sides.append((at, claim.against))
    return sides


def _jobs(study: Study, at: CellKey, name: str) -> Sequence[tuple[Job, Record | None]]:
    """Return the trainings of a column at a cell; those of the dense network stand at level 0."""
    cell_key = (at[0], at[1], 0) if name == "dense" else at
    return records_by_cell(study).get(cell_key, {}).get(name, [])


def _column(cells: Cells, at: CellKey, name: str) -> Mapping[int, float]:
    return dense(cells, at) if name == "dense" else cells.get(at, {}).get(name, {})
