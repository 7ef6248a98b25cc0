"""The columns of a table that terminals and reports leave out, and CSV, JSON and Parquet have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lottery.recipe.readings import READINGS

if TYPE_CHECKING:
    from lottery.analysis.labels import Row

DECIDED_BY = {  # the p-values of a word that is said of rows in the column `verdict` or `also`
    "losing": ("p_losing",),
    "better": ("p_better",),
    "equivalent": ("p_equivalent",),
    "winning": ("p_winning", "p_earlier"),
    "inferior": ("p_inferior",),
}


def for_programs_only(table: Sequence[Row]) -> set[str]:
    """Return the names of the columns that no table for people has.

    These are p-values before their correction, where the corrected ones stand beside them; p-values of a word that no
    row says; and what `reason` says in words: the verdicts at the other steps that could be read where they are others,
    and the seeds that are needed.
    """
    names = {name for row in table for name in row}
    left_out = {name for name in names if f"{name}_adjusted" in names}
    if "p_winning_adjusted" in names:
        left_out.add("p_earlier")
    if "verdict" in names:
        said = {word for row in table for word in _said(row)}
        for word, columns in DECIDED_BY.items():
            if word not in said:
                left_out |= {name for each in columns for name in (each, f"{each}_adjusted")}
    if "reason" in names:
        left_out |= {"depends", "seeds_needed", *(f"verdict_{reading}" for reading in READINGS)}
    return left_out & names


def _said(row: Row) -> list[Any]:
    """Return the words that are said of a row."""
    return [row.get("verdict"), *(row.get("also") or "").split(", ")]
