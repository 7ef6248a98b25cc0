"""The search of `rewind: auto` in a table and in words: the steps that were looked at, what was found, what it took."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.columns import Column
from lottery.analysis.labels import density_label, finite
from lottery.analysis.rows import Row
from lottery.errors import UsageError
from lottery.plan.kinds import Kind
from lottery.plan.rewind_search import Search, Trial, latest_step, search_plan
from lottery.recipe.rewind_search import level_of, nominal_densities
from lottery.results.rewind_search import search_in
from lottery.results.study import once
from lottery.values import Duration, point_label
from lottery.words import counted, duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.results.study import Study


@dataclass(frozen=True)
class Cost:
    """The finished trainings of some jobs.

    Attributes:
        trainings: Their number, states to go back to and copies included.
        own: Number of those that the recipe needs anyway.
        seconds: Time that all of them took.
    """

    trainings: int
    own: int
    seconds: float


@once
def searched(study: Study) -> Search:
    """Return how far the search of a study's rewind point has come.

    Raises:
        UsageError: The recipe gives its rewind points.
    """
    if study.recipe.search is None:
        raise UsageError(f"{study.recipe.name}: its rewind points are given, none was looked for; write `rewind: auto`")
    return search_in(study.recipe, study.plan.fingerprint, study.store)


def rows(study: Study) -> list[Row]:
    """Return a row for each step that was looked at, in this order, the one that is looked at now last.

    Columns: `step`; the mean `instability` over the pairs (a fraction of error), its standard deviation, the number
    `pairs`; the `decision` (`found` is the earliest stable step); and what it took: `trainings`, those of them that are
    the recipe's `own`, and `seconds`.

    Raises:
        UsageError: The recipe gives its rewind points.
    """
    search = searched(study)
    table = [_row(study, trial.at, trial, _decision(search, trial)) for trial in search.trials]
    return [*table, _row(study, search.open, None, "open")] if search.open else table


def sentences(study: Study) -> list[str]:
    """Return in words what was found, how sure that is, and what it took; nothing where no step was looked for."""
    return [" ".join(_parts(study, searched(study)))] if study.recipe.search is not None else []


def _parts(study: Study, search: Search) -> Iterator[str]:
    recipe, spec = study.recipe, study.recipe.search
    assert spec is not None
    level = level_of(recipe.prune, spec)
    density = density_label(nominal_densities(recipe.prune)[level])
    network = f"tickets of level {level} (density {density})" if level else "the dense network"
    rule = f"a mean rise of error of at most {100 * spec.tolerance:g} points on the {spec.part} examples"
    by_step = {trial.at: trial for trial in search.trials}
    if search.found is not None:
        yield f"rewind: auto: {network}: the earliest stable step found is {point_label(search.found)}"
        yield f"({_said(by_step[search.found])}; stable is {rule})."
        if search.unstable is not None:
            before = by_step[search.unstable]
            yield f"{point_label(before.at)} is not stable ({_said(before)}): the earliest stable"
            yield f"step lies after it, and at {point_label(search.found)} at the latest, if what is stable stays so."
    elif search.open is not None:
        now = point_label(search.open)
        yield f"rewind: auto: {network}: {now} is looked at now; what follows, its result decides"
        yield f"(stable is {rule}; {2 + spec.halvings} steps up to {point_label(latest_step(recipe))} at most)."
    else:
        last = search.trials[-1]
        yield f"rewind: auto: {network}: no step up to {point_label(last.at)} is stable ({_said(last)}; stable is"
        yield f"{rule}); nothing more is trained. Raise rewind.auto.latest, or write the rewind point."
    if unclear := [point_label(trial.at) for trial in search.trials if not trial.clear]:
        yield f"Other pairs might decide otherwise at {' and '.join(unclear)}, where the mean lies within two standard"
        yield "errors of the tolerance."
    cost = _cost(study, [*by_step, *([search.open] if search.open else [])])
    yield f"Trainings of the search: {cost.trainings} ({duration(cost.seconds)}), {cost.own} of them the recipe's own."


def _said(trial: Trial) -> str:
    values = trial.instabilities
    spread = f" ± {100 * statistics.stdev(values):.2f}" if _spreads(trial) else ""
    return f"{100 * trial.mean:.2f}{spread} points, {counted(len(values), 'pair')}"


def _spreads(trial: Trial) -> bool:
    """Return True if its pairs have a standard deviation."""
    return len(trial.instabilities) > 1 and math.isfinite(trial.mean)


def _decision(search: Search, trial: Trial) -> str:
    if trial.at == search.found:
        return "found"
    return "stable" if trial.stable else "unstable"


def _row(study: Study, at: Duration, trial: Trial | None, decision: str) -> Row:
    values = trial.instabilities if trial else ()
    cost = _cost(study, [at])
    about = {
        "step": point_label(at),
        Column("instability", "points"): trial.mean if trial else None,
        Column("instability_std", "points"): statistics.stdev(values) if trial and _spreads(trial) else None,
        "pairs": len(values),
        "decision": decision,
        "trainings": cost.trainings,
        "own": cost.own,
        "seconds": cost.seconds,
    }
    measured = (job.key for job in _plan(study, at) if job.kind is Kind.ANALYSIS and study.store.find(job.key))
    return Row(finite(about), measured)


def _plan(study: Study, at: Duration) -> Plan:
    return search_plan(study.recipe, study.plan.fingerprint, at)


def _cost(study: Study, steps: Sequence[Duration]) -> Cost:
    """Return the cost of the steps together; what they share counts once."""
    jobs = {job.key for at in steps for job in _plan(study, at) if job.kind.trains}
    done = {key: manifest.seconds for key in jobs if (manifest := study.store.find(key)) is not None}
    return Cost(len(done), len(done.keys() & study.plan.jobs.keys()), sum(done.values()))
