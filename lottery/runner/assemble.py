"""From a job to its training: where it starts, what scores its weights, which network, optimizer and data it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lottery import registry
from lottery.catalogue.branches._learned import drawn
from lottery.catalogue.criteria import Context, Lazy, Scores
from lottery.catalogue.schedules import multiplier, peak
from lottery.data.splits import Data
from lottery.engines.choose import engine_for, refuse
from lottery.errors import Interrupted
from lottery.network.layout import load
from lottery.plan.origins import carries_state
from lottery.pruning.iterative import Criterion, Gradual, Spec, Start, Weights, next_start, prune
from lottery.pruning.mask import Mask
from lottery.results.artifacts import StoredLevel
from lottery.runner.batch_sizes import check_other_model
from lottery.seed import generator, stream
from lottery.training.objective import Batch, Objective, without_a_last_one_alone
from lottery.training.running_statistics import recalibrate
from lottery.training.trainer import Stopped, Training, load_optimizer
from lottery.values import Component, Duration

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.runner.context import Bench

SCORING_BATCH = 128  # examples, where a criterion counts them by class: a second derivative takes memory


def starting_point(bench: Bench, job: Job) -> Start:
    """Where the job's training starts: initialization, the next level of its trunk, or a branch of a level."""
    if job.kind in ("trial", "rewind", "dense"):
        return StoredLevel(bench, job).initial
    trunk = bench.plan.trunk(job)
    depth = len(trunk) - 1  # unlike the level, it is part of the key: a one-shot ticket is one prune away from dense
    if job.kind == "branch":
        own = _own_mask(bench, trunk) if job.own_trunk else None
        level = StoredLevel(bench, trunk[-1], job.partner, lambda draws: _criterion(bench, trunk[-1], draws), own)
        return _acted(job, depth, level)
    assert job.rewind is not None
    prune, above, pruning = bench.plan.recipe.prune, StoredLevel(bench, trunk[-2]), StoredLevel(bench, job).pruning
    if prune.when == "training":
        assert prune.during is not None
        during = (prune.during.start, prune.during.end, prune.during.every)
        start, end, every = (bench.steps(point, job.seed, job.optimizer) for point in during)
        target = pruning.keep(above.mask)
        names = pruning.takes_part(above.mask)

        def during_training(step: int) -> Criterion:
            return _criterion(bench, job, generator(job.seed, f"mask/{step}", depth))

        gradual = Gradual(start, end, every, target, names, during_training)
        return replace(above.rewound, gradual=gradual)
    criterion = _criterion(bench, job, generator(job.seed, "mask", depth))
    rounds = prune.rounds_of_criterion
    return next_start(above, pruning, criterion, job.rewind.mode, when=prune.when, rounds=rounds)


def _acted(job: Job, depth: int, level: StoredLevel) -> Start:
    """What the job's branch makes of this level."""
    assert job.branch is not None
    component = job.branch.component
    draws = generator(job.seed, f"branch/{component.name}/{depth}", job.sample)
    start = registry.branches[component.name].make(level, draws, **component.args)
    assert isinstance(start, Start)
    return start


def _own_mask(bench: Bench, trunk: Sequence[Job]) -> Mask:
    """The mask at the end of a control's own trunk: what the level above it trained, pruned once more.

    What a criterion takes as initial weights are those which that training started from."""
    job, depth = trunk[-1], len(trunk) - 1
    above = StoredLevel(bench, trunk[-2])

    def initial() -> Weights:
        return _acted(above.job, depth - 1, above).weights if depth > 1 else above.rewound.weights

    criterion = _criterion(bench, job, generator(job.seed, "mask", depth), initial)
    rounds = bench.plan.recipe.prune.rounds_of_criterion
    return prune(above.trained, above.mask, StoredLevel(bench, job).pruning, criterion, rounds)


def _criterion(
    bench: Bench, job: Job, draws: torch.Generator, initial: Callable[[], Weights] | None = None
) -> Criterion:
    """The recipe's criterion with what it may look at, for a level of the trunk; it draws from `draws`.

    Without `initial` the initial weights are those at the rewind point."""
    prune, data, device = bench.plan.recipe.prune, bench.data(job.seed), bench.machine.device
    entry = registry.criteria[prune.criterion.name]
    level = StoredLevel(bench, job)

    def of(state: Weights) -> nn.Module:
        network = bench.blank()
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

    def scored(state: Weights) -> dict[str, Tensor]:
        return bench.effective({name: value.to(device) for name, value in state.items()})

    @cache
    def first() -> dict[str, Tensor]:
        return scored(level.rewound.weights if initial is None else initial())

    def criterion(state: Weights, mask: Mask) -> Scores:
        weights = scored(state)
        context = Context(
            draws,
            initial=Lazy(mask, lambda name: first()[name]),
            alive=mask,
            network=lambda: of(state),
            loss=_loss(bench, data),
            examples=examples,
            balanced=balanced,
        )
        with _scoring(bench.blank(), device, stream(draws.initial_seed(), "score")):
            scores: Scores = entry.make({name: weights[name] for name in mask}, context, **prune.criterion.args)
        return scores

    return criterion


