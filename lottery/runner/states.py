"""States of trainings that analyses look at: kept as a training goes, trained again where it is finished, read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lottery.errors import DamagedFile, UsageError
from lottery.files.tensors import decode, encode
from lottery.network.layout import Layout, state_of
from lottery.plan.analyses import END, START
from lottery.plan.kinds import METRICS_FILE, STATES_FILE, Kind, state_file
from lottery.pruning.mask import Mask
from lottery.recipe.readings import CHOSEN, READINGS
from lottery.results.artifacts import read_mask, read_trained
from lottery.values import Duration
from lottery.words import short

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Look
    from lottery.plan.timeline import Timeline
    from lottery.pruning.masking import HeldMask
    from lottery.pruning.scoring import Weights
    from lottery.runner.context import RunContext
    from lottery.store.store import Store
    from lottery.training.trainer import Training

_MASK, _WEIGHTS = "mask/", "weights/"


def step_of(moment: str, timeline: Timeline) -> int | None:
    """Return the step of a moment on a training's timeline; None for those that the validation split chooses."""
    if moment in CHOSEN:
        return None
    if moment in (START, END):
        return timeline.first if moment == START else timeline.stop
    if "/" in moment:
        part, whole = map(int, moment.split("/"))
        return timeline.first + round((timeline.stop - timeline.first) * part / whole)
    return timeline.steps(Duration.parse(moment))


