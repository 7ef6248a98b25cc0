"""Tables of several studies: one in which they stand side by side, or the rows of each with its label in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lottery.analysis.columns import STUDY
from lottery.analysis.rows import Row, with_equal_columns
from lottery.analysis.sweep import swept_rows_of
from lottery.analysis.views import VIEWS, imported, rows_of
from lottery.errors import UsageError
from lottery.results.several import several
from lottery.results.sweep import SweptStudy

if TYPE_CHECKING:
    from lottery.results.study import Study


def rows_of_all(found: Sequence[Study | SweptStudy], view: str, network: str | None = None) -> list[Row]:
    """Return the rows of a view of one study or sweep, or of several: the points of a sweep are studies there.

    Raises:
        UsageError: As `rows_of_several`, and as `lottery.analysis.views.rows_of`.
    """
    studies = [each for one in found for each in (one.studies if isinstance(one, SweptStudy) else [one])]
    if len(found) > 1 or network is not None or (len(studies) > 1 and view == "matrix"):
        return rows_of_several(studies, view, network)
    (only,) = found
    return swept_rows_of(only, view) if isinstance(only, SweptStudy) else rows_of(only, view)


def rows_of_several(studies: Sequence[Study], view: str, network: str | None = None) -> list[Row]:
    """Return the rows of a view of several studies, see `lottery.results.several`.

    Args:
        studies: The studies; those of the view `means` are compared with the first.
        view: The view.
        network: The network that is compared or shown: `dense`, `ticket` or a control's label; the ticket where none is
            given, and the dense network where no study has a ticket.

    Raises:
        UsageError: There is no such view, a study has no such table, or studies cannot be compared.
    """
    named = several(studies)
    if view == "means" and len(studies) < 2:
        raise UsageError(f"{named[0][0]}: is one study, which has no other to be compared with")
    if view in VIEWS and VIEWS[view].of_several:
        pruned = any(study.recipe.prune.levels for study in studies)
        rows: list[Row] = imported(VIEWS[view].of_several)(named, network or ("ticket" if pruned else "dense"))
        return rows
    if network is not None:
        views = " and ".join(name for name, each in VIEWS.items() if each.of_several)
        raise UsageError(f"--network {network}: is for the views {views} of several studies")
    made = []
    for label, study in named:
        try:
            made += [Row({STUDY: label, **row}, row.made_from) for row in rows_of(study, view)]
        except UsageError as error:
            raise UsageError(f"{error} (of {label})") from error
    return with_equal_columns(made)
