"""Claims on what wins: the gain of tickets split into mask, initialization, signs, magnitudes, iteration and capacity.

Each part is the ticket against the control that lacks it, paired by seed; which control that is says the trait `claim`
of its branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, get_args

from lottery import registry
from lottery.analysis import columns
from lottery.analysis.cells import (
    CellKey,
    accuracies,
    declared,
    densities,
    differences_by_seed,
    diverged,
    floor,
    records_by_cell,
)
from lottery.analysis.columns import DENSITY, LEVEL_OF_DENSITY, SEEDS, SEEDS_NEEDED, estimate, p_values
from lottery.analysis.labels import density_label, finite, head, optimizer_labels, rewind_label
from lottery.analysis.rows import Row, Values, in_plan_order, keys_of
from lottery.audit.audit import audit
from lottery.errors import UsageError
from lottery.plan.origins import origin_of
from lottery.recipe.families import only_by_families, stands_for_a_claim
from lottery.results.study import once
from lottery.statistics import paired
from lottery.traits import Claim
from lottery.verdicts.other_readings import with_other_readings
from lottery.verdicts.superiority import ControlDecision, Pairs, decide, seeds_needed, sequence_end, why_nothing
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.audit.findings import Cell
    from lottery.recipe.schema import BranchSpec, CompareSpec
    from lottery.results.study import Study

CLAIMS: tuple[Claim, ...] = get_args(Claim)


def claim_of(branch: str) -> Claim | None:
    """Return the part of the gain that a control of this name lacks; None where it stands for none."""
    return registry.branches[branch].traits.claim


@once
def rows(study: Study) -> list[Row]:
    """Return a row for each optimizer, rewind point, density and control that stands for a claim.

    `difference` is the mean of ticket less control accuracy within a seed, a fraction, with its two-sided t interval
    (`low`, `high`) and bootstrap interval (`bca_low`, `bca_high`); `p` that of the sign-flip test that the ticket is
    better, `p_inferior` that it is worse, each also adjusted over the densities of its control by `correction`.
    `verdict` is superior, inferior, inconclusive (then with the `seeds_needed`, see there), or withheld where the audit
    found something. A density whose trainings all diverged has a row too: it is a test of its family. The values at the
    other readings stand beside it, see `lottery.verdicts.other_readings`.

    Raises:
        UsageError: The recipe has no `compare`, or no control that stands for a claim.
    """
    return with_other_readings(study, _at_report(study), partial(_at_report, plans=False))


def _at_report(study: Study, plans: bool = True) -> list[Row]:
    """Return the rows at the recipe's reading.

    With `plans` it is simulated how many seeds would show a difference, and bootstrap intervals are drawn.
    """
    recipe, compare = study.recipe, declared(study)
    controls = sorted(
        (branch for branch in recipe.branches if stands_for_a_claim(recipe, branch.name)),
        key=lambda branch: CLAIMS.index(str(claim_of(branch.name))),
    )
    if not controls:
        raise UsageError(f"{recipe.name}: has no control that stands for a claim; add `branches: [reinit, shuffle]`")
    found = [row for branch in controls for row in _of_control(study, branch, compare, plans)]
    found.sort(key=lambda placed: placed[0])  # stable: claims stay in their order
    return [row for _, row in found]


def decomposition(study: Study) -> list[Row]:
    """Return the gain of tickets split: a row for each optimizer, rewind point and density, a column for each claim.

    Under the claim's name (`mask`, or `mask_shuffle` by its control where several stand for it) is the mean difference,
    with `_low`, `_high` and `_verdict`; `against` are the controls in the order of the columns, `n` the fewest pairs of
    any. The parts do not add up to a whole: each control lacks its part and has all others. Raises as `rows` does.
    """
    table, confidence = rows(study), declared(study).confidence
    names = _columns(table)
    grouped: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in table:
        here = (row["optimizer"], row.get("rewind", ""), row["level"])
        grouped.setdefault(here, {})[row["against"]] = row
    wide = []
    for parts in grouped.values():
        first = next(iter(parts.values()))
        values = {name: first[name] for name in first if name in ("optimizer", "rewind", "level", "density")}
        values |= {
            SEEDS: min(part["n"] for part in parts.values()),
            "against": ", ".join(b for b in names if b in parts),
        }
        for branch, name in names.items():
            part: Values = parts.get(branch) or {}
            figures = (part.get(figure) for figure in ("difference", "low", "high", "verdict"))
            values |= zip(estimate(name, confidence), figures, strict=True)
        wide.append(Row(values, in_plan_order(study, (key for part in parts.values() for key in part.made_from))))
    return wide


def _columns(table: Sequence[Row]) -> dict[str, str]:
    """Return the name of each control's column, in the order of the claims."""
    claims = dict(sorted({row["against"]: row["claim"] for row in table}.items(), key=lambda at: CLAIMS.index(at[1])))
    several = {claim for claim in CLAIMS if list(claims.values()).count(claim) > 1}
    return {branch: f"{claim}_{branch}" if claim in several else claim for branch, claim in claims.items()}


