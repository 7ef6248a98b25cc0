"""One job: find its starting point in the store, train, checkpoint between steps, commit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lottery import registry
from lottery.build import build_model, prunable
from lottery.criteria import Context
from lottery.data import Augment, Data, Splits
from lottery.device import Machine, prepared
from lottery.errors import DamagedFile, Interrupted
from lottery.levels import StoredLevel, pack, read_state
from lottery.manifest import Status
from lottery.mask import Mask, masked
from lottery.schedules import warmed_up
from lottery.seed import generator
from lottery.signals import Stop
from lottery.spec import Duration
from lottery.step import build_step
from lottery.tensors import decode, encode
from lottery.train import Diverged, Stopped, Training, load_optimizer
from lottery.trunk import Spec, Start, Weights, next_start

if TYPE_CHECKING:
    from lottery.plan import Job, Plan
    from lottery.store import Store

CHECKPOINT_SHARE = 100  # a checkpoint may cost one part in this many of the time between two


@dataclass(frozen=True)
class Progress:
    """Where a training is: the step just done of `total`, and the last row of its curve."""

    step: int
    first: int
    total: int
    row: Mapping[str, Any]
    seconds: float  # since step `first`
    images_per_second: float


@dataclass
class Bench:
    """What all jobs of one process share."""

    plan: Plan
    store: Store
    machine: Machine
    splits: Splits
    checkpoint_seconds: float = 60.0
    jobs: int = 1  # processes that work beside this one, this one included
    stop: Stop = field(default_factory=Stop)
    _data: tuple[int, Data] | None = None

    def data(self, seed: int) -> Data:
        """The data as this seed splits and orders it; the last one asked for is kept."""
        if self._data is None or self._data[0] != seed:
            spec = self.plan.recipe.data
            augment = Augment(crop=spec.augment.crop, flip=spec.augment.flip) if spec.augment else None
            self._data = None  # let go of the last seed's before the next is made
            data = Data(
                self.splits,
                seed=seed,
                validation=spec.validation,
                limit=spec.limit,
                augment=augment,
                device=self.machine.device,
                channels_last=self.splits.train_x.dim() == 4,
            )
            self._data = (seed, data)
        return self._data[1]

    def release(self) -> None:
        """Let go of the data, where other processes do the work."""
        self._data = None
        if self.machine.device.type == "cuda":
            torch.cuda.empty_cache()
        self.splits = None  # type: ignore[assignment]

    def steps(self, length: Duration, seed: int) -> int:
        """A length of training in steps."""
        return length.steps(self.data(seed).steps_per_epoch(self.plan.recipe.train.batch_size))

    def network(self, seed: int) -> nn.Module:
        """The seed's network at initialization, on the CPU."""
        recipe, data = self.plan.recipe, self.data(seed)
        return build_model(recipe.model, data.input_shape, data.classes, init=recipe.init, seed=seed)

    def spec(self, job: Job, first: int = 0) -> Spec:
        """How the dense network of this job trains from step `first`."""
        schedule = self.plan.recipe.train.schedule
        warmup = self.steps(schedule.warmup, job.seed) if schedule.warmup else 0
        return Spec(job.optimizer, schedule.component, warmup, first)


def execute(bench: Bench, job: Job) -> Iterator[Progress]:
    """Run one job whose needs are done, and commit it; a diverged training is committed as that.

    Goes on from the job's newest checkpoint where there is one. Raises Interrupted after saving when `bench.stop` is
    set."""
    began = time.monotonic()
    with prepared(bench.machine, bench.plan.recipe.train.precision):
        start = starting_point(bench, job)
        training = training_of(bench, job, start)
        clock = _Clock(bench, job, training, began)
        try:
            with masked(training.model, start.mask, training.optimizer):
                clock.past = _resume(bench, job, training)
                yield from _advance(bench, training, clock)
                _check_weights(training)
            files = _state_files(training) if job.kind == "rewind" else _result_files(job, training, start.mask)
            status: Status = "done"
        except Stopped as stopped:
            clock.save()
            raise Interrupted(bench.stop.signal or 0) from stopped
        except Diverged as diverged:
            result = {"diverged": diverged.step, "curve": training.curve, **_shape(start.mask)}
            files, status = {"metrics.json": _json(result)}, "diverged"
    bench.store.commit(
        job.key,
        {"job.json": _json(job.identity), **files},
        kind=job.kind,
        status=status,
        parent=job.parent,
        label=job.label,
        seconds=clock.seconds(),
        environment=clock.environment(),
    )
    bench.store.drop_checkpoints(job.key)


