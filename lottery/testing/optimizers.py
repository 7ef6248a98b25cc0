"""The demands on an optimizer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from lottery.errors import BrokenMask
from lottery.network.build import prunable
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.registry import Entry
from lottery.testing.examples import Examples, copied, equal
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective
from lottery.training.state import flatten, load_optimizer, optimizer_state, unflatten

FIRST, STEPS = 5, 12


def problems(entry: Entry[Any], arguments: Mapping[str, Any], examples: Examples) -> Iterator[str]:
    """Yield what is wrong with an optimizer."""
    if entry.traits.rates is None:
        yield "has no range of learning rates, which `tune` searches: register(..., rates=(low, high))"
    low, high = entry.traits.rates or (1e-3, 1e-1)
    args = (
        dict(arguments) if "lr" in arguments or "lr" in entry.defaults else {**arguments, "lr": math.sqrt(low * high)}
    )
    trial = _Trial(entry, args, examples)
    straight = trial.network()
    optimizer = trial.optimizer(straight)
    loss = trial.train(straight, optimizer, range(FIRST))
    if not math.isfinite(loss):
        yield f"the loss is {loss} after {FIRST} steps"
        return
    tensors: dict[str, Tensor] = {}
    try:
        kept = json.dumps(flatten(optimizer_state(optimizer), "optimizer", tensors))
    except TypeError as error:
        yield f"its state_dict() cannot be stored: {error}; keep tensors and plain numbers in its state"
        return
    state, tensors = copied(straight.state_dict()), copied(tensors)
    trial.train(straight, optimizer, range(FIRST, STEPS))
    resumed = trial.network(seed=1)
    other = trial.optimizer(resumed)
    resumed.load_state_dict(state)
    load_optimizer(other, unflatten(json.loads(kept), tensors))
    trial.train(resumed, other, range(FIRST, STEPS))
    if not equal(straight.state_dict(), resumed.state_dict()):
        yield "a training that goes on from its state_dict() ends elsewhere: not all that the next step needs is in it"
    scheduled = trial.network()
    trial.train(scheduled, trial.optimizer(scheduled), range(STEPS), lambda step: 0.5 if step == 2 else 1.0)
    if equal(scheduled.state_dict(), straight.state_dict()):
        yield "a schedule changes nothing: read the rate from param_groups at each step"
    yield from _held(trial)


def _held(trial: _Trial) -> Iterator[str]:
    """Yield that pruned weights do not stay zero."""
    model = trial.network()
    draws = torch.Generator().manual_seed(1)
    alive = {name: torch.rand(value.shape, generator=draws) < 0.5 for name, value in prunable(model).items()}
    optimizer = trial.optimizer(model)
    try:
        with masked(model, Mask(alive), optimizer):
            trial.train(model, optimizer, range(STEPS))
    except BrokenMask as error:
        yield f"pruned weights do not stay zero: {error}"


class _Trial:
    """Short trainings of a small network with one optimizer."""

    def __init__(self, entry: Entry[Any], arguments: Mapping[str, Any], examples: Examples):
        self._entry, self._arguments, self._examples = entry, arguments, examples
        whole = "batch_size" in entry.traits.refuses
        self._batches = [examples.all()] if whole else list(examples.batches())

    def network(self, seed: int = 0) -> nn.Module:
        return self._examples.network(seed)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return self._entry.checked(self._entry.make(model, **self._arguments), torch.optim.Optimizer)

    def train(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        steps: range,
        multiplier: Callable[[int], float] = lambda step: 1.0,
    ) -> float:
        """Train, and return the loss of the last step; rates are those the optimizer was made with."""
        batches = self._batches
        objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(batches), steps_per_epoch=len(batches))
        engine, loss = DenseEngine(objective, optimizer), torch.tensor(math.nan)
        rates = [group["lr"] for group in optimizer.param_groups]
        model.train()
        for step, (x, y) in zip(steps, islice(cycle(batches), steps.start, None), strict=False):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier(step)
            loss = engine.step(x, y)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return float(loss)
