"""Trainings as the audit compares them: settings by field, and the proofs that failed, from their stored records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.audit import protocol_checks
from lottery.audit.stored_jobs import Problem, StoredJobs, rate_of
from lottery.environment import FIELDS
from lottery.plan.origins import Origin, carries_state, origin_of
from lottery.values import Component

if TYPE_CHECKING:
    from lottery.results.record import Record

_UNCHANGED = (
    *("data", "fingerprint", "validation", "stratify", "limit", "augment", "init", "schedule", "warmup", "precision"),
    *("clip", "accumulate", "label_smoothing", "batch_norm", "ranks", "length", "seed", "metrics"),
)
_DEFAULTS = {"precision": "fp32", "accumulate": 1, "label_smoothing": 0.0, "batch_norm": "sync", "stratify": False}
_RENAMED = ("model", "optimizer", "batch_size", "evaluate_every")


@dataclass(frozen=True)
class AuditedTraining:
    """A finished training as the store has it.

    Attributes:
        values: The values to be compared, as text by field.
        problems: The proofs that failed: field and what is wrong.
        unproven: Sentences on what its records leave open.
        branch: The entry of the catalogue of branches; empty for ticket and dense network.
        origin: Where a ticket or control starts; None for a dense network.
        carries_state: True if the state of its optimizer can be rewound under a mask.
        mode: The mode of rewinding.
        steps: Steps trained, those shared with another training before its own included; None where it diverged or has
            no curve.
        own_steps: Steps of its own; None as `steps`.
        grid: The steps of its curve.
    """

    values: dict[str, str]
    problems: tuple[Problem, ...] = ()
    unproven: tuple[str, ...] = ()
    branch: str = ""
    origin: Origin | None = None
    carries_state: bool = True  # its optimizer's can be rewound under a mask
    mode: str = "weights"
    steps: int | None = None
    own_steps: int | None = None
    grid: tuple[int, ...] = ()


def audit_training(stored: StoredJobs, record: Record, report: str) -> AuditedTraining:
    """Return what the store has of a finished training, with the proofs that failed.

    Accuracy is meant to be read at `report`.
    """
    key, metrics = record.manifest.key, record.metrics
    identity, training = stored.identity(key), stored.training(key)
    recorded, environment = stored.environments(record.manifest.machines)
    problems = list(_identity_problems(stored, record))
    if identity is None or training is None:
        return AuditedTraining(environment, tuple(problems))
    branch = str(identity.get("branch", {}).get("name", ""))
    rate, how, troubles = _learning_rate(stored, training, metrics)
    values = {**environment, **_settings(training, metrics), "learning_rate": in_words(rate), "tuning": how}
    tickets = stored.tickets(key)
    mode = str(tickets[0]["rewind"].get("mode", "weights")) if tickets else "weights"
    lineage = branch, _origin_of(identity, mode), carries_state(training.get("optimizer") or {}), mode
    origin = lineage[1]
    problems += [*troubles, *(("test_use", leak) for leak in protocol_checks.leaks(metrics))]
    unknown = [name for name in FIELDS if recorded.get(name, "none") == "none"]
    unproven = [f"which {', '.join(unknown)} it ran on"] if unknown else []
    if record.diverged is not None:
        return AuditedTraining(values, tuple(problems), tuple(unproven), *lineage)
    steps = [int(row["step"]) for row in protocol_checks.curve_of(metrics)]
    prune = identity.get("prune", {})
    until: int | None = steps[0] + 1 if origin is not None and origin.goes_on and steps else 0
    if prune.get("when") == "training" and steps:
        until = protocol_checks.in_steps(prune["during"]["end"], training["length"], steps[-1])
        unproven += ["at which step pruning ended is told in epochs only"] if until is None else []
    validated = bool(training.get("validation"))
    wrong_stop = list(protocol_checks.wrong_readings(metrics, report, validated, until or 0))
    if wrong_stop and origin is not None and not origin.known and steps:  # it may go on from trained weights
        wrong_stop = list(protocol_checks.wrong_readings(metrics, report, validated, steps[0] + 1))
    problems += [("stopping", wrong) for wrong in wrong_stop]
    problems += [
        ("metrics", wrong) for wrong in protocol_checks.missing_measures(metrics, training.get("metrics") or ())
    ]
    if not steps:
        return AuditedTraining(values, tuple(problems), tuple(unproven), *lineage)
    own, shared = steps[-1] - steps[0], protocol_checks.shared_steps(origin, steps, stored.curves(key), bool(branch))
    if shared is None:
        unproven += [f"where {branch} starts from: its entry declares no `origins`"]
    problems += _length_problems(identity, training, steps, branch)
    unproven += _unproven_lengths(identity, training, steps)
    return AuditedTraining(
        values, tuple(problems), tuple(unproven), *lineage, None if shared is None else shared + own, own, tuple(steps)
    )


def in_words(value: Any) -> str:
    """Return a value of an identity as a person reads it; different values have different words."""
    if value is None:
        return "none"
    if isinstance(value, Mapping) and "name" in value:
        given = {k: v for k, v in value.items() if k != "name" and not (k.endswith("version") and v == 1)}
        inside = ", ".join(f"{name}={in_words(item)}" for name, item in sorted(given.items()))
        return f"{value['name']}({inside})" if inside else str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _is_ticket(identity: Mapping[str, Any]) -> bool:
    """Return True for a ticket that goes back to its rewind point, which a level of a control's own trunk names too."""
    return "rewind" in identity and "branch" not in identity


