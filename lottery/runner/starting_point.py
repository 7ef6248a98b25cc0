"""The starting point of a job: weights, mask and how it trains, from what is finished in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lottery import registry
from lottery.network.layout import load
from lottery.plan.kinds import METRICS_FILE, Kind
from lottery.pruning.gradual import Gradual
from lottery.pruning.iterative import next_start, prune
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Context, Criterion, Lazy, Scores, Weights, scoring
from lottery.pruning.start import Start
from lottery.runner.entry_checks import check_scores
from lottery.runner.stored_level import StoredLevel
from lottery.runner.timelines import whole_timeline
from lottery.seed import generator, stream
from lottery.training.objective import loss_of, without_a_last_one_alone
from lottery.values import Chosen, Component

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import RunContext
    from lottery.store.store import Store

SCORING_BATCH = 128  # examples, where a criterion counts them by class: a second derivative takes memory


def starting_point(context: RunContext, job: Job) -> Start:
    """Return where the job's training starts: initialization, the next level of its trunk, a branch, or a copy.

    It is read, or computed, from what is finished in the store.
    """
    if job.kind.starts_at_initialization:
        return StoredLevel(context, job).initial
    if job.kind is Kind.CHILD:
        return _copied(context, job)
    trunk = context.plan.trunk(job)
    depth = len(trunk) - 1  # unlike the level, it is part of the key: a one-shot ticket is one prune away from dense
    if job.kind is Kind.BRANCH:
        own = _own_mask(context, trunk) if job.own_trunk else None
        level = StoredLevel(context, trunk[-1], job.partner, lambda draws: _criterion(context, trunk[-1], draws), own)
        return _branched(job, depth, level)
    assert job.rewind is not None
    prune = context.plan.recipe.prune
    above, pruning = StoredLevel(context, trunk[-2]), StoredLevel(context, job).pruning
    if prune.when == "training":
        assert prune.during is not None
        steps = whole_timeline(context, job.optimizer).steps
        start, end, every = (steps(each) for each in (prune.during.start, prune.during.end, prune.during.every))
        target = pruning.keep(above.mask)
        names = pruning.takes_part(above.mask)

        def during_training(step: int) -> Criterion:
            return _criterion(context, job, generator(job.seed, f"mask/{step}", depth))

        gradual = Gradual(start, end, every, target, names, during_training)
        return replace(above.rewound, gradual=gradual)
    criterion = _criterion(context, job, generator(job.seed, "mask", depth))
    rounds = prune.rounds_of_criterion
    return next_start(above, pruning, criterion, job.rewind.mode, when=prune.when, rounds=rounds)


def _copied(context: RunContext, child: Job) -> Start:
    """Return the start of a child: that of its ticket's training, or the dense network at a step, under its noise."""
    assert child.parent is not None
    if context.plan.jobs[child.parent].kind is Kind.REWIND:
        start = StoredLevel(context, child).rewound
    else:
        start = StoredLevel(context, context.plan.trunk(child)[-1]).start
    return replace(start, spec=replace(start.spec, noise=child.noise))


def resolve_rate(store: Store, start: Start) -> tuple[Start, dict[str, Any]]:
    """Return the start with the learning rate it trains at, and what the training's metrics say of the choice.

    That is `lr` and `lr_edge`, the side on which the rate was the last of those tried; nothing where the recipe gives
    the rate.
    """
    optimizer = start.spec.optimizer
    rate = optimizer.args.get("lr")
    if not isinstance(rate, Chosen):
        return start, {}
    choice = store.read_json(rate.key, METRICS_FILE)
    resolved = Component(optimizer.name, {**optimizer.args, "lr": choice["lr"]})
    return replace(start, spec=replace(start.spec, optimizer=resolved)), {"lr": choice["lr"], "lr_edge": choice["edge"]}


def _branched(job: Job, depth: int, level: StoredLevel) -> Start:
    """Return the start that the job's branch makes of this level."""
    assert job.branch is not None
    component = job.branch.component
    draws = generator(job.seed, f"branch/{component.name}/{depth}", job.sample)
    entry = registry.branches[component.name]
    return entry.checked(entry.make(level, draws, **component.args), Start)


def _own_mask(context: RunContext, trunk: Sequence[Job]) -> Mask:
    """Return the mask at the end of a control's own trunk: what the level above it trained, pruned once more.

    What a criterion takes as initial weights are those which that training started from.
    """
    job, depth = trunk[-1], len(trunk) - 1
    above = StoredLevel(context, trunk[-2])

    def initial() -> Weights:
        return _branched(above.job, depth - 1, above).weights if depth > 1 else above.rewound.weights

    criterion = _criterion(context, job, generator(job.seed, "mask", depth), initial)
    rounds = context.plan.recipe.prune.rounds_of_criterion
    return prune(above.trained, above.mask, StoredLevel(context, job).pruning, criterion, rounds)


def _criterion(
    context: RunContext, job: Job, draws: torch.Generator, initial: Callable[[], Weights] | None = None
) -> Criterion:
    """Return the recipe's criterion with what it may look at, for a level of the trunk.

    Args:
        context: What all jobs share.
        job: The level.
        draws: What the criterion draws from.
        initial: Gives its initial weights; those at the rewind point where None.
    """
    prune, data, device = context.plan.recipe.prune, context.data(job.seed), context.machine.device
    entry = registry.criteria[prune.criterion.name]
    level = StoredLevel(context, job)

    def network_with(state: Weights) -> nn.Module:
        network = context.networks.blank()
        load(network, state)
        return network.to(device).eval()

    def examples(count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        left = data.train_size if count is None else count
        for x, y in data.evaluation("train"):
            if left > 0:
                yield x[:left], y[:left]
            left -= len(y)

    def balanced(per_class: int) -> Iterator[tuple[Tensor, Tensor]]:
        return without_a_last_one_alone(data.balanced(per_class, SCORING_BATCH))

    def effective_weights(state: Weights) -> dict[str, Tensor]:
        return context.networks.effective({name: value.to(device) for name, value in state.items()})

    @cache
    def initial_weights() -> dict[str, Tensor]:
        return effective_weights(level.rewound.weights if initial is None else initial())

    def criterion(state: Weights, mask: Mask) -> Scores:
        weights = effective_weights(state)
        seen = Context(
            draws,
            initial=Lazy(mask, lambda name: initial_weights()[name]),
            alive=mask,
            network=lambda: network_with(state),
            loss=loss_of(regression=data.regression, label_smoothing=context.plan.recipe.train.label_smoothing),
            examples=examples,
            balanced=balanced,
        )
        with scoring(context.networks.blank(), device, stream(draws.initial_seed(), "score")):
            scores: Scores = entry.make({name: weights[name] for name in mask}, seen, **prune.criterion.args)
        if entry.code:
            check_scores(entry, scores, mask)
        return scores

    return criterion