@contextmanager
def _scoring(network: nn.Module, device: torch.device, seed: int) -> Iterator[None]:
    """While the `with` block runs, what asks torch's global generators for a draw gets this seed's.

    Recurrent layers do without cuDNN, whose own have no gradient in evaluation mode, and no second one in any."""
    cudnn = torch.backends.cudnn
    recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())
    flags = {"benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic, "allow_tf32": cudnn.allow_tf32}
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        cudnn.flags(enabled=False, **flags) if recurrent else nullcontext(),
    ):
        torch.manual_seed(seed)
        yield


def training_of(bench: Bench, job: Job, start: Start | None = None) -> Training:
    """The job's training, from its starting point, without hooks or checkpoints. Raises Interrupted where the bench is
    told to stop while something is compiled for it."""
    start = start or starting_point(bench, job)
    train, device = bench.plan.recipe.train, bench.machine.device
    data = bench.data(job.seed, start.dataset)
    model = bench.blank(start.model)
    load(model, start.weights)
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    if start.mold is not None:
        start.mold(model)
    component = bench.optimizer(start.spec.optimizer)
    optimizer = optimizer_of(component, model)
    if start.optimizer_state is not None and (start.mask.density == 1 or carries_state(component.as_dict())):
        load_optimizer(optimizer, start.optimizer_state)
    batch_size = bench.batch_size(component, job.seed, start.dataset)
    if start.model is not None and job.branch is not None:
        check_other_model(model, data.input_shape, job.branch.label)

    def steps(length: Duration) -> int:
        return bench.steps(length, job.seed, component, start.dataset)

    stretch, first = start.spec.stretch, start.spec.first
    total = int(steps(train.length) * stretch)  # a stretch is of whole steps
    if first and job.rewind:
        first = steps(job.rewind.to)  # as this optimizer, with its batch size, counts it on these data
    stop = steps(job.rewind.to) if job.kind == "rewind" and job.rewind else total
    stop = first if start.spec.untrained else stop

    def stopped() -> bool:
        return bench.stop.signal is not None

    def training_examples() -> Iterator[Batch]:
        for batch in data.evaluation("train", max(2, batch_size)):
            if stopped():
                raise Stopped
            yield batch

    def recalibrated() -> None:
        recalibrate(model, training_examples(), train.precision)

    # the statistics of these would be those of other networks: the dense one, or those of all masks drawn in training
    mask_alone = start.spec.untrained or start.mold is not None
    try:
        engine = engine_for(
            _objective(bench, model, data, batch_size),
            optimizer,
            start.mask if start.mold is None and start.gradual is None else None,
            train.engine,
            bench.machine,
            lambda: data.epoch(0, batch_size),
            steps=stop - first,
            background=data.background,
            stopped=stopped,
        )
    except Stopped as told:
        raise Interrupted(bench.stop.signal or 0) from told
    return Training(
        model,
        optimizer,
        data,
        engine,
        seed=job.seed,
        first=first,
        stop=stop,
        total=total,
        batch_size=batch_size,
        evaluate_every=steps(train.evaluate_every) * stretch,
        multiplier=_multiplier(start.spec, steps(train.length), steps),
        results_from=first + 1 if start.spec.goes_on else first,
        stopped=stopped,
        before_measuring=recalibrated if mask_alone else lambda: None,
        networks=partial(drawn, model),
        measures=bench.plan.recipe.metrics if job.kind != "trial" else (),
    )


def check_engine(bench: Bench, optimizer: Component) -> None:
    """Raises UsageError where the recipe wants an engine for a network that it cannot train."""
    wanted = bench.plan.recipe.train.engine
    if wanted not in ("auto", "dense"):  # which train all
        data, model = bench.data(bench.plan.recipe.seeds[0]), bench.blank().to(bench.machine.device)
        component = Component(optimizer.name, {**optimizer.args, "lr": 1.0})  # the rate may not be chosen yet
        refuse(_objective(bench, model, data, 1), optimizer_of(component, model), wanted, data.background)


def _objective(bench: Bench, model: nn.Module, data: Data, batch_size: int) -> Objective:
    train = bench.plan.recipe.train
    return Objective(
        model,
        _loss(bench, data),
        lambda: data.evaluation("train", batch_size),
        steps_per_epoch=data.steps_per_epoch(batch_size),
        precision=train.precision,
        clip=train.clip,
        accumulate=train.accumulate,
    )


def optimizer_of(component: Component, model: nn.Module) -> torch.optim.Optimizer:
    args = {name: value for name, value in component.args.items() if name != "batch_size"}
    optimizer = registry.optimizers[component.name].make(model, **args)
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def _loss(bench: Bench, data: Data) -> nn.Module:
    """Mean squared error for targets that are numbers, else cross-entropy."""
    smoothing = bench.plan.recipe.train.label_smoothing
    return nn.MSELoss() if data.regression else nn.CrossEntropyLoss(label_smoothing=smoothing)


def _multiplier(spec: Spec, total: int, steps: Callable[[Duration], int]) -> Callable[[int], float]:
    rate = multiplier(spec.schedule, steps(spec.warmup) if spec.warmup else 0, total, steps)
    if spec.last_rate:
        last = rate(total - 1) if spec.finetune_rate is None else spec.finetune_rate * peak(rate, total)
        return lambda step: last
    return lambda step: rate(int(step // spec.stretch))
