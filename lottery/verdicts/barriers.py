"""The tests behind `connected`: error barriers of pairs of networks against a margin, in plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lottery.statistics import paired

CONFIDENCE = 0.95  # where the recipe compares nothing
ConnectedVerdict = Literal["connected", "not connected", "undecided"]


@dataclass(frozen=True)
class Barriers:
    """The barriers of the pairs of one cell of a table.

    Attributes:
        values: A barrier for each independent unit, a fraction; see `independent_means`.
        pairs: Number of pairs that they are means of, or were chosen from.
        lost: Number of pairs with a barrier that is not finite, or with a network that diverged.
    """

    values: Sequence[float]
    pairs: int
    lost: int = 0

    def shown(self) -> bool:
        """Return True if something may be shown of them."""
        return not self.lost and len(self.values) > 1


@dataclass(frozen=True)
class ConnectedDecision:
    """The verdict on one cell, with its p-values as they are and corrected for the other cells of the table."""

    verdict: ConnectedVerdict
    p_connected: float
    p_connected_adjusted: float
    p_not_connected: float
    p_not_connected_adjusted: float


def decide(cells: Sequence[Barriers], margin: float, alpha: float, least: float = 0.0) -> list[ConnectedDecision]:
    """Return the verdicts on the cells of one table.

    Connected is equivalence: two one-sided tests that the mean barrier lies above -margin and below margin. A barrier
    is the highest error on a path minus the mean of its ends, which lie on it, so it is never below 0 and the first
    test always shown; the second is the t test that rejects a mean of margin or more. Not connected is its mirror
    image. What is highest of many noisy errors is too high rather than too low: that makes connected harder to show,
    and not connected easier, by no more than the noise of an error on so many examples. Both are corrected over the
    cells by Holm's procedure. What is tested are independent units (`lottery.statistics.independent`): the seed is
    what is drawn anew, and pairs from one seed count once.

    Args:
        cells: The cells of the table.
        margin: The margin, a fraction.
        alpha: The level of each test.
        least: The least spread that is believed.
    """

    def p_of(side: Literal["less", "greater"]) -> list[float]:
        return [paired.t_pvalue(cell.values, margin, side, least) if cell.shown() else 1.0 for cell in cells]

    below, above = p_of("less"), p_of("greater")
    made = []
    for figures in zip(below, paired.holm(below), above, paired.holm(above), strict=True):
        verdict: ConnectedVerdict = "undecided"
        if figures[1] <= alpha:
            verdict = "connected"
        elif figures[3] <= alpha:
            verdict = "not connected"
        made.append(ConnectedDecision(verdict, *figures))
    return made
