"""Expansion of a recipe: its jobs, ordered, without duplicates, each with the key of all that determines its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.plan.amounts import amounts
from lottery.plan.analyses import analysis_jobs
from lottery.plan.children import dense_starts
from lottery.plan.jobs import Job, Plan
from lottery.plan.keys import (
    SCHEMA,
    branch_identity,
    exact,
    rewind_identity,
    training_identity,
    with_versions,
)
from lottery.plan.kinds import Kind
from lottery.recipe.pruned_once import is_the_ticket
from lottery.recipe.schema import BranchSpec
from lottery.recipe.tuning import learning_rates
from lottery.recipe.types import RewindSpec
from lottery.values import Chosen, Component, Duration, point_label, told_apart

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.values import Duration


def other_data(recipe: Recipe) -> list[Component]:
    """Return the data sets that branches train on beside the recipe's own."""
    return [dataset for branch in recipe.branches if (dataset := branch.component.args.get("dataset")) is not None]


Asked = Mapping[tuple[int, int], Sequence[int]]  # by optimizer and rewind: number of seeds wanted at level 1, 2, ...


def plan(recipe: Recipe, fingerprint: str, others: Mapping[str, str] | None = None, asked: Asked | None = None) -> Plan:
    """Return all jobs of a recipe, learning rates first, then seed by seed, analyses last. No torch, no disk.

    Args:
        recipe: the recipe.
        fingerprint: sha256 of its data.
        others: fingerprints of `other_data`, by the digest of their identity.
        asked: if given, only the tickets and controls that it names, counted from the front of the recipe's seeds, and
            what they need.
    """
    draft = _Draft(recipe, fingerprint, others or {}, asked)
    jobs: dict[str, Job] = {}
    for job in draft.jobs():
        jobs.setdefault(job.key, job)
    for job in list(analysis_jobs(recipe, jobs)):
        jobs.setdefault(job.key, job)
    return Plan(recipe, fingerprint, jobs, draft.others)


def untuned_optimizers(recipe: Recipe) -> list[Component]:
    """Return the optimizers of a recipe, without the ranges that their learning rates are to be looked for in."""
    return [Component(o.name, {k: v for k, v in o.args.items() if k != "rates"}) for o in recipe.train.optimizer]


def retraining_branch(optimizer: Component) -> BranchSpec:
    """Return the branch that retrains a ticket with another optimizer."""
    return BranchSpec.model_validate({"name": "retrain", "optimizer": optimizer})


