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
from lottery.facts import weights_of
from lottery.identity import with_versions
from lottery.pairs import Place, accuracies, densities, paired
from lottery.tables import Row, optimizer_labels

if TYPE_CHECKING:
    from lottery.audit import Cell
    from lottery.schema import BranchSpec, CompareSpec
    from lottery.study import Study

CLAIMS = ("mask", "initialization", "signs", "magnitudes", "iteration", "capacity")

Verdict = Literal["superior", "inferior", "inconclusive"]


@dataclass(frozen=True)
class Decision:
    """The verdict on one density, and the p-values behind it, as they are and corrected for the other densities."""

    verdict: Verdict
    p: float
    p_adjusted: float
    p_inferior: float
    p_inferior_adjusted: float


def decide(differences: Sequence[Sequence[float]], compare: CompareSpec) -> list[Decision]:
    """The verdicts on one claim at several densities, in the order of the fixed sequence.

    `differences` has for each density ticket less control, a value a seed. Superior is what the sign-flip permutation
    test shows to be above 0, inferior what it shows to be below. Each of the two is corrected over the densities, so
    that the chance of a false one among them is 1 - confidence at most."""
    alpha = _alpha(compare)
    correct = stats.holm if compare.densities == "holm" else stats.fixed_sequence
    above = [stats.sign_flip(values, "greater") for values in differences]
    below = [stats.sign_flip(values, "less") for values in differences]
    decisions = []
    for p, adjusted, q, q_adjusted in zip(above, correct(above), below, correct(below), strict=True):
        shown: Verdict = "superior" if adjusted <= alpha else "inferior" if q_adjusted <= alpha else "inconclusive"
        decisions.append(Decision(shown, p, adjusted, q, q_adjusted))
    return decisions


def least_seeds(compare: CompareSpec, family: int) -> int:
    """Fewest seeds with which the sign-flip test can show anything at one of a `family` of densities.

    Its smallest p is 2^-n; Holm's procedure asks for 1/family of 1 - confidence first."""
    share = _alpha(compare) / (family if compare.densities == "holm" else 1)
    return math.ceil(round(-math.log2(share), 9))


def claim_of(branch: str) -> str | None:
    """The part of the gain that a control of this name lacks; None where it stands for none."""
    claim = registry.branches[branch].traits.get("claim")
    return None if claim is None else str(claim)


def rows(study: Study) -> list[Row]:
    """A row for each optimizer, rewind point, density and control that stands for a claim.

    `difference` is the mean of ticket less control accuracy within a seed, a fraction, with its two-sided t interval
    (`low`, `high`) and bootstrap interval (`bca_low`, `bca_high`); `p` that of the sign-flip test that the ticket is
    better, `p_inferior` that it is worse, each also adjusted over the densities of its control. `verdict` is superior,
    inferior, inconclusive, or withheld where the audit found something.
    Raises UsageError where the recipe has no `compare`, or no control that stands for a claim."""
    recipe, compare = study.recipe, study.recipe.compare
    if compare is None:
        raise UsageError(f"{recipe.name}: declares no margin; add `compare: {{margin: 0.2}}`, in percentage points")
    controls = sorted(
        (branch for branch in recipe.branches if claim_of(branch.name)),
        key=lambda branch: CLAIMS.index(str(claim_of(branch.name))),
    )
    if not controls:
        raise UsageError(f"{recipe.name}: has no control that stands for a claim; add `branches: [reinit, shuffle]`")
    found = [row for branch in controls for row in _of_control(study, branch, compare)]
    found.sort(key=lambda placed: placed[0])  # stable: claims stay in their order
    return [row for _, row in found]


