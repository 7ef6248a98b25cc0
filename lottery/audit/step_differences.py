"""Differences in the steps trained, of a ticket or control to its dense network and its ticket, and what allows them.

Nothing is read here: the audit asks it of what the store recorded, a plan of what its trainings will be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lottery.audit.last_rates import causes
from lottery.audit.trainings import changes_of

if TYPE_CHECKING:
    from lottery.audit.trainings import AuditedTraining
    from lottery.recipe.schema import CompareSpec

_WITH_THE_OPTIMIZER = ("learning_rate", "batch_size")  # mean something else under another entry of the catalogue


@dataclass(frozen=True)
class StepDifference:
    """A difference in steps: a field of the audit, the values of both sides as text, and the network compared with."""

    field: str
    ours: str
    other: str
    against: Literal["dense network", "ticket"] = "dense network"


def step_differences(
    ours: AuditedTraining, dense: AuditedTraining, ticket: AuditedTraining | None
) -> Iterator[StepDifference]:
    """Yield the differences in steps of a ticket or control from the dense network, and of a control from its ticket.

    None where the steps of one of the first two are not known.
    """
    if ours.steps is None or dense.steps is None:
        return
    if ours.steps != dense.steps:
        yield StepDifference("steps", str(ours.steps), str(dense.steps))
    first, last = ours.grid[0], ours.grid[-1]
    theirs = [step for step in dense.grid if first < step <= last]
    if list(ours.grid[1:]) != theirs and ours.values.get("evaluation_grid") == dense.values.get("evaluation_grid"):
        measures = f"{len(ours.grid) - 1} measures after step {first}"
        yield StepDifference("evaluation_grid", measures, f"{len(theirs)} measures")
    if ticket is not None and ticket.steps is not None:
        if ours.own_steps != ticket.own_steps:
            yield StepDifference("own_steps", str(ours.own_steps), str(ticket.own_steps), "ticket")
        if ours.steps != ticket.steps and ticket.steps != dense.steps:
            yield StepDifference("steps", str(ours.steps), str(ticket.steps), "ticket")


def allowed_by(compare: CompareSpec | None, ours: AuditedTraining, dense: AuditedTraining, field: str) -> str:
    """Return in words what allows a difference: branch, mode of rewinding or recipe; empty where nothing does."""
    if field == "last_rate":
        return causes(ours, dense)
    changes = changes_of(ours.branch)
    entries = {audited.values.get("optimizer", "").partition("(")[0] for audited in (ours, dense)}
    if field in changes or ("optimizer" in changes and len(entries) > 1 and field in _WITH_THE_OPTIMIZER):
        return f"the branch {ours.branch}"
    if ours.origin is not None and ours.origin.goes_on and field == "steps":
        return f"rewind.mode {ours.mode}"
    return "compare.allow" if compare is not None and field in compare.allow else ""
