"""The children of states: copies that are trained on under noise of their own, two of which an analysis looks at.

A child has all that its state has: weights and buffers, the mask, the optimizer's state, and its place on the learning
rate's schedule. It differs from its siblings in the order of the data, in augmentation and in dropout alone, all of
which `lottery.seed.noisy` draws anew. Source: Frankle, Dziugaite, Roy & Carbin 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery.plan.jobs import Job
from lottery.plan.keys import SCHEMA
from lottery.plan.kinds import Kind
from lottery.recipe.analyses import DENSE, TICKET
from lottery.values import point_label

if TYPE_CHECKING:
    from lottery.recipe.analyses import AnalysisSpec
    from lottery.recipe.schema import Recipe
    from lottery.values import Duration

Pair = tuple[str, Job, Job, Job]  # the state in words, the job that the pair stands beside, and two children


def dense_starts(recipe: Recipe) -> list[Duration]:
    """Return the steps at which the dense network's state is kept for children, beside the recipe's rewind points."""
    asking = (analysis for analysis in recipe.analyses if analysis.looks_at == "children")
    return [at for analysis in asking if DENSE in analysis.networks for at in analysis.at or ()]


def pairs_of_children(analysis: AnalysisSpec, recipe: Recipe, jobs: Iterable[Job]) -> Iterator[Pair]:
    """Yield the pairs of children that an analysis looks at, each child in one pair.

    Those of the dense network start from its states at the steps of `at`; those of a ticket where its own training
    starts, of each trunk that is rewound to one of these steps.
    """
    starts = analysis.starts([rewind.to for rewind in recipe.rewind])
    for job in jobs:
        if job.rewind is None or job.rewind.to not in starts:
            continue
        if analysis.levels is not None and job.level not in analysis.levels:
            continue
        dense = job.kind is Kind.REWIND and DENSE in analysis.networks
        if dense or (job.kind is Kind.TICKET and TICKET in analysis.networks):
            words = f"{DENSE if dense else TICKET} from {point_label(job.rewind.to)}"
            for pair in range(analysis.number_of_pairs):
                one, two = (child_of(job, 2 * pair + number) for number in (1, 2))
                yield words, replace(job, rewind=None) if dense else job, one, two


def child_of(job: Job, noise: int) -> Job:
    """Return the job that trains a copy of a state on: of that of a rewind job, or of where a ticket's training starts.

    Args:
        job: The rewind job or ticket.
        noise: Number of the child's noise, from 1.
    """
    identity = {"schema": SCHEMA, "kind": Kind.CHILD.value, "parent": job.key, "noise": noise}
    point = job.key if job.kind is Kind.REWIND else job.point
    needs = (job.key, *job.needs)
    return replace(job, kind=Kind.CHILD, identity=identity, parent=job.key, noise=noise, point=point, needs=needs)
