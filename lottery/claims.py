"""What wins: the gain of tickets split into mask, initialization, signs, magnitudes, iteration and capacity.

Each part is the ticket against the control that lacks it, paired by seed; which control that is says the trait `claim`
of its branch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery import registry, stats
from lottery.errors import UsageError
from lottery.origins import origin_of
from lottery.pairs import accuracies, declared, densities
from lottery.study import once
from lottery.tables import (
    Place,
    Row,
    by_place,
    density_label,
    finite,
    head,
    optimizer_labels,
    paired,
    rewind_label,
)

if TYPE_CHECKING:
    from lottery.audit import Cell
    from lottery.plan import Job
    from lottery.record import Record
    from lottery.schema import BranchSpec, CompareSpec
    from lottery.study import Study

CLAIMS = ("mask", "initialization", "signs", "magnitudes", "iteration", "capacity")

Verdict = Literal["superior", "inferior", "inconclusive"]


@dataclass(frozen=True)
class Pairs:
    """What was seen at one density: ticket less control, a value a seed, as fractions.

    Of the seeds without a value, in `tickets_diverged` the ticket diverged and the control did not, in
    `controls_diverged` it is the other way round."""

    differences: Sequence[float]
    tickets_diverged: int = 0
    controls_diverged: int = 0


@dataclass(frozen=True)
class Decision:
    """The verdict on one density, and the p-values behind it, as they are and corrected for the other densities."""

    verdict: Verdict
    p: float
    p_adjusted: float
    p_inferior: float
    p_inferior_adjusted: float


def decide(cells: Sequence[Pairs], compare: CompareSpec) -> list[Decision]:
    """The verdicts on one control at several densities, given from dense to sparse.

    Superior is what the sign-flip permutation test shows to be above 0, inferior what it shows to be below. Each of the
    two is corrected over the densities, so that the chance of one false `superior` among them is 1 - confidence at
    most, and likewise that of one false `inferior`. A side that diverged where the other did not cannot be shown to be
    the better one by the seeds that are left."""
    alpha = compare.alpha
    correct = stats.holm if compare.densities == "holm" else stats.fixed_sequence
    above = [1.0 if cell.tickets_diverged else stats.sign_flip(cell.differences, "greater") for cell in cells]
    below = [1.0 if cell.controls_diverged else stats.sign_flip(cell.differences, "less") for cell in cells]
    decisions = []
    for p, adjusted, q, q_adjusted in zip(above, correct(above), below, correct(below), strict=True):
        shown: Verdict = "superior" if adjusted <= alpha else "inferior" if q_adjusted <= alpha else "inconclusive"
        decisions.append(Decision(shown, p, adjusted, q, q_adjusted))
    return decisions


def least_seeds(compare: CompareSpec, family: int) -> int:
    """Fewest seeds with which the sign-flip test can show anything at one of a `family` of densities.

    Its smallest p is 2^-n; Holm's procedure asks for 1/family of 1 - confidence first."""
    return math.ceil(round(-math.log2(_share(compare, family)), 9))


def seeds_needed(differences: Sequence[float], compare: CompareSpec, family: int) -> int | None:
    """Fewest seeds that show a difference of this mean and spread with the power of `compare`; None where there is no
    mean difference, or 100,000 would not do.

    By the power of the t test, which that of the sign-flip test comes near, at the level that so many flips can attain:
    p is a multiple of 2^-n (1/32 in place of 0.05 with 5 seeds). With Holm's procedure at the level of its first step,
    which is the worst case. One value has no spread: then those with which the test can show anything at all."""
    n, share = least_seeds(compare, family), _share(compare, family)
    if len(differences) < 2:
        return n
    spread, distance = statistics.stdev(differences), abs(statistics.fmean(differences))
    while n <= stats.EXACT:
        level = math.floor(share * 2**n * (1 + 1e-9)) / 2**n
        wanted = stats.seeds_needed(spread, distance, 1 - level, compare.power)
        if wanted is None or wanted <= n:
            return n if wanted is not None else None
        n += 1
    wanted = stats.seeds_needed(spread, distance, 1 - share, compare.power)
    return max(n, wanted) if wanted is not None else None


def claim_of(branch: str) -> str | None:
    """The part of the gain that a control of this name lacks; None where it stands for none."""
    claim = registry.branches[branch].traits.get("claim")
    return None if claim is None else str(claim)


