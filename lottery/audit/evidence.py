"""What the store says of a training: read from its identity and its parents', its metrics and its environment."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.audit import protocol_checks
from lottery.environment import ABSENT, FIELDS, ROUNDING, described, essence
from lottery.errors import LotteryError, MachineError
from lottery.plan.keys import digest
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE
from lottery.plan.origins import Origin, carries_state, origin_of
from lottery.recipe.tuning import choose
from lottery.values import Component, Duration
from lottery.words import short

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.store.store import Store

_AS_THEY_ARE = (
    *("data", "fingerprint", "validation", "stratify", "limit", "augment", "init", "schedule", "warmup", "precision"),
    *("clip", "accumulate", "label_smoothing", "length", "seed", "metrics"),
)
_DEFAULTS = {"precision": "fp32", "accumulate": 1, "label_smoothing": 0.0, "stratify": False}
_OTHERWISE_NAMED = ("model", "optimizer", "batch_size", "evaluate_every")

Problem = tuple[str, str]  # a field and what is wrong with it


@dataclass(frozen=True)
class Facts:
    """What is known of one training: `values` as text by field, to be compared; `problems` where a proof failed.

    `steps` counts those shared with another training before its own. Both are None where it diverged or has no curve.
    `unproven` are sentences on what its records leave open; `origin` is where a ticket or control comes from.
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


@dataclass(frozen=True)
class Choice:
    """A learning rate that was chosen, how in words, and what is wrong with that. `seeds` are those of the trials."""

    rate: Any
    how: str
    problems: tuple[Problem, ...] = ()
    seeds: frozenset[Any] = frozenset()


@dataclass
class Evidence:
    """Identities of jobs and the training that each stands for, read from a store once each.

    `known` are the metrics of finished trainings by key, as far as somebody has read them already.
    """

    store: Store
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _identities: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _trainings: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _choices: dict[str, Choice] = field(default_factory=dict)

    def identity(self, key: str) -> dict[str, Any] | None:
        """What the key is a hash of, by the job's own record; None where there is none that can be read."""
        if key not in self._identities:
            self._identities[key] = self._json(key, IDENTITY_FILE)
        return self._identities[key]

    def training(self, key: str) -> dict[str, Any] | None:
        """What determined a training: what its chain of parents says, the nearest counts. None where it breaks off."""
        if key not in self._trainings:
            self._trainings[key] = None  # until it is known: a chain that leads back to itself has no beginning
            identity = self.identity(key)
            parent = identity.get("parent") if identity else None
            above = self.training(parent) if parent is not None else {}
            if identity is not None and above is not None:
                own = {**identity.get("training", {}), **_changed(identity.get("branch", {}))}
                self._trainings[key] = _whole({**above, **own})
        return self._trainings[key]

    def tickets(self, key: str) -> list[dict[str, Any]]:
        """The identities of the tickets on a job's chain, its own or its level's first; empty for a dense network."""
        chain: dict[str, dict[str, Any]] = {}
        above: Any = key
        while above is not None and above not in chain:
            chain[above] = self.identity(above) or {}
            above = chain[above].get("parent")
        return [identity for identity in chain.values() if "rewind" in identity]

    def curves(self, key: str) -> list[list[int]]:
        """The steps of the curves of a job's parents, its own parent's first; empty where a parent is not known."""
        found: list[list[int]] = []
        seen, above = {key}, (self.identity(key) or {}).get("parent")
        while above is not None and above not in seen:
            seen.add(above)
            found.append([int(row["step"]) for row in protocol_checks.curve_of(self.known.get(above, {}))])
            above = (self.identity(above) or {}).get("parent")
        return found

    def genuine(self, key: str) -> bool:
        """Whether the record of a job's identity is what its key is a hash of."""
        return digest(self.identity(key)) == key

    def choice(self, key: str) -> Choice:
        """How a learning rate was chosen."""
        if key not in self._choices:
            self._choices[key] = self._choice(key)
        return self._choices[key]

    def _choice(self, key: str) -> Choice:
        identity, chosen = self.identity(key) or {}, self._json(key, METRICS_FILE)
        if chosen is None or not {"trials", "by", "report"} <= identity.keys():
            return Choice(None, "chosen, how is not in the store", (("tuning", f"there is no choice {short(key)}"),))
        measures: dict[float, list[Any]] = {}
        seeds, problems = set(), []
        for trial in identity["trials"]:
            training, metrics = self.training(trial), self._json(trial, METRICS_FILE)
            if training is None or metrics is None:
                problems.append(("tuning", f"the trial {short(trial)} is not in the store"))
                continue
            seeds.add(training.get("seed"))
            measures.setdefault(_rate_of(training), []).append(metrics.get(identity["report"]))
            leaks = protocol_checks.leaks(metrics, trial=True)
            problems += [("test_use", f"{leak} of the trial {short(trial)}") for leak in leaks]
            if not self.genuine(trial):
                problems.append(("identity", f"the record of the trial {short(trial)} is not what its key says"))
        best = choose(list(measures.items()), identity["by"]) or {}
        if not problems and chosen.get("lr") != best.get("lr"):
            problems.append(("tuning", f"{chosen.get('lr')} was chosen, the best of the trials is {best.get('lr')}"))
        how = f"{len(measures)} rates on {len(seeds)} seeds, best validation {identity['by']} at {identity['report']}"
        return Choice(chosen.get("lr"), how, tuple(problems), frozenset(seeds))

    def _json(self, key: str, name: str) -> dict[str, Any] | None:
        try:
            found = self.store.read_json(key, name)
        except MachineError:
            raise
        except LotteryError:  # missing, damaged, or no key at all: there is no evidence
            return None
        return found if isinstance(found, dict) else None


