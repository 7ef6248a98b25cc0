"""Labels of rows: optimizers, densities, rewind points and learning rates as tables show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lottery.values import Component, told_apart

if TYPE_CHECKING:
    from lottery.analysis.rows import Values
    from lottery.recipe.schema import Recipe
    from lottery.recipe.types import RewindSpec

DENSE = "(dense)"


def optimizer_labels(optimizers: Sequence[Component]) -> list[str]:
    """Return the optimizers' names; those that share one also say in what they differ."""
    return told_apart(optimizers)


def head(recipe: Recipe, rewind: str | None, **first: Any) -> Values:
    """Return the columns that a row begins with: the first ones, and a rewind point that is one of several or found."""
    return {**first, "rewind": rewind} if len(recipe.rewind) > 1 or recipe.search is not None else first


def whose(row: Mapping[str, Any]) -> str:
    """Return the optimizer of a row, and the rewind point where it says one."""
    return ", ".join(filter(None, (row["optimizer"], row.get("rewind"))))


def density_label(density: float) -> str:
    """Return a density, a fraction, in percent: `12.5 %`."""
    return f"{100 * density:.4g} %"


def rewind_label(rewind: RewindSpec) -> str:
    """Return a rewind point, with the mode where that is not the rewinding of weights: `init`, `100it (lr)`."""
    return rewind.label


def finite(row: Mapping[str, Any]) -> Values:
    """Return the row with None for each number that is not finite."""
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