def starting_point(bench: Bench, job: Job) -> Start:
    """Where the job's training starts: initialization, the next level of its trunk, or a branch of a level."""
    if job.kind in ("rewind", "dense"):
        network = bench.network(job.seed)
        return Start(network.state_dict(), Mask.dense(prunable(network)), bench.spec(job))
    trunk = bench.plan.trunk(job)
    depth = len(trunk) - 1  # unlike the level, it is part of the key: a one-shot ticket is one prune away from dense
    if job.kind == "branch":
        assert job.branch is not None
        component = job.branch.component
        draws = generator(job.seed, f"branch/{component.name}/{depth}", job.sample)
        start = registry.branches[component.name].make(StoredLevel(bench, trunk[-1]), draws, **component.args)
        assert isinstance(start, Start)
        return start
    assert job.rewind is not None
    prune = bench.plan.recipe.prune
    entry = registry.criteria[prune.criterion.name]

    def criterion(weights: Weights) -> dict[str, torch.Tensor]:
        scores = entry.make(weights, Context(generator(job.seed, "mask", depth)), **prune.criterion.args)
        assert isinstance(scores, dict)
        return scores

    return next_start(StoredLevel(bench, trunk[-2]), StoredLevel(bench, job).pruning, criterion, job.rewind.mode)


def training_of(bench: Bench, job: Job, start: Start | None = None) -> Training:
    """The job's training, from its starting point, without hooks or checkpoints."""
    start = start or starting_point(bench, job)
    recipe, device = bench.plan.recipe, bench.machine.device
    train, data = recipe.train, bench.data(job.seed)
    model = bench.network(job.seed)
    model.load_state_dict(dict(start.weights))
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    optimizer = registry.optimizers[start.spec.optimizer.name].make(model, **start.spec.optimizer.args)
    if start.optimizer_state is not None:
        load_optimizer(optimizer, start.optimizer_state)
    total = bench.steps(train.length, job.seed)
    step = build_step(
        model,
        optimizer,
        precision=train.precision,
        clip=train.clip,
        label_smoothing=train.label_smoothing,
        device=device,
    )
    return Training(
        model,
        optimizer,
        data,
        step,
        seed=job.seed,
        first=start.spec.first,
        stop=bench.steps(job.rewind.to, job.seed) if job.kind == "rewind" and job.rewind else total,
        total=total,
        batch_size=train.batch_size,
        evaluate_every=bench.steps(train.evaluate_every, job.seed),
        multiplier=_multiplier(bench, start.spec, job.seed, total),
        precision=train.precision,
        stopped=lambda: bench.stop.signal is not None,
    )


def _multiplier(bench: Bench, spec: Spec, seed: int, total: int) -> Callable[[int], float]:
    args = {name: _in_steps(bench, value, seed) for name, value in spec.schedule.args.items()}
    schedule = registry.schedules[spec.schedule.name].make

    def multiplier(step: int) -> float:
        return warmed_up(schedule(step, total, **args), step, spec.warmup)

    if spec.last_rate:
        last = multiplier(total - 1)
        return lambda step: last
    return multiplier


