"""The tests behind verdicts: tickets against dense networks at several densities, in plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery.statistics import paired

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec

# and withheld, where the audit found something
MatchingVerdict = Literal["winning", "matching", "losing", "inconclusive"]
Correction = Callable[[Sequence[float]], list[float]]  # p-values in the order of testing -> adjusted ones

CORRECTIONS: dict[str, Correction] = {
    "fixed_sequence": paired.fixed_sequence,
    "holm": paired.holm,
    "fallback": paired.fallback,
}


@dataclass(frozen=True)
class DenseDifferences:
    """Differences of accuracy to the dense network at one density.

    Attributes:
        differences: The differences, one per seed, as fractions.
        diverged: Number of tickets that diverged though their dense network did not.
        early: For each seed the early-stop steps of ticket and dense network, and a bool for each that is True if it is
            censored; None without a validation split.
    """

    differences: Sequence[float]
    diverged: int = 0
    early: Sequence[tuple[float, float, bool, bool]] | None = None


@dataclass(frozen=True)
class MatchingDecision:
    """The verdict on one density, with the p-values behind it, as they are and corrected for the other densities.

    Attributes:
        verdict: The verdict.
        better: True if the ticket is shown to be better than the dense network.
        equivalent: True if the ticket is shown to be neither worse nor better than the dense network by the margin.
    """

    verdict: MatchingVerdict
    better: bool
    equivalent: bool
    p_matching: float
    p_matching_adjusted: float
    p_losing: float
    p_losing_adjusted: float
    p_better: float
    p_better_adjusted: float
    p_equivalent: float
    p_equivalent_adjusted: float
    p_earlier: float | None
    p_winning_adjusted: float | None


def decide(
    cells: Sequence[DenseDifferences], compare: CompareSpec, *, may_win: bool, floor: float = 0.0
) -> list[MatchingDecision]:
    """Return the verdicts on densities given from dense to sparse; `floor` is the least spread that is believed.

    Matching is non-inferiority: the paired t test rejects a mean difference of -margin or less. Losing is its mirror
    image. Each of the two is corrected over the densities, by the fixed sequence or the fallback procedure (matching
    from dense to sparse, losing from sparse to dense) or Holm's procedure, so that the chance of one false claim among
    them is 1 - confidence at most.

    Equivalent is matching whose mirror image at +margin is shown too (two one-sided tests), corrected as matching is by
    the larger p. Better is the same test at 0, corrected by Holm's procedure, for a gain comes at any density, and only
    of densities that match: at one density superiority implies non-inferiority, so the two need no correction for each
    other there. Winning is matching and stopping early no later than the dense network; both must be shown
    (intersection-union), corrected by Holm's procedure. At a density with a diverged ticket nothing is shown.
    """
    margin, alpha, correct = compare.margin / 100, compare.alpha, CORRECTIONS[compare.densities]

    def p_values(null: float, side: Literal["greater", "less"]) -> list[float]:
        return [1.0 if cell.diverged else paired.t_pvalue(cell.differences, null, side, floor) for cell in cells]

    matching, losing, better = p_values(-margin, "greater"), p_values(-margin, "less"), p_values(0.0, "greater")
    equivalent = [max(pair) for pair in zip(matching, p_values(margin, "less"), strict=True)]
    matched = correct(matching)
    lost, same = correct(losing[::-1])[::-1], correct(equivalent)
    gained = [max(pair) for pair in zip(paired.holm(better), matched, strict=True)]
    sooner = [_p_earlier(cell, compare.later) if may_win else None for cell in cells]
    both = paired.holm([max(p, 1.0 if q is None else q) for p, q in zip(matching, sooner, strict=True)])
    decisions = []
    for at in range(len(cells)):
        won = None if sooner[at] is None else max(both[at], matched[at])
        verdict: MatchingVerdict = "inconclusive"
        if matched[at] <= alpha:
            verdict = "winning" if won is not None and won <= alpha else "matching"
        elif lost[at] <= alpha:
            verdict = "losing"
        shown = gained[at] <= alpha, same[at] <= alpha
        plain = matching[at], matched[at], losing[at], lost[at], better[at], gained[at], equivalent[at], same[at]
        decisions.append(MatchingDecision(verdict, *shown, *plain, sooner[at], won))
    return decisions


def sequence_end(decision: MatchingDecision, decisions: Sequence[MatchingDecision], compare: CompareSpec) -> int | None:
    """Return the index of the density that ended a fixed sequence, if that alone keeps `decision` from being shown.

    None elsewhere, and with the other corrections, which end nowhere.
    """
    if not only_corrected(decision, compare) or compare.densities != "fixed_sequence":
        return None
    if decision.p_matching <= compare.alpha:
        return next(at for at, each in enumerate(decisions) if each.p_matching > compare.alpha)
    return max(at for at, each in enumerate(decisions) if each.p_losing > compare.alpha)


def only_corrected(decision: MatchingDecision, compare: CompareSpec) -> bool:
    """Return True if a density is shown by itself, and not after the correction over densities."""
    return decision.verdict == "inconclusive" and min(decision.p_matching, decision.p_losing) <= compare.alpha


def _p_earlier(cell: DenseDifferences, later: float) -> float | None:
    if cell.early is None:
        return None
    if not cell.early:
        return 1.0
    ticket, dense_steps, ticket_censored, dense_censored = zip(*cell.early, strict=True)
    return paired.earlier(ticket, dense_steps, ticket_censored, dense_censored, later=later)
