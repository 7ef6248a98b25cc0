"""Claims of a swept recipe: each about the studies of the points that it selects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.recipe.claim_rules import selected
from lottery.values import in_flow
from lottery.verdicts import replication
from lottery.verdicts.replication import About

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.recipe.claims import ClaimSpec
    from lottery.results.sweep import SweptStudy


MOST_EQUAL = 3  # items of a list that are told one by one


def rows(swept: SweptStudy) -> list[Row]:
    """Return the rows of a recipe's claims, see `lottery.verdicts.replication.rows`; of a sweep, with its points.

    Raises:
        UsageError: The recipe replicates nothing.
    """
    sweep = swept.sweep
    if not sweep.keys:
        return replication.rows(swept.studies[0])
    if sweep.replicates is None:
        raise UsageError(f"{sweep.name}: replicates nothing of the literature; its recipe has no `replicates`")
    studies = {point.label: study for point, study in swept}

    def about(claim: ClaimSpec) -> About:
        sides = selected(claim, sweep.where)
        left, right = ([studies[point.label] for point in side] for side in sides)
        values = tuple([point.values.get(str(claim.over)) for point in side] for side in sides)
        words = {"left": _words(claim.left), "right": _words(claim.right)}
        return About(left, right, (values[0], values[1]), words)

    return replication.rows_of_points(sweep.replicates, about)


def _words(selector: Mapping[str, Any] | None) -> str:
    """Return values of keys in words; many equal items of a list are told once, `[64 (20 times)]`."""
    return ", ".join(f"{key}={in_flow(_folded(value))}" for key, value in (selector or {}).items())


def _folded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _folded(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > MOST_EQUAL and all(item == value[0] for item in value):
        return [f"{in_flow(value[0])} ({len(value)} times)"]
    return value
