"""The ticket of a study that is meant by its optimizer, level, seed and rewind point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lottery.analysis.labels import optimizer_labels, rewind_label
from lottery.errors import UsageError
from lottery.plan.kinds import Kind

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.results.study import Study

MOST_NAMED = 20  # values of an option that a message lists


def find_ticket(study: Study, wanted: Mapping[str, str | int | None]) -> str:
    """Return the key of the one finished ticket of a study that is meant.

    Args:
        study: The study.
        wanted: Values of `optimizer` (its name, or its label in tables), `rewind` (as tables label it), `level` and
            `seed`; None for one that is not named, which leaves all.

    Raises:
        UsageError: There is no such ticket, there are several, or it is not trained yet.
    """
    labels, name = optimizer_labels(study.recipe.train.optimizer), study.recipe.name
    left = {job.key: _told(job, labels) for job in study.plan if job.kind is Kind.TICKET}
    if not left:
        raise UsageError(f"{name}: has no tickets; its `prune.levels` is 0")
    for option, value in wanted.items():
        if value is not None:
            there = _values(left, option)
            left = {key: told for key, told in left.items() if _meant(told[option], value, option)}
            if not left:
                raise UsageError(f"--{option} {value}: {name} has {_listed(there)}{_beside(wanted, option)}")
    if len(left) > 1:
        several = {option: values for option in wanted if len(values := _values(left, option)) > 1}
        ways = "; ".join(f"--{option}: {_listed(values)}" for option, values in several.items())
        raise UsageError(f"{name}: {len(left):,} tickets are meant; name one by {ways}")
    (key,) = left
    if key not in study.found:
        label = study.plan.jobs[key].label
        raise UsageError(f"{name}: {label} is not trained yet in {study.store.name}; lottery run does so")
    return key


def _told(job: Job, labels: list[str]) -> dict[str, str | int]:
    """Return the values of the options that name a ticket."""
    assert job.rewind is not None
    return {
        "optimizer": labels[job.optimizer_index],
        "rewind": rewind_label(job.rewind),
        "level": job.level,
        "seed": job.seed,
    }


def _meant(told: str | int, value: str | int, option: str) -> bool:
    """Return True if an option's value means a ticket's: an optimizer by its label, or by its name."""
    return told == value or (option == "optimizer" and str(told).partition("(")[0] == value)


def _values(left: Mapping[str, Mapping[str, str | int]], option: str) -> list[str | int]:
    return list(dict.fromkeys(told[option] for told in left.values()))


def _listed(values: list[str | int]) -> str:
    more = f" and {len(values) - MOST_NAMED} more" if len(values) > MOST_NAMED else ""
    return ", ".join(map(str, values[:MOST_NAMED])) + more


def _beside(wanted: Mapping[str, str | int | None], option: str) -> str:
    """Return in words the options that were followed before this one."""
    before = list(wanted)[: list(wanted).index(option)]
    named = [f"--{other} {wanted[other]}" for other in before if wanted[other] is not None]
    return f" with {' '.join(named)}" if named else ""