def _in_steps(bench: Bench, value: Any, seed: int) -> Any:
    if isinstance(value, Duration):
        return Duration(bench.steps(value, seed), "it")
    return tuple(_in_steps(bench, item, seed) for item in value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class Past:
    """What earlier sessions of a job took, and the environments they ran in where those were others than this one."""

    seconds: float = 0.0
    environments: tuple[dict[str, Any], ...] = ()


def _resume(bench: Bench, job: Job, training: Training) -> Past:
    """Put the training where it can go on: its own checkpoint, or a rewind point it shares, whichever is further.

    The dense network goes on from its furthest rewind point, so that both lie on one trajectory. With `deterministic`,
    a state from another environment is not used: the bytes must be those of this one."""
    here = bench.machine.environment()
    states = []
    saved = bench.store.load_checkpoint(job.key)
    if saved is not None:
        values = json.loads(saved[1]["state.json"])
        past = Past(float(values["seconds"]), tuple(values["environments"]))
        states.append((decode(saved[1]["state.safetensors"])[0], values["training"], past))
    for key in job.needs if job.kind in ("rewind", "dense") else ():
        manifest = bench.store.find(key)
        if manifest is not None and manifest.status == "done":
            environment = {name: value for name, value in manifest.environment.items() if name != "earlier"}
            past = Past(0.0, (environment, *manifest.environment.get("earlier", ())))
            states.append((*read_state(bench.store, key), past))
    states = [
        (tensors, values, past)
        for tensors, values, past in states
        if training.step <= values["step"] <= training.stop
        and not (bench.machine.deterministic and any(environment != here for environment in past.environments))
    ]
    if not states:
        return Past()
    tensors, values, past = max(states, key=lambda state: state[1]["step"])
    try:
        training.restore(tensors, values)
    except DamagedFile:
        bench.store.drop_checkpoints(job.key)  # whole but of another version: the job starts again
        raise
    return Past(past.seconds, tuple(environment for environment in past.environments if environment != here))


class _Clock:
    """What a job took over all its sessions and where they ran; saves a checkpoint when one is due."""

    def __init__(self, bench: Bench, job: Job, training: Training, began: float):
        self.bench, self.job, self.training = bench, job, training
        self.began, self.past = began, Past()
        self._saved, self._every = time.monotonic(), bench.checkpoint_seconds

    def seconds(self) -> float:
        return self.past.seconds + time.monotonic() - self.began

    def environment(self) -> dict[str, Any]:
        """Of this session; with `earlier`, those of earlier ones where they differ: never mixed in silence."""
        here = self.bench.machine.environment()
        return {**here, "earlier": list(self.past.environments)} if self.past.environments else here

    def save_if_due(self, now: float) -> None:
        if now - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        before = time.monotonic()
        tensors, values = self.training.state()
        environments = [self.bench.machine.environment(), *self.past.environments]
        state = {"training": values, "seconds": self.seconds(), "environments": environments}
        files = {"state.safetensors": encode(tensors), "state.json": _json(state)}
        self.bench.store.save_checkpoint(self.job.key, self.training.step, files)
        self._saved = time.monotonic()
        self._every = max(self.bench.checkpoint_seconds, CHECKPOINT_SHARE * (self._saved - before))


def _advance(bench: Bench, training: Training, clock: _Clock) -> Iterator[Progress]:
    first, shown, shown_step = training.step, time.monotonic(), training.step
    began = shown
    for step in training.steps():
        if bench.stop.signal is not None:
            raise Stopped
        now = time.monotonic()
        clock.save_if_due(now)
        if now - shown >= 0.5:
            speed = (step - shown_step) * training.batch_size / (now - shown)
            yield Progress(step, first, training.stop, training.curve[-1], now - began, speed)
            shown, shown_step = now, step


def _check_weights(training: Training) -> None:
    """NaN weights are never pruned from. Raises Diverged."""
    if not all(bool(torch.isfinite(p).all()) for p in training.model.parameters()):
        raise Diverged(training.step)


def _state_files(training: Training) -> dict[str, bytes]:
    tensors, values = training.state()
    return {"state.safetensors": encode(tensors), "state.json": _json(values)}


def _result_files(job: Job, training: Training, mask: Mask) -> dict[str, bytes]:
    """Metrics of every job; mask and kept weights of the trunk only, which alone is built upon."""
    files = {"metrics.json": _json({**_shape(mask), **training.metrics()})}
    weights = training.model.state_dict()
    if job.kind == "dense":
        files["weights.safetensors"] = encode(weights)
    if job.kind == "ticket":
        packed, shapes = mask.pack()
        files["mask.safetensors"] = encode(packed, shapes)
        files["weights.safetensors"] = encode(pack(weights, mask))
    return files


def _shape(mask: Mask) -> dict[str, Any]:
    return {"density": mask.density, "alive": mask.alive(), "sizes": mask.sizes(), "collapsed": mask.collapsed()}


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