class _Draft:
    """Memory of the jobs made so far: those made later need the keys of those made before."""

    def __init__(self, recipe: Recipe, fingerprint: str, others: Mapping[str, str], asked: Asked | None):
        self.recipe, self.fingerprint, self.others, self.asked = recipe, fingerprint, others, asked
        self.optimizers = untuned_optimizers(recipe)
        self.labels = told_apart(recipe.train.optimizer)
        self.choices: list[str] = []  # a key for each optimizer where the recipe tunes
        self.tickets: dict[tuple[int, int, int, int], Job] = {}  # by seed, optimizer, rewind and level
        self.own: dict[tuple[int, ...], str] = {}  # the last key of a trunk, by seed, optimizer, rewind, branch, sample

    def jobs(self) -> Iterator[Job]:
        recipe = self.recipe
        if recipe.tune is not None:
            for place, optimizer in enumerate(recipe.train.optimizer):
                yield from self._tuning(place, optimizer)
            self.optimizers = [
                Component(o.name, {**o.args, "lr": Chosen(key)})
                for o, key in zip(self.optimizers, self.choices, strict=True)
            ]
        for seed in recipe.seeds:
            for place in range(len(self.optimizers)):
                yield from self._trainings(seed, place)
        if any(registry.branches[branch.name].traits.partner for branch in recipe.branches):
            for where, ticket in self.tickets.items():
                yield from self._branches(ticket, where, partnered=True)
        if recipe.transfer is not None:
            for ticket in self.tickets.values():
                yield from self._transfers(ticket)

    def _tuning(self, place: int, optimizer: Component) -> Iterator[Job]:
        """Yield the trials of an optimizer's learning rates, and the choice among them."""
        tune = self.recipe.tune
        assert tune is not None
        trials = []
        for rate in learning_rates(tune, optimizer):
            for seed in tune.seeds:
                component = Component(optimizer.name, {**self.optimizers[place].args, "lr": rate})
                training = training_identity(self.recipe, self.fingerprint, seed, component)
                training.pop("metrics", None)  # no rate is chosen by them
                identity = {"schema": SCHEMA, "kind": Kind.TRIAL.value, "training": training}
                trials.append(Job(Kind.TRIAL, identity, None, seed, component, place, self.labels[place]))
        yield from trials
        identity = {
            "schema": SCHEMA,
            "kind": Kind.CHOICE.value,
            "trials": [trial.key for trial in trials],
            "by": tune.by,
            "report": self.recipe.report,
        }
        needs = tuple(trial.key for trial in trials)
        optimizer, label = self.optimizers[place], self.labels[place]
        choice = Job(Kind.CHOICE, identity, None, tune.seeds[0], optimizer, place, label, needs=needs)
        self.choices.append(choice.key)
        yield choice

    def _trainings(self, seed: int, place: int) -> Iterator[Job]:
        """Yield the trainings of one seed and optimizer.

        Rewind points come first, then the dense network, then for each rewind a trunk with its branches.
        """
        recipe, optimizer, label = self.recipe, self.optimizers[place], self.labels[place]
        wanted = [self._wanted(seed, place, number) for number in range(len(recipe.rewind))]
        if self.asked is not None and not any(wanted):
            return
        training = training_identity(recipe, self.fingerprint, seed, optimizer)
        choice = tuple(self.choices[place : place + 1])
        points: dict[Duration, Job] = {}
        states = [*recipe.rewind, *(RewindSpec(to=at) for at in dense_starts(recipe))]
        for rewind in sorted(states, key=lambda r: (r.to.value > 0, r.to.unit, r.to.value)):
            identity = {"schema": SCHEMA, "kind": Kind.REWIND.value, "training": training, "to": point_label(rewind.to)}
            needs = (*choice, *(job.key for job in points.values()))
            point = Job(Kind.REWIND, identity, None, seed, optimizer, place, label, rewind=rewind, needs=needs)
            if rewind.to not in points:
                points[rewind.to] = point
                yield point
        identity = {"schema": SCHEMA, "kind": Kind.DENSE.value, "training": training}
        needs = (*choice, *(job.key for job in points.values()))
        dense = Job(Kind.DENSE, identity, None, seed, optimizer, place, label, needs=needs)
        yield dense
        for number, rewind in enumerate(recipe.rewind):
            base = dense.rewound_to(rewind, points[rewind.to].key)
            for ticket in _tickets(recipe, base):
                if ticket.level > max(wanted[number], default=0):
                    break
                if ticket.level not in wanted[number] and recipe.prune.alone:
                    continue
                yield ticket
                where = (seed, place, number, ticket.level)
                self.tickets[where] = ticket
                if ticket.level in wanted[number]:
                    yield from self._branches(ticket, where, partnered=False)

    def _wanted(self, seed: int, place: int, number: int) -> set[int]:
        """Return the levels at which this seed is wanted; a trunk has those between them as well."""
        if self.asked is None:
            return set(range(1, self.recipe.prune.deepest + 1))
        index = self.recipe.seeds.index(seed)
        return {level for level, seeds in enumerate(self.asked.get((place, number), ()), start=1) if index < seeds}

    def _branches(self, ticket: Job, where: tuple[int, int, int, int], partnered: bool) -> Iterator[Job]:
        """Yield the ticket's controls: those that need another seed's ticket if `partnered`, else the others."""
        recipe = self.recipe
        for place, branch in enumerate(recipe.branches):
            if branch.levels is not None and ticket.level not in branch.levels:
                continue
            if is_the_ticket(branch, recipe.prune, ticket.level):
                continue
            if registry.branches[branch.name].traits.partner != partnered:
                continue
            partner = self._partner(where) if partnered else None
            own = branch.trunk == "own"  # then it is pruned as the ticket is, from what it trained at the level above
            for sample in range(branch.samples):
                above = (*where[:3], place, sample)
                parent = self.own.get(above, ticket.parent) if own else ticket.key
                assert parent is not None
                identity = {
                    **({**ticket.identity, "trunk": "own"} if own else {"schema": SCHEMA}),
                    "kind": Kind.BRANCH.value,
                    "parent": parent,
                    "branch": branch_identity(branch.component, self.recipe, self.others, ticket.rewind),
                    "sample": sample,
                    **({"partner": partner} if partner else {}),
                }
                needs = (parent, *([partner] if partner else []), *ticket.needs[1 if own else 0 :])
                job = _off(ticket, identity, branch, needs=needs, sample=sample, partner=partner)
                if own:
                    self.own[above] = job.key
                yield job

    def _partner(self, where: tuple[int, int, int, int]) -> str:
        seeds = self.recipe.seeds
        following = seeds[(seeds.index(where[0]) + 1) % len(seeds)]
        return self.tickets[(following, *where[1:])].key

    def _transfers(self, ticket: Job) -> Iterator[Job]:
        """Yield the ticket retrained with each other optimizer of the recipe."""
        transfer = self.recipe.transfer
        assert transfer is not None
        if transfer.levels is not None and ticket.level not in transfer.levels:
            return
        for place, optimizer in enumerate(self.optimizers):
            if place == ticket.optimizer_index:
                continue
            component = Component("retrain", {"optimizer": optimizer})
            identity = {
                "schema": SCHEMA,
                "kind": Kind.BRANCH.value,
                "parent": ticket.key,
                "branch": with_versions("branch", component),
                "sample": 0,
            }
            needs = (ticket.key, *self.choices[place : place + 1], *ticket.needs)
            about: dict[str, Any] = {"needs": needs, "transfer": place, "transfer_label": self.labels[place]}
            yield _off(ticket, identity, retraining_branch(optimizer), **about)


