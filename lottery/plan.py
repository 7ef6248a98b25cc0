"""From a recipe to its jobs: ordered, without duplicates, each with the key of all that determines its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from lottery import registry
from lottery.spec import Component, Duration, plain

if TYPE_CHECKING:
    from lottery.recipe import BranchSpec, DataSpec, Recipe, RewindSpec

SCHEMA = 1  # raise it when the meaning of a key changes: no job of another schema is ever reused

Kind = Literal["rewind", "dense", "ticket", "branch"]


@dataclass(frozen=True)
class Job:
    """One training, or the part of one up to a rewind step.

    `identity` is what its key hashes; `parent` the job whose result it starts from; `needs` all the jobs of the plan
    that have to be done before it; `point` the rewind job it goes back to. `level` is 0 for the dense network;
    `fraction` of the weights is pruned to reach it."""

    kind: Kind
    identity: dict[str, Any]
    parent: str | None
    seed: int
    optimizer: Component
    level: int = 0
    rewind: RewindSpec | None = None
    fraction: Fraction = Fraction(0)
    branch: BranchSpec | None = None
    sample: int = 0
    point: str | None = None
    needs: tuple[str, ...] = ()
    key: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", digest(self.identity))

    @property
    def label(self) -> str:
        """What a person reads in logs and listings."""
        what = {
            "rewind": f"to {_point(self.rewind.to)}" if self.rewind else "",
            "dense": "dense",
            "ticket": f"level {self.level}",
            "branch": f"level {self.level} {self.branch.label} {self.sample}" if self.branch else "",
        }[self.kind]
        return f"{self.optimizer.name} seed {self.seed} {what}"


@dataclass(frozen=True)
class Plan:
    """The jobs of a recipe in an order in which they can run; iterate over it, or look one up by its key."""

    recipe: Recipe
    fingerprint: str  # of the data
    jobs: dict[str, Job]

    def __iter__(self) -> Iterator[Job]:
        return iter(self.jobs.values())

    def __len__(self) -> int:
        return len(self.jobs)

    def trunk(self, job: Job) -> list[Job]:
        """The trunk from the dense network to this ticket, or to the ticket that this branch leaves.

        Each job carries this job's rewind point: trunks of several rewinds share their dense network."""
        chain = [job] if job.kind == "ticket" else []
        above = job.parent
        while above is not None:
            parent = self.jobs[above]
            chain.append(replace(parent, rewind=job.rewind, point=job.point))
            above = parent.parent
        return chain[::-1]


