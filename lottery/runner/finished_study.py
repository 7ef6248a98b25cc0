"""The data, networks and stored levels of a finished study, for its analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lottery.paths import data_root
from lottery.results.study import once
from lottery.runner.events import Request
from lottery.runner.prepare import look
from lottery.runner.stored_level import StoredLevel

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.study import Study
    from lottery.runner.context import RunContext


@once
def context_of(study: Study) -> RunContext:
    """Return what the networks of a study are built with, made once for each study; this loads the data.

    Raises:
        DataError: Where the data are not there.
    """
    request = Request(study.recipe, data_root(study.data), study.store.name, "cpu")
    return look(request, store=study.store, known=study.plan)


def level_of(study: Study, job: Job) -> StoredLevel:
    """Return a finished dense network or ticket of a study's plan: its mask, its weights, where it started.

    Raises:
        DataError: Where the data are not there.
    """
    return StoredLevel(context_of(study), job)
