"""One analysis by hand: the plan of its job, made from keys of finished trainings, as a recipe's run would make it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.device import machine
from lottery.errors import DataError, UsageError
from lottery.plan.analyses import START, analysis_job, has_state, shares, states_of
from lottery.plan.jobs import Job, Look, Plan
from lottery.plan.timeline import Timeline
from lottery.recipe.readings import READINGS
from lottery.results.stored_training import StoredTraining, find_training
from lottery.runner.analysis_checks import check_analyses
from lottery.runner.context import RunContext
from lottery.runner.execute import commit, found_states
from lottery.runner.run import run_job
from lottery.runner.states import step_of
from lottery.signals import Stop
from lottery.values import Duration
from lottery.words import counted, short

if TYPE_CHECKING:
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.runner.events import Event
    from lottery.store.store import Store

NETWORKS = {
    "state": 1,
    "pair": 2,
    "three": 3,
    "trajectory": 1,
    "children": 2,
}  # that an analysis looks at, by its trait


@dataclass(frozen=True)
class Network:
    """A network that an analysis by hand looks at, written `KEY[/TICKET][@MOMENT]`.

    Attributes:
        training: Its training.
        at: The moment of the training: a reading, `start`, a length such as `500it`, or a share such as `1/4`.
        ticket: The ticket whose mask is put on it; None for its own.
    """

    training: StoredTraining
    at: str = "end"
    ticket: StoredTraining | None = None

    @classmethod
    def find(cls, store: Store, text: str) -> Network:
        """Return the network of a text.

        Raises:
            UsageError: There is no such network.
        """
        named, _, at = text.partition("@")
        key, under, ticket = named.partition("/")
        found = find_training(store, key)
        if at and at not in READINGS and at != START and "/" not in at:
            try:
                Duration.parse(at)
            except ValueError as error:
                raise UsageError(f"{text}: {error}, or one of {', '.join((*READINGS, START))}") from None
        mask = find_training(store, ticket) if under else None
        if mask is not None and mask.name != "ticket":
            raise UsageError(
                f"{text}: {short(mask.key)} is {mask.label}, which keeps no mask; name a ticket behind the /"
            )
        return cls(found, at or "end", mask)

    @property
    def name(self) -> str:
        """The network in words, as a recipe's analyses call it."""
        name = self.training.name if self.ticket is None else "pruned"
        return name if self.at in READINGS else f"{name} at {self.at}"


def plan_analysis(store: Store, spec: AnalysisSpec, networks: Sequence[Network]) -> tuple[Plan, Job]:
    """Return a plan of the trainings that an analysis looks at and its own job, the one that a recipe's would be.

    Raises:
        UsageError: These are not as many networks as the analysis looks at, or they do not go together.
    """
    _check_networks(spec, networks)
    jobs: dict[str, Job] = {}
    looks: list[Look] = []
    names = _names(networks)
    for network, name in zip(networks, names, strict=True):
        jobs |= network.training.jobs() | ({} if network.ticket is None else network.ticket.jobs())
        training = jobs[network.training.key]
        moments = tuple(shares(spec.along or 5)) if spec.looks_at == "trajectory" else (network.at,)
        kept = None
        if not all(has_state(training, moment) for moment in moments):
            states = replace(states_of(training, moments), needs=())
            jobs[states.key], kept = states, states.key
        mask = None if network.ticket is None else network.ticket.key
        looks += [Look(name, training.key, at, kept, mask) for at in moments]
    if len({tuple(look.identity) for look in looks}) < len(looks):
        raise UsageError(
            f"{spec.name}: the same state is named twice, so that nothing lies between; name two that differ"
        )
    first = networks[0].training
    job = analysis_job(spec, jobs[networks[-1].training.key], looks, jobs)
    jobs[job.key] = job
    recipe = first.recipe.model_copy(update={"analyses": (spec,)})
    return Plan(recipe, first.training["fingerprint"], jobs), job


