"""What a plan comes to before it is run: jobs, time and disk, and what its data and network say of it.

Of a plan whose jobs are all finished the store tells: neither data nor torch is read then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.data.duplicates import known_duplicates, remembered
from lottery.plan.kinds import Kind
from lottery.results.mixed_environments import foreseen
from lottery.results.record import record_of
from lottery.results.resolution import floor, floor_of
from lottery.runner.finished import finished_plan
from lottery.runner.work_left import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lottery.data.duplicates import Duplicates
    from lottery.data.splits import Splits
    from lottery.plan.jobs import Plan
    from lottery.results.record import Record
    from lottery.runner.context import RunContext
    from lottery.runner.events import Request
    from lottery.runner.needs import Needs
    from lottery.store.store import Store


@dataclass(frozen=True)
class Outlook:
    """What a plan comes to.

    Attributes:
        plan: The plan.
        states: The state of each job by its key, as `Store.state` has it.
        estimate: The work that is left.
        mixed: Sentences on environments that a run here would mix.
        least_spread: The least spread that verdicts will believe of differences; 0 for a regression.
        needs: What a worker needs to take the missing jobs; None where nothing is missing and nobody asked.
        never_pruned: Number of weights by layer that are never pruned.
        prunable: Number of the others.
        copies: Counts of exact copies in the data; None where nobody can look.
    """

    plan: Plan
    states: Mapping[str, str]
    estimate: Estimate
    mixed: list[str]
    least_spread: float
    needs: Needs | None
    never_pruned: Mapping[str, int]
    prunable: int
    copies: Duplicates | None


def outlook(request: Request, store: Store, *, needs: bool = False) -> Outlook:
    """Return what a recipe's plan comes to; what is missing of it is checked against data, network and machine.

    Args:
        request: The recipe and the machine.
        store: The store of the request.
        needs: True to say what a worker needs also where nothing is missing, which takes data and network.

    Raises:
        UsageError: Where something is missing, and the recipe does not fit the data, the network or the machine.
        DataError: Where the data have to be read and are missing or damaged.
    """
    plan = finished_plan(request, store)
    if plan is not None and not needs and (found := _of_finished(plan, store)) is not None:
        return found
    from lottery.runner.prepare import look

    return _of_context(look(request, store=store, known=plan))


def _of_context(context: RunContext) -> Outlook:
    """Return what the plan of a run comes to; times a few steps where nothing tells how long they take."""
    from lottery.network.build import prunable
    from lottery.network.layout import Layout
    from lottery.runner.estimate import estimate
    from lottery.runner.needs import needs_of

    plan, store, told = context.plan, context.store, estimate(context)
    left = Layout.of(network := context.networks.blank()).left
    weights = sum(weight.numel() for weight in prunable(network).values())
    return Outlook(
        plan,
        {job.key: store.state(job.key) for job in plan},
        told,
        foreseen(plan, store, context.machine.environment()),
        least_spread_of(context.splits),
        needs_of(context),
        left,
        weights,
        remembered(store, plan.fingerprint) or known_duplicates(plan.fingerprint, context.splits),
    )


def _of_finished(plan: Plan, store: Store) -> Outlook | None:
    """Return what a plan with nothing missing comes to; None where what the store has does not tell it."""
    found = {job.key: store.find(job.key) for job in plan}
    states = {key: manifest.status for key, manifest in found.items() if manifest is not None}
    copies, dense = remembered(store, plan.fingerprint), next(_dense(plan, store), None)
    if len(states) < len(plan) or copies is None or dense is None:
        return None
    least = floor_of([dense], store)
    if not least and "test_r2" not in (dense.at("end") or {}):
        return None
    told = Estimate(len(plan), 0, 0.0, True, "", 0, store.free_bytes(), {})
    left, sizes = dense.metrics.get("never_pruned", {}), dense.metrics["sizes"]
    return Outlook(plan, states, told, [], least, None, left, sum(sizes.values()), copies)


def _dense(plan: Plan, store: Store) -> Iterator[Record]:
    """Yield the dense networks that ended well."""
    for job in plan:
        if job.kind is Kind.DENSE:
            record = record_of(plan, store, job)
            if record is not None and record.diverged is None:
                yield record


def least_spread_of(splits: Splits) -> float:
    """Return the least spread that verdicts will believe of differences on a test set; 0 for a regression."""
    return 0.0 if splits.regression else floor(len(splits.test_y))
