"""The tables of a study by name: what `lottery table --view` prints and reports are made of."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.study import Study

VIEWS = {  # the function that makes the rows of each; imported when it is asked for
    "means": "lottery.tables:means",
    "long": "lottery.tables:long",
    "transfer": "lottery.comparisons:transfer",
    "transfer_tests": "lottery.transfer_tests:rows",
    "rates": "lottery.comparisons:rates",
    "costs": "lottery.costs:rows",
    "frontier": "lottery.frontier_view:rows",
    "verdicts": "lottery.verdicts:rows",
    "sparsest": "lottery.verdicts:sparsest",
    "claims": "lottery.claims:rows",
    "decomposition": "lottery.claims:decomposition",
    "audit": "lottery.audit:rows",
    "examples": "lottery.recognized:rows",
    "layers": "lottery.genealogy:layers",
    "overlaps": "lottery.genealogy:overlaps",
    "replication": "lottery.replication:rows",
}


def rows_of(study: Study, view: str) -> list[dict[str, Any]]:
    """The rows of one of VIEWS. Raises UsageError for another, and where the recipe has no such table."""
    if view not in VIEWS:
        raise UsageError(f"view {view!r}: there are {', '.join(VIEWS)}")
    module, _, function = VIEWS[view].partition(":")
    rows: list[dict[str, Any]] = getattr(importlib.import_module(module), function)(study)
    return rows
