"""The tests of transferred tickets against one side, in plain numbers, corrected over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery.statistics import paired

if TYPE_CHECKING:
    from lottery.recipe.schema import CompareSpec

TransferVerdict = Literal["matching", "losing", "inconclusive"]


@dataclass(frozen=True)
class TransferDifferences:
    """Differences of a transferred ticket's accuracy less the other side's.

    Attributes:
        differences: The differences, one per seed, as fractions.
        ours_diverged: Number of seeds where only the transferred ticket diverged.
        theirs_diverged: Number of seeds where only the other side diverged.
    """

    differences: Sequence[float]
    ours_diverged: int = 0
    theirs_diverged: int = 0


@dataclass(frozen=True)
class TransferDecision:
    """The verdict on one transferred ticket; None where no margin is declared.

    `p` are the p-values by the name of the test, as they are and adjusted for the other transferred tickets: `p` that
    there is no difference, and with a margin `p_matching` and `p_losing`.
    """

    verdict: TransferVerdict | None
    p: dict[str, tuple[float, float]]


def decide(
    cells: Sequence[TransferDifferences], compare: CompareSpec | None, floor: float = 0.0
) -> list[TransferDecision]:
    """Return the decisions on all transferred tickets that are compared with the same side, by Holm's procedure.

    The two-sided paired t test says whether there is a difference, the one-sided ones of verdicts on which side of the
    margin it lies. A side that diverged where the other did not is not shown to be the better one, nor different.
    `floor` is the least spread that is believed.
    """

    def tested(lost: Sequence[int], null: float, alternative: paired.Alternative) -> list[tuple[float, float]]:
        p = [
            1.0 if gone else paired.t_pvalue(cell.differences, null, alternative, floor)
            for cell, gone in zip(cells, lost, strict=True)
        ]
        return list(zip(p, paired.holm(p), strict=True))

    ours, theirs = [cell.ours_diverged for cell in cells], [cell.theirs_diverged for cell in cells]
    found = {"p": tested([sum(both) for both in zip(ours, theirs, strict=True)], 0.0, "two-sided")}
    if compare is not None:
        margin = compare.margin / 100
        found["p_matching"] = tested(ours, -margin, "greater")
        found["p_losing"] = tested(theirs, -margin, "less")
    decisions = []
    for number in range(len(cells)):
        p = {name: values[number] for name, values in found.items()}
        decisions.append(TransferDecision(None if compare is None else _verdict(p, compare), p))
    return decisions


def _verdict(p: dict[str, tuple[float, float]], compare: CompareSpec) -> TransferVerdict:
    if p["p_matching"][1] <= compare.alpha:
        return "matching"
    return "losing" if p["p_losing"][1] <= compare.alpha else "inconclusive"
