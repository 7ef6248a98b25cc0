"""A study: a recipe with what is finished of it, from which every table, verdict, figure and report is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lottery.results.planning import plan_from_store, plan_with_walks
from lottery.results.record import records
from lottery.store.open import open_store
from lottery.store.store import Store
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.meanwhile import Ahead
    from lottery.plan.jobs import Plan
    from lottery.recipe.schema import Recipe
    from lottery.results.record import Record

T = TypeVar("T")


@dataclass(frozen=True)
class Study:
    """The plan of a recipe, the records of its finished trainings by key, and the store they lie in.

    `data` is the data root where one was named, `made` what functions under `once` gave, `ahead` a second process that
    has imported torch, or is about to, where one was begun.
    """

    plan: Plan
    found: Mapping[str, Record]
    store: Store
    data: Path | None = None
    ahead: Ahead | None = field(default=None, repr=False, compare=False)
    made: dict[Callable[[Study], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        trainings = sum(job.kind.measured for job in self.plan)
        return f"Study {self.recipe.name}: {len(self.found):,} of {counted(trainings, 'training')} in {self.store.name}"

    @property
    def recipe(self) -> Recipe:
        """The recipe of the plan."""
        return self.plan.recipe

    @property
    def missing(self) -> int:
        """Number of trainings that are not finished and still can be."""
        return sum(job.kind.measured for job in self.plan) - len(self.found) - len(self.blocked)

    @cached_property
    def blocked(self) -> frozenset[str]:
        """The keys of trainings that cannot be, as one that they need diverged."""
        bad: set[str] = set()
        for job in self.plan:
            record = self.found.get(job.key)
            if (record is None and any(need in bad for need in job.needs)) or (record and record.diverged is not None):
                bad.add(job.key)
        return frozenset(key for key in bad if key not in self.found and self.plan.jobs[key].kind.measured)


def once(make: Callable[[Study], T]) -> Callable[[Study], T]:
    """Decorate a function of a study to work once; all who ask get the same object, which none of them may change."""

    @wraps(make)
    def known(study: Study) -> T:
        if make not in study.made:
            study.made[make] = make(study)
        made: T = study.made[make]
        return made

    return known


def study(
    recipe: Recipe,
    *,
    store: str | Path | Store | None = None,
    data: str | Path | None = None,
    ahead: Ahead | None = None,
) -> Study:
    """Return what is finished of a recipe.

    Raises:
        DataError: neither the store nor the data root knows its data.
    """
    opened, root = open_store(store), Path(data) if data else None
    planned = plan_from_store(recipe, opened, root)
    return Study(planned, records(planned, opened), opened, root, ahead)


def study_of(ran: Plan, store: Store, data: Path | None = None) -> Study:
    """Return what is finished of a plan that has just been run, without a look at its data.

    Where results decide what is run, the plan is the one that they ask for now.
    """
    planned = plan_with_walks(ran.recipe, ran.fingerprint, ran.others, store) if ran.recipe.grows else ran
    return Study(planned, records(planned, store), store, data)