def digest(value: Any) -> str:
    """sha256 of the canonical JSON: sorted keys, no spaces, shortest float digits."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def data_identity(data: DataSpec) -> dict[str, Any]:
    """What of the data a recipe names; the bytes it stands for are their fingerprint."""
    return registry.datasets.identity(data.component)


def plan(recipe: Recipe, fingerprint: str) -> Plan:
    """All jobs of the recipe on data with this fingerprint, seed by seed. No torch, no disk."""
    jobs: dict[str, Job] = {}
    for seed in recipe.seeds:
        for optimizer in recipe.train.optimizer:
            for job in _trainings(recipe, fingerprint, seed, optimizer):
                jobs.setdefault(job.key, job)
    return Plan(recipe, fingerprint, jobs)


def _trainings(recipe: Recipe, fingerprint: str, seed: int, optimizer: Component) -> Iterator[Job]:
    """One seed and optimizer: rewind points, the dense network, and a trunk with its branches for each rewind."""
    training = _training_identity(recipe, fingerprint, seed, optimizer)
    points: dict[Duration, Job] = {}
    for rewind in sorted(recipe.rewind, key=lambda r: (r.to.value > 0, r.to.unit, r.to.value)):
        identity = {"schema": SCHEMA, "kind": "rewind", "training": training, "to": _point(rewind.to)}
        needs = tuple(job.key for job in points.values())
        point = Job("rewind", identity, None, seed, optimizer, rewind=rewind, needs=needs)
        if rewind.to not in points:
            points[rewind.to] = point
            yield point
    identity = {"schema": SCHEMA, "kind": "dense", "training": training}
    dense = Job("dense", identity, None, seed, optimizer, needs=tuple(job.key for job in points.values()))
    yield dense
    for rewind in recipe.rewind:
        base = replace(dense, rewind=rewind, point=points[rewind.to].key)
        for ticket in _tickets(recipe, base):
            yield ticket
            yield from _branches(recipe, ticket)


def _tickets(recipe: Recipe, dense: Job) -> Iterator[Job]:
    prune, parent = recipe.prune, dense
    fractions = _one_shot(prune.one_shot) if prune.one_shot else [exact(prune.fraction)] * prune.levels
    for level, fraction in enumerate(fractions, start=1):
        parent = dense if prune.one_shot else parent
        assert dense.rewind is not None
        identity = {
            "schema": SCHEMA,
            "kind": "ticket",
            "parent": parent.key,
            "prune": {
                "criterion": registry.criteria.identity(prune.criterion),
                "scope": prune.scope,
                "fraction": str(fraction),
                "rates": [[pattern, str(exact(rate))] for pattern, rate in prune.rates.items()],  # the first fit counts
            },
            "rewind": {"to": _point(dense.rewind.to), "mode": dense.rewind.mode},
        }
        assert dense.point is not None
        parent = replace(
            dense,
            kind="ticket",
            identity=identity,
            parent=parent.key,
            level=level,
            fraction=fraction,
            needs=(parent.key, dense.point),
        )
        yield parent


def _branches(recipe: Recipe, ticket: Job) -> Iterator[Job]:
    for branch in recipe.branches:
        if branch.levels is not None and ticket.level not in branch.levels:
            continue
        for sample in range(branch.samples):
            identity = {
                "schema": SCHEMA,
                "kind": "branch",
                "parent": ticket.key,
                "branch": _with_versions("branch", branch.component),
                "sample": sample,
            }
            yield replace(
                ticket,
                kind="branch",
                identity=identity,
                parent=ticket.key,
                needs=(ticket.key, *ticket.needs),
                branch=branch,
                sample=sample,
            )


def _training_identity(recipe: Recipe, fingerprint: str, seed: int, optimizer: Component) -> dict[str, Any]:
    """What determines a dense training: everything but the pruning."""
    data, train = recipe.data, recipe.train
    fields = {
        "validation": data.validation or None,
        "limit": data.limit,
        "augment": plain(data.augment.model_dump(exclude_defaults=True)) if data.augment else None,
        "warmup": plain(train.schedule.warmup),
        "precision": train.precision if train.precision != "fp32" else None,
        "clip": train.clip,
        "label_smoothing": train.label_smoothing or None,
    }
    return {
        "data": data_identity(data),
        "fingerprint": fingerprint,
        "model": _with_versions("model", recipe.model),
        "init": registry.inits.identity(recipe.init),
        "optimizer": _with_versions("optimizer", optimizer),
        "schedule": _with_versions("schedule", train.schedule.component),
        "batch_size": train.batch_size,
        "length": str(train.length),
        "evaluate_every": str(train.evaluate_every),
        "seed": seed,
        **{name: value for name, value in fields.items() if value is not None},
    }


def _with_versions(singular: str, component: Component) -> dict[str, Any]:
    """A component's identity, with that of each component, normalization and activation among its arguments."""
    catalogue = next(r for r in registry.catalogues.values() if r.singular == singular)
    identity = catalogue.identity(component)
    arguments = {**catalogue[component.name].defaults, **component.args}
    for name, named in (("norm", registry.normalizations), ("activation", registry.activations)):
        if name in arguments:
            identity[f"{name}_version"] = named[arguments[name]].version
    for name, value in component.args.items():
        if isinstance(value, Component):  # its key is the catalogue's name: optimizer, schedule, init, criterion
            identity[name] = _with_versions(name, value)
    return identity


def _point(to: Duration) -> str:
    return "init" if to.value == 0 else str(to)


def exact(number: float) -> Fraction:
    """The decimal fraction that was written: 0.2 is 1/5, not the nearest binary number."""
    return Fraction(Decimal(repr(number)))


def _one_shot(densities: tuple[float, ...]) -> list[Fraction]:
    """The fractions that reach each density from the dense network, densest first."""
    return [1 - exact(density) for density in sorted(densities, reverse=True)]
