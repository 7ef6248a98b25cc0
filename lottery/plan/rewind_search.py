"""The search of `rewind: auto`: bisection for the earliest step from which copies of a network are stable.

Each step that is looked at has a plan of its own, whose jobs are those of the recipe rewound to that step, as far down
as the level that is looked at, and pairs of copies. What is found is rewound to with the jobs that are there already.
Bisection supposes that a network, once stable, stays so. Source: Frankle, Dziugaite, Roy & Carbin 2020, section 3.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.plan.expand import plan
from lottery.plan.jobs import Plan
from lottery.recipe.analyses import DENSE, TICKET, AnalysisSpec
from lottery.recipe.rewind_search import latest_of, level_of
from lottery.recipe.types import RewindSpec
from lottery.values import Duration

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe


@dataclass(frozen=True)
class Trial:
    """A step that was looked at.

    Attributes:
        at: The step.
        instabilities: The rise of the error between the copies of each pair, a fraction; NaN and infinity are no
            stability.
        tolerance: The largest mean with which the step is stable.
    """

    at: Duration
    instabilities: tuple[float, ...]
    tolerance: float

    @property
    def mean(self) -> float:
        """Mean instability over the pairs."""
        return statistics.fmean(self.instabilities)

    @property
    def stable(self) -> bool:
        """True if the copies end without a barrier between them."""
        return self.mean <= self.tolerance

    @property
    def clear(self) -> bool:
        """True if the mean is more than two standard errors away from the tolerance."""
        count = len(self.instabilities)
        if count < 2 or not math.isfinite(self.mean):
            return count > 1
        error = statistics.stdev(self.instabilities) / math.sqrt(count)
        return abs(self.mean - self.tolerance) > 2 * error


@dataclass(frozen=True)
class Search:
    """What is known of the earliest stable step.

    Attributes:
        trials: The steps that were looked at, in this order.
        open: The step that is looked at now; None where the search is over.
        found: The earliest stable step of those that were looked at; None where none is, or the search is not over.
        unstable: The latest unstable step before that; None where the first step of all is stable.
    """

    trials: tuple[Trial, ...]
    open: Duration | None = None
    found: Duration | None = None
    unstable: Duration | None = None

    @property
    def at(self) -> Duration:
        """The step that a plan rewinds to: what is found, else what is looked at, or was at last."""
        return self.found or self.open or self.trials[-1].at


def bisect(
    latest: Duration, halvings: int, tolerance: float, measure: Callable[[Duration], Sequence[float] | None]
) -> Search:
    """Return how far the search for the earliest stable step has come.

    The initialization is looked at first, then the latest step, then as many steps between as there are halvings, or
    until no step is left between.

    Args:
        latest: The latest step that is looked at.
        halvings: Number of times that the steps between are halved.
        tolerance: The largest mean instability with which a step is stable.
        measure: Gives the instabilities at a step; None where they are not known yet.
    """
    trials: list[Trial] = []

    def step(value: int) -> Duration:
        return Duration(value, latest.unit if value else "it")

    def stable(value: int) -> bool:
        if (values := measure(step(value))) is None:
            raise _OpenError(step(value))
        trials.append(Trial(step(value), tuple(values), tolerance))
        return trials[-1].stable

    low, high = 0, latest.value
    try:
        if stable(low):
            return Search(tuple(trials), found=step(low))
        if not stable(high):
            return Search(tuple(trials))
        for _ in range(halvings):
            if high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if stable(middle) else (middle, high)
    except _OpenError as here:
        return Search(tuple(trials), open=here.at)
    return Search(tuple(trials), found=step(high), unstable=step(low))


class _OpenError(Exception):
    """Raised where the search needs what is not known yet."""

    def __init__(self, at: Duration):
        self.at = at
        super().__init__(str(at))


def rewound_to(recipe: Recipe, at: Duration) -> Recipe:
    """Return a recipe with `rewind: auto` as one that rewinds to a step, and still says that it was looked for."""
    return recipe.model_copy(update={"rewind": (RewindSpec(to=at).model_copy(update={"auto": recipe.search}),)})


def search_plan(recipe: Recipe, fingerprint: str, at: Duration, others: Mapping[str, str] | None = None) -> Plan:
    """Return the jobs that tell whether a step is stable: what leads to the copies, the copies, and their instability.

    It is measured on the examples that decide and on no others, so that a step cannot be chosen by the test set.

    Args:
        recipe: A recipe with `rewind: auto`.
        fingerprint: sha256 of its data.
        at: The step.
        others: fingerprints of other data, which these jobs do not need, by the digest of their identity.
    """
    search, prune = recipe.search, recipe.prune
    assert search is not None
    level, resolved = level_of(prune, search), rewound_to(recipe, at)
    measured = {"bn": "interpolate", "parts": (search.part,)}  # the test set is not even looked at
    asking = AnalysisSpec.model_validate(
        {"name": "instability", **measured, "of": TICKET if level else DENSE, "at": at, "pairs": search.pairs}
    ).model_copy(update={"levels": (level,)})
    part: dict[str, Any] = {"branches": (), "analyses": (asking,), "keep": None, "transfer": None}
    part["seeds"] = recipe.seeds[: search.seeds]
    if not level:
        part["prune"] = prune.model_copy(update={"levels": 0, "one_shot": None, "densities": None})
    asked = {(0, 0): [0] * (level - 1) + [search.seeds]} if level else None
    planned = plan(resolved.model_copy(update=part), fingerprint, asked=asked)
    return Plan(resolved, fingerprint, planned.jobs, others or {})


def latest_step(recipe: Recipe) -> Duration:
    """Return the last step that the search of a recipe looks at."""
    assert recipe.search is not None
    return latest_of(recipe.train, recipe.search)
