"""The tables of a study by name: what `lottery table --view` prints and reports are made of."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.results.study import Study

VIEWS = {  # the function that makes the rows of each; imported when it is asked for
    "means": "lottery.analysis.accuracy:means",
    "long": "lottery.analysis.accuracy:long",
    "transfer": "lottery.analysis.transfer:transfer",
    "transfer_tests": "lottery.verdicts.transfer_tests:rows",
    "rates": "lottery.analysis.learning_rates:rates",
    "costs": "lottery.analysis.costs:rows",
    "frontier": "lottery.verdicts.frontier:rows",
    "verdicts": "lottery.verdicts.verdicts:rows",
    "sparsest": "lottery.verdicts.verdicts:sparsest",
    "claims": "lottery.verdicts.claims:rows",
    "decomposition": "lottery.verdicts.claims:decomposition",
    "audit": "lottery.audit.audit:rows",
    "examples": "lottery.analysis.examples:rows",
    "layers": "lottery.analysis.layers:layers",
    "overlaps": "lottery.analysis.mask_overlap:overlaps",
    "replication": "lottery.verdicts.replication:rows",
}


def rows_of(study: Study, view: str) -> list[dict[str, Any]]:
    """The rows of one of VIEWS. Raises UsageError for another, and where the recipe has no such table."""
    if view not in VIEWS:
        raise UsageError(f"view {view!r}: there are {', '.join(VIEWS)}")
    module, _, function = VIEWS[view].partition(":")
    rows: list[dict[str, Any]] = getattr(importlib.import_module(module), function)(study)
    return rows
