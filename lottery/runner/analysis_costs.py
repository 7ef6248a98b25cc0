"""The cost of analyses before they run: examples that go through the network, and the seconds that each takes here."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.device import prepared
from lottery.landscape.surface import Surface
from lottery.training.objective import loss_of
from lottery.training.running_statistics import running_statistics
from lottery.traits import Work

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext

TURNS = 5  # of each operation that is timed, the median of which counts
SECONDS = 4.0  # after which it is not timed again
TIMED = 128  # examples that are timed at least
QUICK = 0.05  # seconds of a gradient; where it takes less, most of it is none of its examples, and more are timed


@dataclass(frozen=True)
class Costs:
    """Numbers of examples, or seconds for an example, by what is done with it.

    Attributes:
        forward: It goes through the network.
        gradient: The gradient of its loss is taken.
        product: The product of its loss' Hessian with a vector is taken.
    """

    forward: float
    gradient: float
    product: float

    def times(self, other: Costs) -> float:
        """Return the sum of products: of numbers of examples with seconds for each, the seconds."""
        return self.forward * other.forward + self.gradient * other.gradient + self.product * other.product


TYPICAL = Costs(1 / 3, 1.0, 3.0)  # in forward and backward passes


def examples_of(context: RunContext, job: Job) -> Costs:
    """Return how many examples an analysis puts through the network in what way, at most.

    Measurements that end before, at convergence or at a standard error, take less.
    """
    assert job.analysis is not None
    component = job.analysis.component
    traits = registry.analyses[component.name].traits
    args = registry.analyses[component.name].all_arguments(component.args)
    said: Work | float = 1.0 if traits.passes is None else traits.passes(args)
    work = said if isinstance(said, Work) else Work(gradients=said, each=True)
    states = len(job.looks) if traits.looks_at == "trajectory" and work.each else 1
    parts = _parts(context, args.get("examples"))
    train, forwards, products = parts["train"], work.forwards, work.products
    here = sum(parts[part] for part in work.parts or parts)
    model = context.networks.blank()
    twice = work.bn == "both" and bool(running_statistics(model))
    reset = work.bn != "interpolate" and bool(running_statistics(model))
    if work.block_products is not None:
        products += sum(work.block_products(p.numel()) for p in model.parameters() if p.requires_grad)
    evaluated = work.points * ((1 + twice) * here + reset * train)
    return Costs(states * (forwards * train + evaluated), states * work.gradients * train, states * products * train)


def _parts(context: RunContext, limit: int | None) -> Mapping[str, int]:
    """Return the number of examples of each part that an analysis looks at."""
    sizes = context.sizes()
    whole = {"train": sizes.train, "validation": sizes.validation, "test": len(context.splits.test_x)}
    return {part: count if limit is None else min(limit, count) for part, count in whole.items()}


def seconds_of(context: RunContext, jobs: Iterable[Job]) -> tuple[dict[str, float], bool]:
    """Return the seconds that analyses will take by their keys, and True if finished ones alone tell.

    An analysis takes as long as finished ones with the same arguments on average; for others a few passes over a batch
    are timed now and thrown away.
    """
    known = _finished(context)
    found: dict[str, float] = {}
    unknown: dict[str, Costs] = {}
    for job in jobs:
        assert job.analysis is not None
        if (past := known.get(repr(job.analysis.component))) is not None:
            found[job.key] = past
        else:
            unknown[job.key] = examples_of(context, job)
    if unknown:
        rates = time_examples(context, products=any(costs.product for costs in unknown.values()))
        found |= {key: costs.times(rates) for key, costs in unknown.items()}
    return found, not unknown


def _finished(context: RunContext) -> dict[str, float]:
    """Return the mean seconds of the finished analyses of the plan, by the entry and its arguments."""
    taken: dict[str, list[float]] = {}
    for job in context.plan:
        manifest = context.store.find(job.key) if job.analysis is not None else None
        if job.analysis is not None and manifest is not None and manifest.status == "done":
            taken.setdefault(repr(job.analysis.component), []).append(manifest.seconds)
    return {name: sum(seconds) / len(seconds) for name, seconds in taken.items()}


def time_examples(context: RunContext, *, products: bool) -> Costs:
    """Return the seconds that this machine takes for an example, from a batch of the recipe's data.

    Args:
        context: The context of the run.
        products: False to leave out Hessian products, which then have 0 seconds.
    """
    recipe, seed = context.plan.recipe, context.plan.recipe.seeds[0]
    data = context.data(seed)
    with prepared(context.machine, recipe.train.precision):
        x, y = next(data.evaluation("train"))
        loss = loss_of(regression=data.regression, label_smoothing=recipe.train.label_smoothing)
        model = context.networks.network(seed).to(context.machine.device)
        size = min(TIMED, len(y))
        surface = Surface(model, lambda part: iter([(x[:size], y[:size])]), loss=loss)
        while (gradient := _seconds(surface.gradient)) < QUICK and size < len(y):
            size = min(4 * size, len(y))
        vector = surface.here().vector
        forward = _seconds(lambda: surface.measure("train"))
        product = _seconds(lambda: surface.hessian_product(vector)) if products else 0.0
    return Costs(forward / size, gradient / size, product / size)


def _seconds(operation: Callable[[], Any]) -> float:
    """Return the median time of an operation that ends in a number on the host, after one that warms up."""
    operation()
    taken: list[float] = []
    while len(taken) < TURNS and sum(taken) < SECONDS:
        began = time.perf_counter()
        operation()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
