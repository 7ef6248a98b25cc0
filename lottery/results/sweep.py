"""What is finished of a sweep: the study of each of its points."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.recipe.sweep import Point, Sweep
from lottery.results.study import Study, study, study_of
from lottery.store.open import open_store
from lottery.store.store import Store
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.meanwhile import Ahead
    from lottery.plan.jobs import Plan


@dataclass(frozen=True)
class SweptStudy:
    """The points of a sweep, each with its study, in order; iterate over them as pairs."""

    sweep: Sweep
    studies: tuple[Study, ...]

    def __repr__(self) -> str:
        done, points = sum(len(each.found) for each in self.studies), counted(len(self.studies), "point")
        return f"Study {self.sweep.name}: {points}, {counted(done, 'training')} found, {self.missing:,} missing"

    def __iter__(self) -> Iterator[tuple[Point, Study]]:
        return zip(self.sweep.points, self.studies, strict=True)

    @property
    def missing(self) -> int:
        """Number of trainings that are not finished and still can be; one that points share is one."""
        return len(
            {
                job.key
                for each in self.studies
                for job in each.plan
                if job.kind.measured and job.key not in each.found and job.key not in each.blocked
            }
        )


def swept_study(
    sweep: Sweep,
    *,
    store: str | Path | Store | None = None,
    data: str | Path | None = None,
    ahead: Ahead | None = None,
) -> SweptStudy:
    """Return what is finished of a sweep; `ahead` is that of its studies.

    Raises:
        DataError: Neither the store nor the data root knows the data of a point.
    """
    opened = open_store(store)
    return SweptStudy(sweep, tuple(study(point.recipe, store=opened, data=data, ahead=ahead) for point in sweep.points))


def swept_study_of(sweep: Sweep, ran: Iterable[Plan], store: Store, data: Path | None = None) -> SweptStudy:
    """Return what is finished of the plans of a sweep's points that have just been run, without a look at its data."""
    return SweptStudy(sweep, tuple(study_of(plan, store, data) for plan in ran))
