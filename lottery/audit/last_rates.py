"""The learning rate of a training's last step, reckoned from its identity, and compared between networks."""

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
    from lottery.audit.evidence import Evidence, Facts
    from lottery.results.record import Record

BEHIND = ("optimizer", "learning_rate", "schedule", "warmup", "length", "data")  # what a last rate follows from


def last_rate(
    training: Mapping[str, Any], rate: Any, origin: Origin | None, share: float | None, total: int
) -> float | None:
    """Return the learning rate of the last step.

    Args:
        training: The identity of the training, as `Evidence.training` gives it.
        rate: Its learning rate, the highest of the schedule.
        origin: Where it comes from; None for a dense network.
        share: The share of the peak that fine-tuning takes in place of the schedule's last rate, None for that.
        total: The steps that the schedule is laid out for.

    Returns:
        The rate; None where nothing is trained, or the identity does not tell it without the data.
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


def with_last_rate(evidence: Evidence, record: Record, facts: Facts) -> Facts:
    """Return the facts of a finished training with its last learning rate among them, where the identity tells it."""
    key = record.manifest.key
    training, tickets = evidence.training(key), evidence.tickets(key)
    if training is None or not facts.grid:
        return facts
    length, total = Duration.parse(training["length"]), facts.grid[-1]
    longer = facts.branch in registry.branches and registry.branches[facts.branch].traits.longer
    if length.unit == "it":
        total = length.value
    elif longer:  # its schedule is drawn out: the dense network's says how long it is
        dense = (evidence.curves(key) or [[]])[-1]
        total = dense[-1] if dense else 0
    rate = json.loads(facts.values["learning_rate"]) if facts.values["learning_rate"] != "none" else None
    share = tickets[0]["rewind"].get("rate") if tickets else None
    last = last_rate(training, rate, facts.origin, share, total)
    return facts if last is None else replace(facts, values={**facts.values, "last_rate": f"{last:.4g}"})


def causes(ours: Facts, dense: Facts) -> str:
    """Return in words what a difference of last rates follows from: the fields that differ, or the way of rewinding."""
    fields = [name for name in BEHIND if ours.values.get(name) != dense.values.get(name)]
    if ours.steps != dense.steps:
        fields.append("steps")
    if ours.origin is not None and ours.origin.schedule == LAST:
        fields.append(f"rewind.mode {ours.mode}")
    return ", ".join(fields)