def _settings(training: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a training as text, by field."""
    optimizer, sizes = dict(training.get("optimizer") or {}), metrics.get("sizes")
    size = optimizer.pop("batch_size", training.get("batch_size"))
    optimizer.pop("lr", None)
    other = {name: value for name, value in training.items() if name not in _UNCHANGED and name not in _RENAMED}
    return {
        **{name: in_words(training.get(name, _DEFAULTS.get(name))) for name in _UNCHANGED},
        "optimizer": in_words(optimizer or None),
        "batch_size": in_words(size),
        "evaluation_grid": f"every {in_words(training.get('evaluate_every'))}",
        "model": in_words(training.get("model")) + (f" of {sum(sizes.values())} weights" if sizes else ""),
        "other": in_words(other or None),
    }


def _origin_of(identity: Mapping[str, Any], mode: str) -> Origin | None:
    """Return where a ticket or control starts, by its identity; None for a dense network and for an unknown mode."""
    branch = identity.get("branch", {})
    if not branch and "rewind" not in identity:
        return None
    try:
        component = Component(str(branch.get("name")), {k: v for k, v in branch.items() if k != "name"})
        return origin_of(component if branch else None, mode)
    except (StopIteration, TypeError):
        return None


def _identity_problems(stored: StoredJobs, record: Record) -> Iterator[Problem]:
    """Compare a record with its key, the plan and its parents, and yield what does not agree."""
    key, identity = record.manifest.key, stored.identity(record.manifest.key)
    if identity is None:
        yield "identity", "its job.json cannot be read, nothing is known of how it was trained"
        return
    if not stored.genuine(key):
        yield "identity", "its job.json is not what its key is a hash of"
    if (record.manifest.kind, record.manifest.parent) != (record.job.kind, record.job.parent):
        yield "identity", "its manifest has another kind or parent than the plan"
    if stored.training(key) is None:
        yield "identity", "its chain of parents does not lead to a training in the store"


def _learning_rate(
    stored: StoredJobs, training: Mapping[str, Any], metrics: Mapping[str, Any]
) -> tuple[Any, str, tuple[Problem, ...]]:
    """Return the learning rate of a training, how it came about in words, and what is wrong with it."""
    rate = rate_of(training)
    if not isinstance(rate, Mapping):
        wrong = metrics.get("lr", rate) != rate
        return rate, "fixed", (("learning_rate", f"its metrics say {metrics['lr']}"),) if wrong else ()
    choice, trained = stored.choice(str(rate.get("chosen"))), metrics.get("lr")
    problems = choice.problems
    if trained != choice.rate and "diverged" not in metrics:  # a diverged training names none
        words = f"{in_words(choice.rate)} was chosen, {in_words(trained)} was trained with"
        problems = (*problems, ("learning_rate", words))
    if training.get("seed") in choice.seeds:
        problems = (*problems, ("tuning", f"its own seed {training.get('seed')} took part in the choice"))
    return trained if trained is not None else choice.rate, choice.how, problems


def _length_problems(
    identity: Mapping[str, Any], training: Mapping[str, Any], steps: list[int], branch: str
) -> Iterator[Problem]:
    """Compare the curve with the lengths that the identity names, as far as these can be told in steps."""
    first, last, length = steps[0], steps[-1], training["length"]
    if protocol_checks.in_steps(length, length, last) != last and "steps" not in changes_of(branch):
        yield "steps", f"it is {length} long, its curve ends at step {last}"
    if _is_ticket(identity):
        to = protocol_checks.in_steps(identity["rewind"]["to"], length, last)
        if to is not None and to != first:
            yield "steps", f"it is rewound to {identity['rewind']['to']}, its curve begins at step {first}"
    every = protocol_checks.in_steps(training["evaluate_every"], length, last)
    drawn_out = branch in registry.branches and registry.branches[branch].traits.longer  # and its grid with it
    trained = last > first  # an untrained control is measured once, and its curve tells no length of an epoch
    if trained and every is not None and not drawn_out and steps != protocol_checks.grid(first, last, every):
        yield "evaluation_grid", f"its curve is not on the grid of every {training['evaluate_every']}"


def _unproven_lengths(identity: Mapping[str, Any], training: Mapping[str, Any], steps: list[int]) -> Iterator[str]:
    """Yield what a curve cannot tell of lengths in epochs: the steps of an epoch are not in the records."""
    length, last = training["length"], steps[-1]
    if length.endswith("ep"):
        yield f"that {length} are the steps trained (they are the same for ticket and dense network)"
    if _is_ticket(identity) and protocol_checks.in_steps(identity["rewind"]["to"], length, last) is None:
        yield f"that {identity['rewind']['to']} is the step where the ticket's curve begins"
    if protocol_checks.in_steps(training["evaluate_every"], length, last) is None:
        yield f"that the curve has a row every {training['evaluate_every']}"


def changes_of(branch: str) -> tuple[str, ...]:
    """Return the fields of the audit that an entry of the catalogue of branches changes on purpose."""
    return registry.branches[branch].traits.changes if branch in registry.branches else ()
