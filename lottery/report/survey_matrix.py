"""Tickets of several optimizers trained again by one another: the claims about it as a matrix, finds by trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.labels import density_label
from lottery.formats.numbers import minus
from lottery.report.survey_claims import SHAPES
from lottery.verdicts.claims_in_words import claimed, effect

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.report.survey_claims import Claim

_OWN = "ticket"


@dataclass(frozen=True)
class Matrix:
    """Differences of accuracy of tickets, by the optimizer that finds them and, along a row, the one that trains them.

    Attributes:
        against: `ticket` or `dense` of the optimizer that trains, which is taken off.
        place: Density, and rewind point, of the tickets in words.
        limits: What is claimed of each, in words.
        optimizers: The labels, in the order of the recipe.
        found: The rows of claims by finder and trainer; on the diagonal those of the optimizer's own ticket.
    """

    against: str
    place: str
    limits: str
    optimizers: Sequence[str]
    found: Mapping[tuple[str, str], Row]

    @property
    def caption(self) -> str:
        """What the numbers are."""
        taken_off = "own ticket" if self.against == _OWN else "dense network"
        return (
            f"Tickets at {self.place} found with the optimizer of the row: accuracy when trained with that of the "
            f"column, less that of its {taken_off}, in points; claimed {self.limits}. ● holds, ▼ fails, ○ undecided."
        )

    @property
    def headers(self) -> list[str]:
        """The header of each column."""
        return ["found with", *self.optimizers]

    @property
    def cells(self) -> list[list[str]]:
        """A row of words for each finder: its name, then each difference with a mark for the verdict."""
        return [[finder, *(self._cell(finder, trainer) for trainer in self.optimizers)] for finder in self.optimizers]

    def bounds(self, finder: str, trainer: str) -> str:
        """Return the effect of a cell with its bounds; empty where there is none."""
        row = self.found.get((finder, trainer))
        return effect(row) if row is not None else ""

    def verdict(self, finder: str, trainer: str) -> str:
        """Return the verdict on a cell; empty where nothing was trained."""
        row = self.found.get((finder, trainer))
        return str(row["here"]) if row is not None and row["estimate"] is not None else ""

    def _cell(self, finder: str, trainer: str) -> str:
        row = self.found.get((finder, trainer))
        if row is None:
            return "own" if finder == trainer and self.against == _OWN else "–"
        return f"{minus(format(row['estimate'], '+.2f'))} {SHAPES[row['here']]}" if row["estimate"] is not None else "–"


def matrices(claims: Sequence[Claim], optimizers: Sequence[str]) -> list[Matrix]:
    """Return a matrix for each reference, rewind point and density that a recipe has claims about several trainers of.

    Args:
        claims: The claims.
        optimizers: The labels of the recipe's optimizers, in their order.
    """
    grouped: dict[tuple[str, str, float, str], dict[tuple[str, str], Row]] = {}
    for claim in claims:
        if claim.spec.retrained_with is not None:
            trainer = optimizers[claim.spec.retrained_with]
            for row in claim.rows:
                key = (str(claim.spec.against), row["rewind"], row["density"], claimed(claim.spec))
                grouped.setdefault(key, {})[row["optimizer"], trainer] = row
    rewinds = {rewind for _, rewind, _, _ in grouped}
    return [
        Matrix(
            against,
            density_label(density) + (f", rewound to {rewind}" if len(rewinds) > 1 else ""),
            limits,
            [*optimizers],
            (_diagonal(claims, rewind, density, limits) if against != _OWN else {}) | found,
        )
        for (against, rewind, density, limits), found in grouped.items()
        if len({trainer for _, trainer in found}) > 1 and any(row["estimate"] is not None for row in found.values())
    ]


def _diagonal(claims: Sequence[Claim], rewind: str, density: float, limits: str) -> dict[tuple[str, str], Row]:
    """Return the rows of claims about an optimizer's own tickets against its dense network, by that optimizer twice."""
    return {
        (row["optimizer"], row["optimizer"]): row
        for claim in claims
        if (claim.spec.column, claim.spec.against, claim.spec.measure) == (_OWN, "dense", "accuracy")
        and (claim.spec.retrained_with, claim.spec.analysis, claim.spec.minus, claim.spec.left) == (None,) * 4
        and claimed(claim.spec) == limits
        for row in claim.rows
        if (row["rewind"], row["density"]) == (rewind, density)
    }