def _check_networks(spec: AnalysisSpec, networks: Sequence[Network]) -> None:
    """Raise UsageError where these are not as many networks as the analysis looks at, or they do not go together."""
    wanted, first = NETWORKS[spec.looks_at], networks[0]
    if len(networks) != wanted:
        more = f"name {wanted - 1} more by --with KEY" if len(networks) < wanted else "leave --with out"
        raise UsageError(f"{spec.name}: looks at {counted(wanted, 'network')}, not at {len(networks)}; {more}")
    if spec.looks_at == "trajectory" and first.at != "end":
        raise UsageError(f"{spec.name}: looks at a whole training; leave @{first.at} out, along=N says how many states")
    if spec.looks_at == "trajectory" and first.ticket is not None:
        raise UsageError(
            f"{spec.name}: looks at a whole training under its own mask; leave /{short(first.ticket.key)} out"
        )
    states = {each.training.chain[0].get("parent") if each.training.name == "child" else None for each in networks}
    if spec.looks_at == "children" and (None in states or len(states) > 1):
        raise UsageError(
            f"{spec.name}: looks at two children of one state; name two of those that a recipe has trained"
        )
    trainings = [each for network in networks for each in (network.training, network.ticket) if each is not None]
    for other in trainings[1:]:
        for field, what in (("fingerprint", "data"), ("data", "data"), ("model", "models")):
            if other.training[field] != first.training.training[field]:
                raise UsageError(
                    f"{short(first.training.key)} and {short(other.key)}: were trained with different {what}, so that "
                    "nothing lies between them; name networks of one model and one data set"
                )


def _names(networks: Sequence[Network]) -> list[str]:
    """Return the names of the networks, those of the same name with their keys."""
    names = [network.name for network in networks]
    return [
        name if names.count(name) == 1 else f"{name} {short(network.training.key)}"
        for name, network in zip(names, networks, strict=True)
    ]


def open_context(
    store: Store, plan: Plan, data: Path, device: str, *, deterministic: bool = False, stop: Stop | None = None
) -> RunContext:
    """Return the context that the plan's analysis is run in.

    Raises:
        DataError: The data are missing, or are not those that the networks were trained on.
        UsageError: The network lacks what the analysis needs.
    """
    splits = load(plan.recipe.data.component, data, plan.recipe.data.label_noise)
    if (found := fingerprint(splits)) != plan.fingerprint:
        raise DataError(
            f"{data}: {plan.recipe.data.component.name} is not what the network was trained on: its hash is "
            f"{short(found)}, not {short(plan.fingerprint)}; name the folder of those data with --data"
        )
    context = RunContext(plan, store, machine(device, deterministic=deterministic), splits, stop=stop or Stop())
    check_analyses(context)
    return context


def measure(context: RunContext, job: Job, networks: Sequence[Network]) -> Iterator[Event]:
    """Run an analysis by hand: its states are looked up first, then it is run as a job of any plan.

    Raises:
        UsageError: A state was not kept, or there is no such step.
        Interrupted: It was told to stop; what is finished is saved.
    """
    for look in dict.fromkeys((look.key, look.kept, look.at) for look in job.looks):
        key, kept, at = look
        training = next(each.training for each in networks if each.training.key == key)
        if at == START and (why := training.start_unknown):
            raise UsageError(
                f"{short(key)}: where {training.label} starts is known to its recipe alone, as {why}; name the network "
                "in the recipe's `analyses`, and run that"
            )
        if kept is None and at in READINGS and not training.metrics.get(at):
            there = ", ".join(name for name in READINGS if training.metrics.get(name))
            raise UsageError(f"{short(key)}: has no {at}; there are {there}")
        if kept is not None and context.store.find(kept) is None:
            _keep_states(context, context.plan.jobs[kept], training)
    yield from run_job(context, job)


def _keep_states(context: RunContext, states: Job, training: StoredTraining) -> None:
    """Commit the job that says where the states of a training are.

    Raises:
        UsageError: One was not kept, or the training has no such step.
    """
    timeline = _timeline(context, training)
    result = found_states(context, states, timeline)
    if result is None:
        found = (step_of(moment, timeline) for moment in states.moments if moment != START)
        steps = sorted({step for step in found if step is not None})
        raise UsageError(
            f"{short(training.key)}: {training.label} did not keep its states at {', '.join(states.moments)} "
            f"(step {', '.join(map(str, steps))}); write them under `keep` in its recipe, or the analysis under "
            "`analyses`: its next run trains it again as far as needed"
        )
    commit(context, states, result, 0.0, context.machine.environment())


def _timeline(context: RunContext, training: StoredTraining) -> Timeline:
    """Return the timeline of a finished training, by its own curve."""
    steps = [int(row["step"]) for row in training.metrics["curve"]]
    optimizer = training.branch.get("optimizer") or training.training["optimizer"]
    examples = context.sizes().train
    size = optimizer.get("batch_size", training.training["batch_size"])
    batch = examples if size == "all" else int(size)
    return Timeline(steps[0], steps[-1], steps[-1], 1, -(-examples // batch), batch)