def facts_of(evidence: Evidence, record: Record, report: str) -> Facts:
    """All that the store knows of a finished training. Accuracy is meant to be read at `report`."""
    key, metrics = record.manifest.key, record.metrics
    recorded, identity, training = described(record.manifest.machines), evidence.identity(key), evidence.training(key)
    environment = _environment(record)
    problems = list(_identity_problems(evidence, record))
    if identity is None or training is None:
        return Facts(environment, tuple(problems))
    branch = str(identity.get("branch", {}).get("name", ""))
    rate, how, troubles = _learning_rate(evidence, training, metrics)
    values = {**environment, **_described(training, metrics), "learning_rate": said(rate), "tuning": how}
    tickets = evidence.tickets(key)
    mode = str(tickets[0]["rewind"].get("mode", "weights")) if tickets else "weights"
    about = branch, _origin(identity, mode), carries_state(training.get("optimizer") or {}), mode
    origin = about[1]
    problems += [*troubles, *(("test_use", leak) for leak in protocol_checks.leaks(metrics))]
    unknown = [name for name in FIELDS if recorded.get(name, "none") == "none"]
    unproven = [f"which {', '.join(unknown)} it ran on"] if unknown else []
    if record.diverged is not None:
        return Facts(values, tuple(problems), tuple(unproven), *about)
    steps = [int(row["step"]) for row in protocol_checks.curve_of(metrics)]
    prune = identity.get("prune", {})
    until: int | None = steps[0] + 1 if origin is not None and origin.goes_on and steps else 0
    if prune.get("when") == "training" and steps:
        until = protocol_checks.in_steps(prune["during"]["end"], training["length"], steps[-1])
        unproven += ["at which step pruning ended is told in epochs only"] if until is None else []
    validated = bool(training.get("validation"))
    wrong_stop = list(protocol_checks.stopping(metrics, report, validated, until or 0))
    if wrong_stop and origin is not None and not origin.known and steps:  # it may go on from trained weights
        wrong_stop = list(protocol_checks.stopping(metrics, report, validated, steps[0] + 1))
    problems += [("stopping", wrong) for wrong in wrong_stop]
    problems += [("metrics", wrong) for wrong in protocol_checks.unmeasured(metrics, training.get("metrics") or ())]
    if not steps:
        return Facts(values, tuple(problems), tuple(unproven), *about)
    own, shared = steps[-1] - steps[0], protocol_checks.shared_steps(origin, steps, evidence.curves(key), bool(branch))
    if shared is None:
        unproven += [f"where {branch} starts from: its entry declares no `origins`"]
    problems += _length_problems(identity, training, steps, branch)
    unproven += _unproven(identity, training, steps)
    return Facts(
        values, tuple(problems), tuple(unproven), *about, None if shared is None else shared + own, own, tuple(steps)
    )


