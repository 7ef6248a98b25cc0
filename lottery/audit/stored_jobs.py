"""Jobs as the store has them: identities, chains of parents, chosen learning rates, each read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.audit import protocol_checks
from lottery.environment import ABSENT, FIELDS, ROUNDING, Session, described, essence
from lottery.errors import LotteryError, MachineError
from lottery.plan.keys import digest
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE
from lottery.recipe.tuning import choose
from lottery.values import Duration
from lottery.words import short

if TYPE_CHECKING:
    from lottery.store.store import Store

Problem = tuple[str, str]  # a field and what is wrong with it
Environments = tuple[dict[str, str], dict[str, str]]  # all that sessions recorded, and what is compared of it


@dataclass(frozen=True)
class Choice:
    """A learning rate that was chosen.

    Attributes:
        rate: The rate; None where the choice is not in the store.
        how: How it was chosen, in words.
        problems: What is wrong with the choice.
        seeds: The seeds of its trials.
    """

    rate: Any
    how: str
    problems: tuple[Problem, ...] = ()
    seeds: frozenset[Any] = frozenset()


@dataclass
class StoredJobs:
    """Reader of identities, and of the training that each stands for; it reads each once from a store.

    Attributes:
        store: The store.
        known: The metrics of finished trainings by key, as far as they have been read already.
    """

    store: Store
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _identities: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _trainings: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _choices: dict[str, Choice] = field(default_factory=dict)
    _environments: dict[str, Environments] = field(default_factory=dict)

    def identity(self, key: str) -> dict[str, Any] | None:
        """Return the identity in a job's own record, which its key is a hash of; None where none can be read."""
        if key not in self._identities:
            self._identities[key] = self._json(key, IDENTITY_FILE)
        return self._identities[key]

    def training(self, key: str) -> dict[str, Any] | None:
        """Return all that determined a training, collected from its chain of parents, of which the nearest counts.

        Returns:
            The section `training` of an identity, with what a branch changes; None where the chain breaks off.
        """
        if key not in self._trainings:
            self._trainings[key] = None  # until it is known: a chain that leads back to itself has no beginning
            identity = self.identity(key)
            parent = identity.get("parent") if identity else None
            above = self.training(parent) if parent is not None else {}
            if identity is not None and above is not None:
                own = {**identity.get("training", {}), **_changed_by(identity.get("branch", {}))}
                self._trainings[key] = _if_complete({**above, **own})
        return self._trainings[key]

    def tickets(self, key: str) -> list[dict[str, Any]]:
        """Return the identities of the tickets on a job's chain, its own or its level's first; none if it is dense."""
        chain: dict[str, dict[str, Any]] = {}
        above: Any = key
        while above is not None and above not in chain:
            chain[above] = self.identity(above) or {}
            above = chain[above].get("parent")
        return [identity for identity in chain.values() if "rewind" in identity]

    def curves(self, key: str) -> list[list[int]]:
        """Return the steps of the curves of a job's parents, its own parent's first; an unknown parent has no steps."""
        found: list[list[int]] = []
        seen, above = {key}, (self.identity(key) or {}).get("parent")
        while above is not None and above not in seen:
            seen.add(above)
            found.append([int(row["step"]) for row in protocol_checks.curve_of(self.known.get(above, {}))])
            above = (self.identity(above) or {}).get("parent")
        return found

    def genuine(self, key: str) -> bool:
        """Return True if the recorded identity of a job is what its key is a hash of."""
        return digest(self.identity(key)) == key

    def environments(self, sessions: Sequence[Session]) -> Environments:
        """Return what the sessions of one training recorded in words, by field; described once where many are alike.

        Beside it are the fields that change more than rounding, as far as they were recorded.
        """
        name = repr(sessions)
        if name not in self._environments:
            essences = described([essence(session) for session in sessions])
            compared = (each for each in FIELDS if each not in ROUNDING)
            kept = {each: value for each in compared if (value := essences.get(each, ABSENT)) != ABSENT}
            self._environments[name] = described(sessions), kept
        return self._environments[name]

    def choice(self, key: str) -> Choice:
        """Return how the learning rate was chosen, by the key of the job that chose it."""
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
            measures.setdefault(rate_of(training), []).append(metrics.get(identity["report"]))
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


def rate_of(training: Mapping[str, Any]) -> Any:
    """Return the learning rate that an identity names: a number, its entry's default, or the choice that will tell."""
    optimizer = training.get("optimizer") or {}
    known = optimizer.get("name") in registry.optimizers
    return optimizer.get("lr", registry.optimizers[optimizer["name"]].defaults.get("lr") if known else None)


def _changed_by(branch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a branch trains with in place of the recipe's; its own schedule has no warm-up."""
    names = {"optimizer": "optimizer", "schedule": "schedule", "dataset": "data", "fingerprint": "fingerprint"}
    own = {ours: branch[theirs] for theirs, ours in names.items() if branch.get(theirs) is not None}
    return {**own, "warmup": None} if "schedule" in own else own


def _if_complete(training: dict[str, Any]) -> dict[str, Any] | None:
    """Return the training if it has the fields that the audit needs, else None."""
    try:
        for name in ("length", "evaluate_every"):
            Duration.parse(training.get(name))
    except ValueError:
        return None
    return training
