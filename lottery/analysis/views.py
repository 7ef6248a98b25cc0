"""The tables of a study by name: what `lottery table --view` prints and reports are made of.

To add an analysis, write a function `rows(study) -> list[Row]` in a module of this room (of `verdicts` where it tests
something) and name it in one line of VIEWS. It reads finished trainings (`study.found`, `cells.records_by_cell`),
says of each row which of them it was made from (`rows.Row`, `rows.keys_of`), and uses a `columns.Column` as the name
of values that have a unit. A study that cannot have the table is refused with a UsageError that says what the recipe
lacks. Every format, `lottery.table` and `lottery table --view` know the view then; "Adding an analysis" in
docs/contributing.md is an example, and a section of `report.content` shows it in the report.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study


class View(NamedTuple):
    """A table: the function that makes its rows, imported when it is asked for, and its caption in papers.

    A sweep has the rows of its points, or those that the function `of_sweep` makes of all of them. Several studies have
    the rows of each, or those that `of_several` makes of them with their labels and of the network that is compared.
    `needs_torch` says of a recipe whether a second process had better import torch while records are read.
    """

    rows: str
    caption: str
    of_sweep: str = ""
    of_several: str = ""
    needs_torch: Callable[[Recipe], bool] | None = None


VIEWS = {
    "means": View(
        "lottery.analysis.accuracy:means", "Test accuracy by density", of_several="lottery.verdicts.several:rows"
    ),
    "matrix": View(
        "lottery.verdicts.matrix:rows",
        "Test accuracy, optimizers by densities",
        of_several="lottery.verdicts.matrix:of_several",
    ),
    "long": View("lottery.analysis.accuracy:long", "Trainings"),
    "curves": View("lottery.analysis.curves:rows", "Learning curves"),
    "transfer": View(
        "lottery.analysis.transfer:transfer", "Tickets found with one optimizer and retrained with another"
    ),
    "transfer_tests": View(
        "lottery.verdicts.transfer_tests:rows",
        "Transferred tickets against what the optimizer that retrains them reaches itself",
    ),
    "rates": View("lottery.analysis.learning_rates:rates", "Learning rates tried"),
    "costs": View("lottery.analysis.costs:rows", "Costs of finding the tickets"),
    "frontier": View("lottery.verdicts.frontier:rows", "Adaptive frontier: the decision at each level"),
    "rewind": View("lottery.analysis.rewind_search:rows", "Search of the rewind point: the steps that were looked at"),
    "verdicts": View(
        "lottery.verdicts.verdicts:rows", "Verdicts: tickets against dense networks, differences paired by seed"
    ),
    "sparsest": View("lottery.verdicts.verdicts:sparsest", "The sparsest matching density"),
    "claims": View("lottery.verdicts.claims:rows", "What wins: the tests behind it, paired by seed"),
    "decomposition": View(
        "lottery.verdicts.claims:decomposition", "What wins, density by density: ticket less control, with intervals"
    ),
    "connected": View("lottery.verdicts.connected:rows", "Connected or not: the test error between networks"),
    "audit": View("lottery.audit.rows:rows", "Fairness audit"),
    "examples": View(
        "lottery.analysis.examples:rows",
        "Test examples: intervals for other seeds and other examples, disagreement, classes",
    ),
    "layers": View(
        "lottery.analysis.layers:layers",
        "Layers of the tickets",
        needs_torch=lambda recipe: recipe.search is not None or any(each.to.value for each in recipe.rewind),
    ),
    "overlaps": View("lottery.analysis.mask_overlap:overlaps", "Overlaps of masks"),
    "replication": View(
        "lottery.verdicts.replication:rows", "Published claims", of_sweep="lottery.verdicts.swept_claims:rows"
    ),
}


def rows_of(study: Study, view: str) -> list[Row]:
    """Return the rows of one of VIEWS, or of an analysis of the recipe by the name of its table.

    Raises:
        UsageError: For another view, and where the recipe has no such table.
    """
    if view not in VIEWS:
        labels = [analysis.label for analysis in study.recipe.analyses]
        if view in labels:
            from lottery.analysis.measurements import rows as measurements

            return measurements(study, view)
        more = f", and of this recipe's analyses {', '.join(labels)}" if labels else ""
        raise UsageError(f"view {view!r}: there are {', '.join(VIEWS)}{more}")
    rows: list[Row] = imported(VIEWS[view].rows)(study)
    return rows


def imported(name: str) -> Callable[..., Any]:
    """Return the function that a view names as `module:function`."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