def _of_control(
    study: Study, branch: BranchSpec, compare: CompareSpec, plans: bool
) -> list[tuple[tuple[int, int, int], Row]]:
    """Return the rows of one control, each with its optimizer, rewind point and level, to be put in order by."""
    known, withheld = densities(study), audit(study).withheld()
    families = _families(study, branch.label)
    points = list(dict.fromkeys(cell_key[1] for cell_key in records_by_cell(study)))
    modes = {rewind_label(rewind): rewind.mode for rewind in study.recipe.rewind}
    found = []
    for family in families.values():
        cells = list(family.values())
        decisions = decide(cells, compare)
        wanted = seeds_needed(cells, compare) if plans else [None] * len(cells)
        for cell_key, cell, decision, needed in zip(family, cells, decisions, wanted, strict=True):
            row = _row(study, cell_key, branch, known[cell_key])
            row |= _figures(cell.values, decision, compare, floor(study), plans)
            stop = _sequence_end(decision, cells, compare)
            needed = needed if decision.verdict == "inconclusive" and stop is None else None
            row |= {SEEDS_NEEDED: needed, "correction": _correction(compare), "verdict": decision.verdict}
            at = None if stop is None else known[list(family)[stop]]
            row["reason"] = _reason(cell, decision, compare, len(family), needed, at)
            if decision.verdict == "inconclusive":
                row["reason"] += only_by_families(study.recipe, min(decision.p, decision.p_inferior))
            if why := _withheld(study, withheld, cell_key, branch.label):
                row |= {"verdict": "withheld", "seeds_needed": None, "reason": why}
            row["reason"] = _labelled(branch, modes[cell_key[1]]) + row["reason"]
            sides = (records_by_cell(study)[cell_key][name] for name in ("ticket", branch.label))
            compared = keys_of(study, (record for side in sides for _, record in side))
            found.append(((cell_key[0], points.index(cell_key[1]), cell_key[2]), Row(row, compared)))
    return found


def _sequence_end(decision: ControlDecision, cells: Sequence[Pairs], compare: CompareSpec) -> int | None:
    """Return where the fixed sequence ended, if that is all that keeps a density from being shown."""
    if decision.verdict != "inconclusive" or min(decision.p, decision.p_inferior) > compare.alpha:
        return None
    return sequence_end(cells, compare, 1 if decision.p <= compare.alpha else -1)


def _correction(compare: CompareSpec) -> str:
    order = f", {compare.order or 'dense_to_sparse'}" if compare.controls == "fixed_sequence" else ""
    return compare.controls + order