def _of_control(study: Study, branch: BranchSpec, compare: CompareSpec) -> list[tuple[tuple[int, int, int], Row]]:
    """The rows of one control, each with its optimizer, rewind point and level, to be put in order by."""
    cells, known, withheld = accuracies(study), densities(study), study.audit.withheld()
    values: dict[tuple[int, str], dict[Place, list[float]]] = {}
    points = list(dict.fromkeys(place[1] for place in cells))
    for place in sorted(cells, key=lambda at: at[2]):  # levels, that is, from dense to sparse
        named = cells[place]
        if place[2] and named.get("ticket") and named.get(branch.label):
            pairs = paired(named["ticket"], named[branch.label])
            values.setdefault((place[0], place[1]), {})[place] = list(pairs.values())
    found = []
    for family in values.values():
        needed = least_seeds(compare, len(family))
        for (place, differences), decision in zip(family.items(), decide(list(family.values()), compare), strict=True):
            row = _row(study, place, branch, known[place])
            row |= _figures(differences, decision, compare)
            row["verdict"], row["reason"] = decision.verdict, _reason(differences, decision, compare, needed)
            if why := _withheld(study, withheld, place, branch.label):
                row["verdict"], row["reason"] = "withheld", why
            row["reason"] = _labelled(branch) + row["reason"]
            found.append(((place[0], points.index(place[1]), place[2]), row))
    return found


def _row(study: Study, place: Place, branch: BranchSpec, density: float) -> Row:
    row: Row = {"optimizer": optimizer_labels(study.recipe.train.optimizer)[place[0]]}
    row |= {"rewind": place[1]} if len(study.recipe.rewind) > 1 else {}
    return row | {"level": place[2], "density": density, "claim": claim_of(branch.name), "against": branch.label}


def _figures(differences: Sequence[float], decision: Decision, compare: CompareSpec) -> Row:
    interval, bootstrap = (method(differences, compare.confidence) for method in (stats.t_interval, stats.bca_interval))
    row: Row = {"n": len(differences), "difference": interval.estimate, "low": interval.low, "high": interval.high}
    row |= {"bca_low": bootstrap.low, "bca_high": bootstrap.high, "p": decision.p, "p_adjusted": decision.p_adjusted}
    row |= {"p_inferior": decision.p_inferior, "p_inferior_adjusted": decision.p_inferior_adjusted}
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def _reason(differences: Sequence[float], decision: Decision, compare: CompareSpec, needed: int) -> str:
    n, percent = len(differences), f"{100 * compare.confidence:g} %"
    if decision.verdict == "superior":
        return f"the ticket is shown to be better, one-sided {percent}"
    if decision.verdict == "inferior":
        return f"the ticket is shown to be worse, one-sided {percent}"
    if n < needed:
        return f"{n} seeds cannot show it: p of the sign-flip test is 1/{2**n} at least; {needed} seeds could"
    if min(decision.p, decision.p_inferior) <= _alpha(compare):
        return f"shown by itself, but not after the correction over densities ({compare.densities})"
    wanted = None
    if n > 1:
        distance = abs(statistics.fmean(differences))
        wanted = stats.seeds_needed(statistics.stdev(differences), distance, compare.confidence, compare.power)
    more = f"; the spread seen calls for {wanted} seeds" if wanted is not None and wanted > n else ""
    return f"{n} seeds do not show which of the two is better{more}"


def _withheld(study: Study, withheld: dict[Cell, list[str]], place: Place, label: str) -> str:
    """Why no verdict is given; empty where one is."""
    if study.recipe.prune.auto is not None:
        return "levels: auto adds seeds by what it sees: tests of a number of seeds fixed before do not hold"
    reasons = [f"{column}: {why}" for column in ("ticket", label) for why in withheld.get((*place, column), ())]
    return "; ".join(reasons)


def _labelled(branch: BranchSpec) -> str:
    """What to know of a control that differs in more than its claim."""
    if claim_of(branch.name) != "mask" or weights_of(with_versions("branch", branch.component)) == "rewound":
        return ""
    return "sparse training from scratch, mask and weights differ: "


def _alpha(compare: CompareSpec) -> float:
    return round(1 - compare.confidence, 12)