def _off(ticket: Job, identity: dict[str, Any], branch: BranchSpec, **about: Any) -> Job:
    return replace(ticket, kind=Kind.BRANCH, identity=identity, parent=identity["parent"], branch=branch, **about)


def _tickets(recipe: Recipe, dense: Job) -> Iterator[Job]:
    """Yield the tickets of a trunk, each pruned from the level before, or all from the dense network."""
    prune, parent = recipe.prune, dense
    for level, (fraction, times, densities) in enumerate(amounts(prune), start=1):
        parent = dense if prune.alone else parent
        assert dense.rewind is not None
        rounds = prune.rounds_of_criterion
        unusual = {
            "times": times if times != 1 else None,
            "when": prune.when if prune.when != "trained" else None,
            "rounds": rounds if rounds != 1 and prune.when != "training" else None,
            "during": prune.during.model_dump(mode="json") if prune.during else None,
            "densities": [[pattern, density] for pattern, density in densities.items()] or None,
        }
        identity = {
            "schema": SCHEMA,
            "kind": Kind.TICKET.value,
            "parent": parent.key,
            "prune": {
                "criterion": registry.criteria.identity(prune.criterion),
                "scope": prune.scope,
                "fraction": str(fraction),
                "rates": [[pattern, str(exact(rate))] for pattern, rate in prune.rates.items()],  # the first fit counts
                **{name: value for name, value in unusual.items() if value is not None},
            },
            "rewind": rewind_identity(recipe, dense.rewind),
        }
        assert dense.point is not None
        parent = replace(
            dense,
            kind=Kind.TICKET,
            identity=identity,
            parent=parent.key,
            level=level,
            fraction=fraction,
            times=times,
            densities=densities,
            needs=(parent.key, dense.point),
        )
        yield parent