def _families(study: Study, label: str) -> dict[tuple[int, str], dict[CellKey, Pairs]]:
    """Return the densities at which both ticket and control have been trained, by optimizer and rewind point."""
    cells, known = accuracies(study), densities(study)
    families: dict[tuple[int, str], dict[CellKey, Pairs]] = {}
    for cell_key, jobs in sorted(
        records_by_cell(study).items(), key=lambda at: at[0][2]
    ):  # by level: from dense to sparse
        sides = [jobs.get(name, []) for name in ("ticket", label)]
        if cell_key[2] and cell_key in known and all(any(record for _, record in side) for side in sides):
            ticket, control = cells[cell_key]["ticket"], cells[cell_key][label]
            gone = [diverged(record for _, record in side) for side in sides]
            lost = gone[0] & control.keys(), gone[1] & ticket.keys()
            pairs = Pairs(differences_by_seed(ticket, control), len(lost[0]), len(lost[1]))
            families.setdefault((cell_key[0], cell_key[1]), {})[cell_key] = pairs
    return families


def _row(study: Study, cell_key: CellKey, branch: BranchSpec, density: float) -> Values:
    row = head(study.recipe, cell_key[1], optimizer=optimizer_labels(study.recipe.train.optimizer)[cell_key[0]])
    return row | {
        LEVEL_OF_DENSITY: cell_key[2],
        DENSITY: density,
        "claim": claim_of(branch.name),
        "against": branch.label,
    }


def _figures(
    differences: Sequence[float], decision: ControlDecision, compare: CompareSpec, least: float, bootstrap: bool
) -> Values:
    confidence = compare.confidence
    row = columns.comparison(paired.summary(differences, confidence, least, bootstrap=bootstrap), confidence)
    for column in (*p_values("p", confidence), *p_values("p_inferior", confidence, "inferior")):
        row[column] = getattr(decision, column)
    return finite(row)


def _reason(
    cell: Pairs, decision: ControlDecision, compare: CompareSpec, family: int, needed: int | None, stop: float | None
) -> str:
    """Return the verdict in a sentence; `stop` is the density that ended the sequence, where only that hinders it."""
    n, percent, alpha = len(cell.differences), f"{100 * compare.confidence:g} %", compare.alpha
    if decision.verdict == "superior":
        return f"the ticket is shown to be better, one-sided {percent}"
    if decision.verdict == "inferior":
        return f"the ticket is shown to be worse, one-sided {percent}"
    diverged = counted(cell.tickets_diverged, "ticket"), counted(cell.controls_diverged, "control")
    lost = [f"{diverged[0]} diverged whose controls did not"] * bool(cell.tickets_diverged)
    lost += [f"{diverged[1]} diverged whose tickets did not"] * bool(cell.controls_diverged)
    more = [f"the spread seen calls for {needed} seeds"] * (n > 1 and needed is not None and needed > n)
    if not n:
        why = "no seed has both ticket and control"
    elif nothing := why_nothing(compare, family, n):
        why = nothing
    elif min(decision.p, decision.p_inferior) <= alpha:
        word = "better" if decision.p <= alpha else "worse"
        why = f"the ticket is shown to be {word} by itself, but not after the correction over densities"
        if stop is not None:
            order = (compare.order or "dense_to_sparse").replace("_", " ")
            why += f": the sequence from {order} ended at {density_label(stop)}"
    else:
        why = f"{n} seeds do not show which of the two is better"
    return "; ".join([why, *lost, *more])


def _withheld(study: Study, withheld: dict[Cell, list[str]], cell_key: CellKey, label: str) -> str:
    """Return in words why no verdict is given; empty where one is."""
    if study.recipe.prune.auto is not None:
        return "levels: auto adds seeds by what it sees: tests of a number of seeds fixed before do not hold"
    reasons = [f"{column}: {why}" for column in ("ticket", label) for why in withheld.get((*cell_key, column), ())]
    return "; ".join(reasons)


def _labelled(branch: BranchSpec, mode: str) -> str:
    """Return in words how a control differs from its ticket in more than its claim; empty where it does not."""
    if branch.trunk == "own":
        return "the control has a trunk of its own, masks differ too: "
    control, ticket = origin_of(branch.component, mode), origin_of(None, mode)
    if ticket.goes_on and not control.goes_on:
        return f"the ticket goes on from trained weights, the control does not ({control.weights}): "
    if claim_of(branch.name) == "mask" and not control.goes_on and control.weights != ticket.weights:
        return "sparse training from scratch, mask and weights differ: "
    return ""