def _rate_of(training: Mapping[str, Any]) -> Any:
    """The learning rate that an identity names: a number, its entry's default, or the choice that will tell."""
    optimizer = training.get("optimizer") or {}
    known = optimizer.get("name") in registry.optimizers
    return optimizer.get("lr", registry.optimizers[optimizer["name"]].defaults.get("lr") if known else None)


def said(value: Any) -> str:
    """A value of an identity as a person reads it; different values have different words."""
    if value is None:
        return "none"
    if isinstance(value, Mapping) and "name" in value:
        given = {k: v for k, v in value.items() if k != "name" and not (k.endswith("version") and v == 1)}
        inside = ", ".join(f"{name}={said(item)}" for name, item in sorted(given.items()))
        return f"{value['name']}({inside})" if inside else str(value["name"])
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _changed(branch: Mapping[str, Any]) -> dict[str, Any]:
    """What a branch trains with in place of the recipe's; a schedule of its own has no warm-up."""
    names = {"optimizer": "optimizer", "schedule": "schedule", "dataset": "data", "fingerprint": "fingerprint"}
    own = {ours: branch[theirs] for theirs, ours in names.items() if branch.get(theirs) is not None}
    return {**own, "warmup": None} if "schedule" in own else own


def _is_ticket(identity: Mapping[str, Any]) -> bool:
    """Whether it goes back to its rewind point, which a level of a control's own trunk names too."""
    return "rewind" in identity and "branch" not in identity


def _environment(record: Record) -> dict[str, str]:
    """Each part of the environment that changes more than rounding, over all the sessions that a training took, as
    far as it was recorded.
    """
    found = described([essence(session) for session in record.manifest.machines])
    compared = [name for name in FIELDS if name not in ROUNDING]
    return {name: value for name in compared if (value := found.get(name, ABSENT)) != ABSENT}


