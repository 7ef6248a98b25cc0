"""Resuming a killed training from its newest checkpoint, and saving the next."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lottery.environment import agree
from lottery.errors import DamagedFile
from lottery.files.tensors import decode, encode
from lottery.pruning.mask import Mask
from lottery.pruning.masking import Held
from lottery.results.artifacts import network_state, read_state
from lottery.runner.context import RunContext
from lottery.training.trainer import Training

if TYPE_CHECKING:
    from lottery.plan.jobs import Job

CHECKPOINT_SHARE = 100  # a checkpoint may cost one part in this many of the time between two


@dataclass(frozen=True)
class Past:
    """What earlier sessions of a job took, and the environments they ran in where those were others than this one."""

    seconds: float = 0.0
    environments: tuple[dict[str, Any], ...] = ()


def resume(context: RunContext, job: Job, training: Training, held: Held) -> Past:
    """Put the training where it can go on: its own checkpoint, or a rewind point it shares, whichever is further.

    The dense network goes on from its furthest rewind point, so that both lie on one trajectory. With `deterministic`,
    a state from another environment, as far as that was recorded, is not used: the bytes must be those of this one.
    """
    here = environment_of(context, training)
    states = []
    saved = context.store.load_checkpoint(job.key)
    if saved is not None:
        values = json.loads(saved[1]["state.json"])
        past = Past(float(values["seconds"]), tuple(values["environments"]))
        states.append((decode(saved[1]["state.safetensors"])[0], values["training"], past))
    for key in job.needs if job.kind in ("rewind", "dense") else ():
        manifest = context.store.find(key) if context.plan.jobs[key].kind == "rewind" else None
        if manifest is not None and manifest.status == "done":
            environment = {name: value for name, value in manifest.environment.items() if name != "earlier"}
            past = Past(0.0, (environment, *manifest.environment.get("earlier", ())))
            tensors, values = read_state(context.store, key)
            states.append((network_state(training.model, tensors), values, past))
    states = [
        (tensors, values, past)
        for tensors, values, past in states
        if training.step <= values["step"] <= training.stop
        and not (context.machine.deterministic and not all(agree(each, here) for each in past.environments))
    ]
    if not states:
        return Past()
    tensors, values, past = max(states, key=lambda state: state[1]["step"])
    try:
        if saved is not None and "mask.safetensors" in saved[1]:
            held.tighten(Mask.unpack(*decode(saved[1]["mask.safetensors"])))
        training.restore(tensors, values)
    except DamagedFile:
        context.store.drop_checkpoints(job.key)  # whole but of another version: the job starts again
        raise
    return Past(past.seconds, tuple(environment for environment in past.environments if environment != here))


def environment_of(context: RunContext, training: Training) -> dict[str, Any]:
    """What beside the recipe may change a training in its last bits."""
    return {**context.machine.environment(), "engine": training.engine.name}


class Clock:
    """What a job took over all its sessions and where they ran; saves a checkpoint when one is due."""

    def __init__(self, context: RunContext, job: Job, training: Training, began: float):
        self.context, self.job, self.training = context, job, training
        self.began, self.past = began, Past()
        self.held: Held | None = None  # where the mask changes in the course of the training
        self._saved, self._every = time.monotonic(), context.checkpoint_seconds

    def seconds(self) -> float:
        return self.past.seconds + time.monotonic() - self.began

    def environment(self) -> dict[str, Any]:
        """Of this session; with `earlier`, those of earlier ones where they differ: never mixed in silence."""
        here = environment_of(self.context, self.training)
        return {**here, "earlier": list(self.past.environments)} if self.past.environments else here

    def save_if_due(self, now: float) -> None:
        if now - self._saved >= self._every:
            self.save()

    def save(self) -> None:
        before = time.monotonic()
        tensors, values = self.training.state()
        environments = [environment_of(self.context, self.training), *self.past.environments]
        state = {"training": values, "seconds": self.seconds(), "environments": environments}
        files = {"state.safetensors": encode(tensors), "state.json": as_json(state)}
        if self.held is not None:
            files["mask.safetensors"] = encode(*self.held.mask.pack())
        self.context.store.save_checkpoint(self.job.key, self.training.step, files)
        self._saved = time.monotonic()
        self._every = max(self.context.checkpoint_seconds, CHECKPOINT_SHARE * (self._saved - before))


def as_json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