@dataclass
class Kept:
    """The states that a training keeps as it goes, by step, as bytes of a file each.

    Attributes:
        steps: Steps at which a state is kept.
        files: The states kept so far, by the names of their files.
    """

    steps: frozenset[int] = frozenset()
    files: dict[str, bytes] = field(default_factory=dict)

    def offer(self, step: int, training: Training, mask: Mask) -> None:
        """Keep the training's state where this is one of its steps."""
        if step in self.steps:
            training.engine.flush()
            self.files[state_file(step)] = pack_state(state_of(training.model), mask)

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Take back from the files of a checkpoint those that are states."""
        self.files = {name: data for name, data in files.items() if name.startswith("state-")}


def kept_by(context: RunContext, job: Job, timeline: Timeline) -> Kept:
    """Return what a training is to keep as it goes: all that jobs of the plan ask of it."""
    found = [step_of(moment, timeline) for moment in context.plan.moments.get(job.key, ()) if moment != START]
    return Kept(frozenset(step for step in found if step is not None))


def keeping(kept: Kept, training: Training, held: HeldMask, before: Callable[[int], bool]) -> Callable[[int], bool]:
    """Return what keeps the states that are asked for, after what is done at a step anyway."""

    def after_step(step: int) -> bool:
        changed = before(step)
        kept.offer(step, training, held.mask)
        return changed

    return after_step


def chosen_states(context: RunContext, job: Job, training: Training, mask: Mask) -> dict[str, bytes]:
    """Return the files of the states that the validation split has chosen, where jobs of the plan ask for them."""
    layout, files = Layout.of(training.model), dict[str, bytes]()
    for reading in CHOSEN:
        row = training.chosen.rows.get(reading)
        if row is not None and reading in context.plan.moments.get(job.key, ()):
            weights = training.chosen.weights.get(row["step"])
            state = state_of(training.model) if weights is None else layout.split(weights)
            files[state_file(row["step"])] = pack_state(state, mask)
    return files


def pack_state(weights: Weights, mask: Mask) -> bytes:
    """Return a state with its mask as a file."""
    bits, shapes = mask.pack()
    tensors = {_WEIGHTS + name: value.detach() for name, value in weights.items()}
    return encode({**tensors, **{_MASK + name: value for name, value in bits.items()}}, shapes)


def unpack_state(data: bytes) -> tuple[dict[str, Tensor], Mask]:
    """Return the state and the mask of a file.

    Raises:
        DamagedFile: It is none.
    """
    tensors, head = decode(data)
    masks = {name.removeprefix(_MASK): value for name, value in tensors.items() if name.startswith(_MASK)}
    weights = {name.removeprefix(_WEIGHTS): value for name, value in tensors.items() if name.startswith(_WEIGHTS)}
    return weights, Mask.unpack(masks, head)


def steps_of_moments(store: Store, job: Job, timeline: Timeline) -> dict[str, int]:
    """Return the step of each moment of a job of kind STATES, whose training is finished.

    Raises:
        UsageError: The training has no such moment.
    """
    assert job.parent is not None
    metrics = store.read_json(job.parent, METRICS_FILE)
    found: dict[str, int] = {}
    for moment in job.moments:
        step = step_of(moment, timeline)
        if step is None:
            if not metrics.get(moment):
                raise UsageError(f"{short(job.parent)}: has no {moment} to be looked at; keep `end`")
            step = metrics[moment]["step"]
        if not timeline.first <= step <= timeline.stop:
            raise UsageError(
                f"{job.label}: step {step} is not between the start of this training, step {timeline.first}, and its "
                f"end, step {timeline.stop}; ask for shares of it, such as `10 points`"
            )
        found[moment] = step
    return found


def listing(steps: Mapping[str, int], holders: Mapping[int, str | None], same: bool) -> bytes:
    """Return the file that says where the states of a training are.

    Args:
        steps: The step of each moment.
        holders: The key of the job whose file has the state of a step; None where the job itself has it.
        same: False where the training was run again and went another way than the first time.
    """
    moments = {moment: {"step": step, "holder": holders.get(step)} for moment, step in steps.items()}
    return json.dumps({"moments": moments, "same": same}, indent=1, sort_keys=True).encode()


def missing_steps(store: Store, job: Job, steps: Iterable[int]) -> list[int]:
    """Return the steps, in order, whose states the finished training of a job of kind STATES has not kept."""
    assert job.parent is not None
    manifest = store.find(job.parent)
    files = {} if manifest is None else manifest.files
    return sorted({step for step in steps if state_file(step) not in files})


@dataclass(frozen=True)
class LookedAt:
    """A state that an analysis looks at, read from the store.

    Attributes:
        weights: Its tensors.
        mask: Its mask; None for a dense network.
        step: Its step.
        same: False where its training was run again for it and went another way than the first time.
    """

    weights: Weights
    mask: Mask | None
    step: int
    same: bool = True


def read_look(context: RunContext, look: Look, start: Callable[[Job], tuple[Weights, Mask, int]]) -> LookedAt:
    """Return a state that an analysis looks at.

    Args:
        context: What all jobs share.
        look: The state.
        start: Gives weights, mask and step at the start of a training.

    Raises:
        UsageError: The state was not kept.
        DamagedFile: A file is not what was committed.
    """
    store, job = context.store, context.plan.jobs[look.key]
    if look.at == START:
        weights, mask, step = start(job)
        found = LookedAt(weights, mask, step)
    elif look.kept is None:
        if look.at not in READINGS:
            raise UsageError(f"{short(look.key)}: its state at {look.at} was not kept; add `keep: [{look.at}]`")
        own = None if job.kind is Kind.DENSE else read_mask(store, look.key)
        metrics = store.read_json(look.key, METRICS_FILE)
        reading = next(name for name in READINGS if name == look.at)
        found = LookedAt(read_trained(store, look.key, own, reading), own, metrics[look.at]["step"])
    else:
        listed = store.read_json(look.kept, STATES_FILE)
        about = listed["moments"][look.at]
        weights, mask = unpack_state(store.read(about["holder"] or look.kept, state_file(about["step"])))
        found = LookedAt(weights, None if job.kind is Kind.DENSE else mask, about["step"], listed["same"])
    if look.mask is None:
        return found
    put = read_mask(store, look.mask)
    return LookedAt(put.apply(found.weights), put, found.step, found.same)


def mask_of(store: Store, job: Job, look: Look) -> Mask | None:
    """Return the mask of a state that a finished analysis looked at; None for a dense network.

    Args:
        store: The store.
        job: The training that the state is of.
        look: The state, at a reading of the training.

    Raises:
        DamagedFile: A file is not what was committed.
    """
    if look.mask is not None:
        return read_mask(store, look.mask)
    if job.kind is Kind.DENSE:
        return None
    if look.kept is None:
        return read_mask(store, look.key)
    about = store.read_json(look.kept, STATES_FILE)["moments"][look.at]
    return unpack_state(store.read(about["holder"] or look.kept, state_file(about["step"])))[1]


def evaluated_after(store: Store, job: Job, step: int) -> int:
    """Return the first step from this one on that the finished training of a job of kind STATES was evaluated at.

    A training that is run again goes on to it, so that each of its states lies before a row that both have.
    """
    assert job.parent is not None
    steps: list[int] = [row["step"] for row in store.read_json(job.parent, METRICS_FILE)["curve"]]
    return min(each for each in steps if each >= step)


def same_curve(metrics: Mapping[str, Any], training: Training) -> bool:
    """Return whether a training that was run again has the curve that the metrics of the first time have."""
    rows = {row["step"]: row for row in metrics["curve"]}
    if any(row["step"] in rows and rows[row["step"]] != row for row in training.curve):
        return False
    if not training.curve:
        raise DamagedFile("a training without a curve")
    return True