@once
def rows(study: Study) -> list[Row]:
    """A row for each optimizer, rewind point, density and control that stands for a claim.

    `difference` is the mean of ticket less control accuracy within a seed, a fraction, with its two-sided t interval
    (`low`, `high`) and bootstrap interval (`bca_low`, `bca_high`); `p` that of the sign-flip test that the ticket is
    better, `p_inferior` that it is worse, each also adjusted over the densities of its control by `correction`.
    `verdict` is superior, inferior, inconclusive (then with the `seeds_needed`, see there), or withheld where the audit
    found something. A density whose trainings all diverged has a row too: it is a test of its family.
    Raises UsageError where the recipe has no `compare`, or no control that stands for a claim."""
    recipe, compare = study.recipe, declared(study)
    controls = sorted(
        (branch for branch in recipe.branches if _stands_for_a_claim(study, branch)),
        key=lambda branch: CLAIMS.index(str(claim_of(branch.name))),
    )
    if not controls:
        raise UsageError(f"{recipe.name}: has no control that stands for a claim; add `branches: [reinit, shuffle]`")
    found = [row for branch in controls for row in _of_control(study, branch, compare)]
    found.sort(key=lambda placed: placed[0])  # stable: claims stay in their order
    return [row for _, row in found]


def decomposition(study: Study) -> list[Row]:
    """The gain of tickets split: a row for each optimizer, rewind point and density, a column for each claim.

    Under the claim's name (`mask`, or `mask_shuffle` by its control where several stand for it) is the mean difference,
    with `_low`, `_high` and `_verdict`; `against` are the controls in the order of the columns, `n` the fewest pairs of
    any. The parts do not add up to a whole: each control lacks its part and has all others. Raises as `rows` does."""
    table = rows(study)
    names = _columns(table)
    grouped: dict[tuple[str, str, int], dict[str, Row]] = {}
    for row in table:
        here = (row["optimizer"], row.get("rewind", ""), row["level"])
        grouped.setdefault(here, {})[row["against"]] = row
    wide = []
    for parts in grouped.values():
        first = next(iter(parts.values()))
        row = {key: first[key] for key in ("optimizer", "rewind", "level", "density") if key in first}
        row |= {"n": min(part["n"] for part in parts.values()), "against": ", ".join(b for b in names if b in parts)}
        for branch, name in names.items():
            part = parts.get(branch, {})
            row |= {name: part.get("difference"), f"{name}_low": part.get("low"), f"{name}_high": part.get("high")}
            row[f"{name}_verdict"] = part.get("verdict")
        wide.append(row)
    return wide


def _columns(table: Sequence[Row]) -> dict[str, str]:
    """The name of each control's column, in the order of the claims."""
    claims = dict(sorted({row["against"]: row["claim"] for row in table}.items(), key=lambda at: CLAIMS.index(at[1])))
    several = {claim for claim in CLAIMS if list(claims.values()).count(claim) > 1}
    return {branch: f"{claim}_{branch}" if claim in several else claim for branch, claim in claims.items()}


def _stands_for_a_claim(study: Study, branch: BranchSpec) -> bool:
    """Where tickets are not pruned step by step there is no gain of iteration to be shown."""
    claim = claim_of(branch.name)
    return claim is not None and not (claim == "iteration" and study.recipe.prune.alone)


def _of_control(study: Study, branch: BranchSpec, compare: CompareSpec) -> list[tuple[tuple[int, int, int], Row]]:
    """The rows of one control, each with its optimizer, rewind point and level, to be put in order by."""
    known, withheld = densities(study), study.audit.withheld()
    families = _families(study, branch.label)
    points = list(dict.fromkeys(place[1] for place in by_place(study)))
    modes = {rewind_label(rewind): rewind.mode for rewind in study.recipe.rewind}
    found = []
    for family in families.values():
        decisions = decide(list(family.values()), compare)
        ended = _ended([known[at] for at in family], decisions, compare)
        for (place, cell), decision in zip(family.items(), decisions, strict=True):
            row = _row(study, place, branch, known[place])
            row |= _figures(cell.differences, decision, compare)
            needed = seeds_needed(cell.differences, compare, len(family))
            row |= {"seeds_needed": needed if decision.verdict == "inconclusive" else None}
            row |= {"correction": compare.densities, "verdict": decision.verdict}
            row["reason"] = _reason(cell, decision, compare, len(family), ended)
            if why := _withheld(study, withheld, place, branch.label):
                row |= {"verdict": "withheld", "seeds_needed": None, "reason": why}
            row["reason"] = _labelled(branch, modes[place[1]]) + row["reason"]
            found.append(((place[0], points.index(place[1]), place[2]), row))
    return found


def _ended(at: Sequence[float], decisions: Sequence[Decision], compare: CompareSpec) -> tuple[float | None, ...]:
    """The first density at which nothing is shown, of better tickets and of worse ones."""
    alpha = compare.alpha
    sides = [[each.p for each in decisions], [each.p_inferior for each in decisions]]
    return tuple(next((density for density, p in zip(at, side, strict=True) if p > alpha), None) for side in sides)