def _described(training: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a training, each by its field."""
    optimizer, sizes = dict(training.get("optimizer") or {}), metrics.get("sizes")
    size = optimizer.pop("batch_size", training.get("batch_size"))
    optimizer.pop("lr", None)
    other = {
        name: value for name, value in training.items() if name not in _AS_THEY_ARE and name not in _OTHERWISE_NAMED
    }
    return {
        **{name: said(training.get(name, _DEFAULTS.get(name))) for name in _AS_THEY_ARE},
        "optimizer": said(optimizer or None),
        "batch_size": said(size),
        "evaluation_grid": f"every {said(training.get('evaluate_every'))}",
        "model": said(training.get("model")) + (f" of {sum(sizes.values())} weights" if sizes else ""),
        "other": said(other or None),
    }


def _origin(identity: Mapping[str, Any], mode: str) -> Origin | None:
    """Where a ticket or control comes from, by its identity; None for a dense network and a mode nobody knows."""
    branch = identity.get("branch", {})
    if not branch and "rewind" not in identity:
        return None
    try:
        component = Component(str(branch.get("name")), {k: v for k, v in branch.items() if k != "name"})
        return origin_of(component if branch else None, mode)
    except (StopIteration, TypeError):
        return None


def _identity_problems(evidence: Evidence, record: Record) -> Iterator[Problem]:
    """The record against its key, the plan and its parents."""
    key, identity = record.manifest.key, evidence.identity(record.manifest.key)
    if identity is None:
        yield "identity", "its job.json cannot be read, nothing is known of how it was trained"
        return
    if not evidence.genuine(key):
        yield "identity", "its job.json is not what its key is a hash of"
    if (record.manifest.kind, record.manifest.parent) != (record.job.kind, record.job.parent):
        yield "identity", "its manifest has another kind or parent than the plan"
    if evidence.training(key) is None:
        yield "identity", "its chain of parents does not lead to a training in the store"


def _learning_rate(
    evidence: Evidence, training: Mapping[str, Any], metrics: Mapping[str, Any]
) -> tuple[Any, str, tuple[Problem, ...]]:
    """The rate, how it came about, and what is wrong with it."""
    rate = _rate_of(training)
    if not isinstance(rate, Mapping):
        wrong = metrics.get("lr", rate) != rate
        return rate, "fixed", (("learning_rate", f"its metrics say {metrics['lr']}"),) if wrong else ()
    choice, trained = evidence.choice(str(rate.get("chosen"))), metrics.get("lr")
    problems = choice.problems
    if trained != choice.rate and "diverged" not in metrics:  # a diverged training names none
        problems = (*problems, ("learning_rate", f"{said(choice.rate)} was chosen, {said(trained)} was trained with"))
    if training.get("seed") in choice.seeds:
        problems = (*problems, ("tuning", f"its own seed {training.get('seed')} took part in the choice"))
    return trained if trained is not None else choice.rate, choice.how, problems


def _length_problems(
    identity: Mapping[str, Any], training: Mapping[str, Any], steps: list[int], branch: str
) -> Iterator[Problem]:
    """The curve against the lengths that the identity names, as far as they can be told in steps."""
    first, last, length = steps[0], steps[-1], training["length"]
    if protocol_checks.in_steps(length, length, last) != last and "steps" not in changes_of(branch):
        yield "steps", f"it is {length} long, its curve ends at step {last}"
    if _is_ticket(identity):
        to = protocol_checks.in_steps(identity["rewind"]["to"], length, last)
        if to is not None and to != first:
            yield "steps", f"it is rewound to {identity['rewind']['to']}, its curve begins at step {first}"
    every = protocol_checks.in_steps(training["evaluate_every"], length, last)
    drawn_out = branch in registry.branches and registry.branches[branch].traits.longer  # and its grid with it
    if every is not None and not drawn_out and steps != protocol_checks.grid(first, last, every):
        yield "evaluation_grid", f"its curve is not on the grid of every {training['evaluate_every']}"


def _unproven(identity: Mapping[str, Any], training: Mapping[str, Any], steps: list[int]) -> Iterator[str]:
    """What a curve cannot tell of lengths in epochs: how many steps these have is not in the records."""
    length, last = training["length"], steps[-1]
    if length.endswith("ep"):
        yield f"that {length} are the steps trained (they are the same for ticket and dense network)"
    if _is_ticket(identity) and protocol_checks.in_steps(identity["rewind"]["to"], length, last) is None:
        yield f"that {identity['rewind']['to']} is the step where the ticket's curve begins"
    if protocol_checks.in_steps(training["evaluate_every"], length, last) is None:
        yield f"that the curve has a row every {training['evaluate_every']}"


def changes_of(branch: str) -> tuple[str, ...]:
    """The fields that an entry of the catalogue of branches changes on purpose."""
    return registry.branches[branch].traits.changes if branch in registry.branches else ()


def _whole(training: dict[str, Any]) -> dict[str, Any] | None:
    """The training where it has what the audit cannot do without, else None."""
    try:
        for name in ("length", "evaluate_every"):
            Duration.parse(training.get(name))
    except ValueError:
        return None
    return training
