"""Claims that a recipe cannot make: of columns that its table has not, by an order that no test goes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lottery.registry import Problem


def about_claims(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the claims of a paper and with how claims against controls are tested."""
    compare = valid.get("compare")
    if compare is not None and compare.order is not None and compare.controls != "fixed_sequence":
        yield (
            ("compare", "order"),
            f"is that of a fixed sequence of controls, and controls is {compare.controls}, which has none; "
            "write `controls: fixed_sequence`, or leave order out",
        )
    yield from _about_columns(valid)


def _about_columns(valid: Mapping[str, Any]) -> Iterator[Problem]:
    """Claims of a paper speak of columns that the table has."""
    if (replicates := valid.get("replicates")) is None:
        return
    columns = ["dense", "ticket", *(branch.label for branch in valid.get("branches", ()))]
    for index, claim in enumerate(replicates.claims):
        for key, column in (("column", claim.column), ("against", claim.against)):
            if column is not None and column not in columns:
                yield ("replicates", "claims", index, key), f"no column {column!r}; there are {', '.join(columns)}"
        points = [rewind.to for rewind in valid.get("rewind", ())]
        if claim.rewind is not None and points and claim.rewind not in points:
            yield (
                ("replicates", "claims", index, "rewind"),
                f"no ticket is rewound to {claim.rewind}; there are {', '.join(map(str, points))}",
            )