def _families(study: Study, label: str) -> dict[tuple[int, str], dict[Place, Pairs]]:
    """For each optimizer and rewind point the densities at which both ticket and control have been trained."""
    cells, known = accuracies(study), densities(study)
    families: dict[tuple[int, str], dict[Place, Pairs]] = {}
    for place, jobs in sorted(by_place(study).items(), key=lambda at: at[0][2]):  # by level: from dense to sparse
        sides = [jobs.get(name, []) for name in ("ticket", label)]
        if place[2] and place in known and all(any(record for _, record in side) for side in sides):
            ticket, control = cells[place]["ticket"], cells[place][label]
            lost = _diverged(sides[0]) & control.keys(), _diverged(sides[1]) & ticket.keys()
            pairs = Pairs(list(paired(ticket, control).values()), len(lost[0]), len(lost[1]))
            families.setdefault((place[0], place[1]), {})[place] = pairs
    return families


def _diverged(column: Sequence[tuple[Job, Record | None]]) -> set[int]:
    return {job.seed for job, record in column if record is not None and record.diverged is not None}


def _row(study: Study, place: Place, branch: BranchSpec, density: float) -> Row:
    row = head(study.recipe, place[1], optimizer=optimizer_labels(study.recipe.train.optimizer)[place[0]])
    return row | {"level": place[2], "density": density, "claim": claim_of(branch.name), "against": branch.label}


def _figures(differences: Sequence[float], decision: Decision, compare: CompareSpec) -> Row:
    row = {**stats.summary(differences, compare.confidence), "p": decision.p, "p_adjusted": decision.p_adjusted}
    row |= {"p_inferior": decision.p_inferior, "p_inferior_adjusted": decision.p_inferior_adjusted}
    return finite(row)


def _reason(cell: Pairs, decision: Decision, compare: CompareSpec, family: int, ended: Sequence[float | None]) -> str:
    """`ended` is where the sequence of tests ends that the ticket is better, and that it is worse."""
    n, percent, alpha = len(cell.differences), f"{100 * compare.confidence:g} %", compare.alpha
    if decision.verdict == "superior":
        return f"the ticket is shown to be better, one-sided {percent}"
    if decision.verdict == "inferior":
        return f"the ticket is shown to be worse, one-sided {percent}"
    lost = [f"{cell.tickets_diverged} tickets diverged whose controls did not"] * bool(cell.tickets_diverged)
    lost += [f"{cell.controls_diverged} controls diverged whose tickets did not"] * bool(cell.controls_diverged)
    wanted = seeds_needed(cell.differences, compare, family)
    more = [f"the spread seen calls for {wanted} seeds"] * (n > 1 and wanted is not None and wanted > n)
    if not n:
        why = "no seed has both ticket and control"
    elif n < (least := least_seeds(compare, family)):
        why = f"{n} seeds cannot show it: p of the sign-flip test is 1/{2**n} at least; it takes {least} seeds or more"
    elif min(decision.p, decision.p_inferior) <= alpha:
        word, stop = ("better", ended[0]) if decision.p <= alpha else ("worse", ended[1])
        why = f"the ticket is shown to be {word} by itself, but not after the correction over densities"
        if compare.densities == "fixed_sequence" and stop is not None:
            why, more = f"{why}: the sequence from dense to sparse ended at {density_label(stop)}", []
    else:
        why = f"{n} seeds do not show which of the two is better"
    return "; ".join([why, *lost, *more])


def _withheld(study: Study, withheld: dict[Cell, list[str]], place: Place, label: str) -> str:
    """Why no verdict is given; empty where one is."""
    if study.recipe.prune.auto is not None:
        return "levels: auto adds seeds by what it sees: tests of a number of seeds fixed before do not hold"
    reasons = [f"{column}: {why}" for column in ("ticket", label) for why in withheld.get((*place, column), ())]
    return "; ".join(reasons)


def _labelled(branch: BranchSpec, mode: str) -> str:
    """What to know of a control that differs in more than its claim."""
    if branch.trunk == "own":
        return "the control has a trunk of its own, masks differ too: "
    control, ticket = origin_of(branch.component, mode), origin_of(None, mode)
    if ticket.goes_on and not control.goes_on:
        return f"the ticket goes on from trained weights, the control does not ({control.weights}): "
    if claim_of(branch.name) == "mask" and not control.goes_on and control.weights != ticket.weights:
        return "sparse training from scratch, mask and weights differ: "
    return ""


def _share(compare: CompareSpec, family: int) -> float:
    """The level at which the first of a family of densities is tested."""
    return compare.alpha / (family if compare.densities == "holm" else 1)
