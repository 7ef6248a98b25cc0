"""What rank 0 tells the others of a job: its plan, where its training starts, and the state that it goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from lottery.files.tensors import decode, encode, part
from lottery.plan.handover import pack_plan
from lottery.plan.jobs import Job, Plan
from lottery.pruning.gradual import Gradual
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Criterion
from lottery.pruning.start import Spec, Start
from lottery.runner.candidate import Candidate, Past
from lottery.training.state import flatten, unflatten
from lottery.values import Component, Duration

_WEIGHTS, _STATE = "weights/", "optimizer"
_WHEN = ("start", "end", "every")  # of gradual pruning


@dataclass(frozen=True)
class Order:
    """A training that rank 0 has the others take part in.

    Attributes:
        job: Key of the job that is trained.
        start: Where it starts; what its pruning decides is told when it is due.
        measured: True if the network is measured on the test split at the end, False without it, None if not at all.
    """

    job: str
    start: Start
    measured: bool | None


def pack_start(plan: Plan, job: Job, start: Start, *, measured: bool | None) -> dict[str, bytes]:
    """Return a job and the start of its training as messages, of which `unpack_start` makes an Order."""
    tensors = {_WEIGHTS + name: value for name, value in start.weights.items()}
    state = None if start.optimizer_state is None else flatten(start.optimizer_state, _STATE, tensors)
    about = {
        "job": job.key,
        "state": state,
        "spec": {each.name: _plain(getattr(start.spec, each.name)) for each in fields(Spec)},
        "model": _plain(start.model),
        "dataset": _plain(start.dataset),
        "gradual": None if start.gradual is None else [getattr(start.gradual, name) for name in _WHEN],
        "measured": measured,
    }
    alone = Plan(plan.recipe, plan.fingerprint, {job.key: job}, plan.others)
    return {
        "plan": pack_plan(alone).encode(),
        "start": json.dumps(about).encode(),
        "tensors": encode(tensors),
        "mask": pack_mask(start.mask),
    }


def unpack_start(messages: Mapping[str, bytes]) -> Order:
    """Return what rank 0 has told of a job."""
    about, (tensors, _) = json.loads(messages["start"]), decode(messages["tensors"])
    when = about["gradual"]
    start = Start(
        part(tensors, _WEIGHTS),
        unpack_mask(messages["mask"]),
        Spec(**{name: _restored(value) for name, value in about["spec"].items()}),
        None if about["state"] is None else unflatten(about["state"], tensors),
        _restored(about["model"]),
        _restored(about["dataset"]),
        gradual=None if when is None else Gradual(when[0], when[1], when[2], {}, (), _at_rank_0),
    )
    return Order(about["job"], start, about["measured"])


def pack_state(state: Candidate | None, until: int | None) -> dict[str, bytes]:
    """Return as messages the state that a training goes on from, if any, and the step at which it is left, if any."""
    way = {"until": json.dumps(until).encode()}
    if state is None:
        return way
    mask = {} if state.mask is None else {"mask": pack_mask(state.mask)}
    return {**way, "tensors": encode(state.tensors), "values": json.dumps(state.values).encode(), **mask}


def unpack_state(messages: Mapping[str, bytes]) -> tuple[Candidate | None, int | None]:
    """Return the state that a training goes on from, if any, and the step at which it is left, if any."""
    until = json.loads(messages["until"])
    if "tensors" not in messages:
        return None, until
    mask = unpack_mask(messages["mask"]) if "mask" in messages else None
    return Candidate(decode(messages["tensors"])[0], json.loads(messages["values"]), Past(), mask), until


def _at_rank_0(step: int) -> Criterion:
    raise AssertionError("weights are scored at rank 0")


def pack_mask(mask: Mask) -> bytes:
    """Return a mask as a message."""
    return encode(*mask.pack())


def unpack_mask(message: bytes) -> Mask:
    """Return the mask of a message."""
    return Mask.unpack(*decode(message))


def _plain(value: Any) -> Any:
    """Return a value of a spec as JSON has it, of which `_restored` makes the same value."""
    if isinstance(value, Component):
        return {"component": value.name, "args": {name: _plain(each) for name, each in value.args.items()}}
    if isinstance(value, Duration):
        return {"duration": str(value)}
    if isinstance(value, Fraction):
        return {"fraction": str(value)}
    if isinstance(value, Mapping):
        return {"mapping": {name: _plain(each) for name, each in value.items()}}
    if isinstance(value, tuple):
        return {"tuple": [_plain(each) for each in value]}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(each) for each in value]
    if not isinstance(value, dict):
        return value
    kind = next(iter(value))
    if kind == "component":
        return Component(value[kind], {name: _restored(each) for name, each in value["args"].items()})
    if kind == "duration":
        return Duration.parse(value[kind])
    if kind == "fraction":
        return Fraction(value[kind])
    if kind == "mapping":
        return {name: _restored(each) for name, each in value[kind].items()}
    return tuple(_restored(each) for each in value[kind])
