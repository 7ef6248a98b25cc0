"""The learning rate of a training's last step, computed from its identity, and compared between networks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.audit.protocol_checks import in_steps
from lottery.plan.origins import LAST, UNTRAINED, Origin
from lottery.recipe.learning_rate import multiplier, peak
from lottery.values import Component, Duration

if TYPE_CHECKING:
    from lottery.audit.stored_jobs import StoredJobs
    from lottery.audit.trainings import AuditedTraining
    from lottery.results.record import Record

BEHIND = ("optimizer", "learning_rate", "schedule", "warmup", "length", "data")  # what a last rate follows from


def last_rate(
    training: Mapping[str, Any], rate: Any, origin: Origin | None, share: float | None, total: int
) -> float | None:
    """Return the learning rate of the last step.

    Args:
        training: The identity of the training, as `StoredJobs.training` gives it.
        rate: Its learning rate, the highest of the schedule.
        origin: Where it starts; None for a dense network.
        share: The share of the peak that fine-tuning takes in place of the schedule's last rate; None for the last
            rate.
        total: The number of steps that the schedule is laid out for.

    Returns:
        The rate; None where nothing is trained, or where the identity does not tell it without the data.
    """
    schedule = training.get("schedule")
    if not isinstance(rate, (int, float)) or not isinstance(schedule, Mapping) or total < 1:
        return None
    if origin is not None and (origin.schedule == UNTRAINED or not origin.known):
        return None
    if schedule.get("name") not in registry.schedules:
        return None
    given = {k: v for k, v in schedule.items() if k not in ("name", "version", "code")}
    args, wrong = registry.schedules[schedule["name"]].check(given)
    if wrong:
        return None

    def steps(length: Duration) -> int:
        found = in_steps(str(length), training["length"], total)
        if found is None:
            raise ValueError(f"{length} depends on the number of examples")
        return found

    try:
        warmup = steps(Duration.parse(training["warmup"])) if training.get("warmup") else 0
        of = multiplier(Component(schedule["name"], args), warmup, total, steps)
        last = of(total - 1)
        if origin is not None and origin.schedule == LAST and share is not None:
            last = share * peak(of, total)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return float(rate) * last


def with_last_rate(stored: StoredJobs, record: Record, audited: AuditedTraining) -> AuditedTraining:
    """Return an audited training with its last learning rate among the values, where the identity tells it."""
    key = record.manifest.key
    training, tickets = stored.training(key), stored.tickets(key)
    if training is None or not audited.grid:
        return audited
    length, total = Duration.parse(training["length"]), audited.grid[-1]
    longer = audited.branch in registry.branches and registry.branches[audited.branch].traits.longer
    if length.unit == "it":
        total = length.value
    elif longer:  # its schedule is drawn out: the dense network's says how long it is
        dense = (stored.curves(key) or [[]])[-1]
        total = dense[-1] if dense else 0
    rate = json.loads(audited.values["learning_rate"]) if audited.values["learning_rate"] != "none" else None
    share = tickets[0]["rewind"].get("rate") if tickets else None
    last = last_rate(training, rate, audited.origin, share, total)
    return audited if last is None else replace(audited, values={**audited.values, "last_rate": f"{last:.4g}"})


def causes(ours: AuditedTraining, dense: AuditedTraining) -> str:
    """Return in words what a difference of last rates follows from: fields that differ, or the mode of rewinding."""
    fields = [name for name in BEHIND if ours.values.get(name) != dense.values.get(name)]
    if ours.steps != dense.steps:
        fields.append("steps")
    if ours.origin is not None and ours.origin.schedule == LAST:
        fields.append(f"rewind.mode {ours.mode}")
    return ", ".join(fields)
