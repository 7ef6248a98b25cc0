"""A killed training goes on from its newest checkpoint (`resume`, below), and saves the next (`Clock`)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lottery.environment import DRAWING, are_alike
from lottery.errors import DamagedFile
from lottery.files.tensors import decode, encode
from lottery.plan.kinds import MASK_FILE, STATE_FILE, STATE_VALUES_FILE, Kind
from lottery.pruning.mask import Mask
from lottery.pruning.masking import HeldMask
from lottery.results.artifacts import network_state, read_state
from lottery.runner.candidate import Candidate, Past
from lottery.runner.context import RunContext
from lottery.runner.messages import pack_state
from lottery.runner.states import Kept
from lottery.runner.together import told
from lottery.training.trainer import Training

if TYPE_CHECKING:
    from lottery.plan.jobs import Job

CHECKPOINT_SHARE = 100  # a checkpoint may cost one part in this many of the time between two


def furthest(context: RunContext, job: Job, training: Training) -> Candidate | None:
    """Return the state that a training goes on from: its own checkpoint, or a rewind point it shares; None without one.

    The dense network goes on from its furthest rewind point, so that both lie on one trajectory. With `deterministic`,
    a state from another environment, as far as that was recorded, is not used: the bytes must be those of this one.
    """
    here = environment_of(context, training)
    states = [*_checkpoint(context, job), *_rewind_points(context, job, training)]
    states = [
        state
        for state in states
        if training.step <= state.step <= training.timeline.stop
        and not (context.machine.deterministic and not all(are_alike(each, here) for each in state.past.environments))
    ]
    return max(states, key=lambda state: state.step, default=None)  # of two at one step the checkpoint


def restore(state: Candidate, training: Training, held: HeldMask) -> None:
    """Put the training where it goes on.

    Raises:
        DamagedFile: The state is none of this training.
    """
    if state.mask is not None:
        held.tighten(state.mask)
    training.restore(state.tensors, state.values)


def resume(
    context: RunContext, job: Job, training: Training, held: HeldMask, kept: Kept, until: int | None = None
) -> Past:
    """Put the training, on all ranks, where it can go on, and return what earlier sessions of it were.

    The other ranks are also told `until`, the step at which it is left, if that is not its end.

    Raises:
        DamagedFile: Where the checkpoint is none of this training; it is dropped, and the job starts again.
    """
    state: Candidate | None = None

    def found() -> dict[str, bytes]:
        nonlocal state
        state = furthest(context, job, training)
        return pack_state(state, until) if context.group.size > 1 else {}

    told(context.group, found)
    if state is None:
        return Past()
    try:
        restore(state, training, held)
        kept.restore(state.files)
    except DamagedFile:
        context.store.drop_checkpoints(job.key)  # whole but of another version: the job starts again
        raise
    here = _before_a_step(environment_of(context, training))
    others = [each for each in state.past.environments if _before_a_step(each) != here]
    return Past(state.past.seconds, tuple(others))


def _before_a_step(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a session records before its first step, which tells whether the network draws at random."""
    return {name: value for name, value in session.items() if name != DRAWING}


def _checkpoint(context: RunContext, job: Job) -> Iterator[Candidate]:
    """Yield the job's newest checkpoint, where there is one."""
    saved = context.store.load_checkpoint(job.key)
    if saved is None:
        return
    _, files = saved
    values = json.loads(files[STATE_VALUES_FILE])
    past = Past(float(values["seconds"]), tuple(values["environments"]))
    mask = Mask.unpack(*decode(files[MASK_FILE])) if MASK_FILE in files else None
    yield Candidate(decode(files[STATE_FILE])[0], values["training"], past, mask, files)


def _rewind_points(context: RunContext, job: Job, training: Training) -> Iterator[Candidate]:
    """Yield the finished rewind points that lie on the way of a dense network, or of a later rewind point."""
    for key in job.needs if job.kind.on_dense_trajectory else ():
        manifest = context.store.find(key) if context.plan.jobs[key].kind is Kind.REWIND else None
        if manifest is not None and manifest.status == "done":
            environment = {name: value for name, value in manifest.environment.items() if name != "earlier"}
            past = Past(0.0, (environment, *manifest.environment.get("earlier", ())))
            tensors, values = read_state(context.store, key)
            yield Candidate(network_state(training.model, tensors), values, past)


def environment_of(context: RunContext, training: Training) -> dict[str, Any]:
    """Return what beside the recipe may change a training in its last bits."""
    drawing = {DRAWING: context.group.size} if training.draws else {}
    engine, machine = training.engine, context.machine
    threads = engine.threads or machine.threads
    return {**machine.environment(), "threads": threads, "engine": engine.name, **drawing}


class Clock:
    """Measures the seconds of a job over all its sessions, and saves a checkpoint when one is due.

    A training in lockstep has its share of the seconds in which others are trained, too.
    """

    def __init__(self, context: RunContext, job: Job, training: Training, began: float):
        self.context, self.job, self.training = context, job, training
        self.past = Past()
        self._now, self._began, self._before, self._shares = time.monotonic, began, 0.0, False
        self.held: HeldMask | None = None  # where the mask changes in the course of the training
        self.kept = Kept()
        self._saved, self._every = time.monotonic(), context.checkpoint_seconds

    def seconds(self) -> float:
        """Return the seconds of this session and of earlier ones."""
        return self.past.seconds + self._before + self._now() - self._began

    def share(self) -> None:
        """Count this training's share of the time from now on, as the cohort shares it out."""
        if not self._shares:
            assert self.context.cohort is not None
            self._before += self._now() - self._began
            self._now, self._shares = self.context.cohort.now, True
            self._began = self._now()

    def environment(self) -> dict[str, Any]:
        """Return the environment of this session.

        If earlier sessions ran in another, theirs are listed under `earlier`, so that a mixed run shows.
        """
        here = environment_of(self.context, self.training)
        return {**here, "earlier": list(self.past.environments)} if self.past.environments else here

    def save_if_due(self, now: float) -> None:
        """Save a checkpoint where the last one is old enough."""
        if now - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        """Save a checkpoint; the next one is due later where this one took long."""
        before = time.monotonic()
        tensors, values = self.training.state()
        environments = [environment_of(self.context, self.training), *self.past.environments]
        state = {"training": values, "seconds": self.seconds(), "environments": environments}
        files = {STATE_FILE: encode(tensors), STATE_VALUES_FILE: as_json(state)}
        if self.held is not None:
            files[MASK_FILE] = encode(*self.held.mask.pack())
        files |= self.kept.files
        self.context.store.save_checkpoint(self.job.key, self.training.step, files)
        self._saved = time.monotonic()
        self.context.stop.saved(self._saved - before)
        self._every = max(self.context.checkpoint_seconds, CHECKPOINT_SHARE * (self._saved - before))


def as_json(value: Any) -> bytes:
    """Return a value as JSON in the form that finished jobs keep."""
    return json.dumps(value, indent=1, sort_keys=True).encode()
