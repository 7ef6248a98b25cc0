"""The base of the engines whose arithmetic numba compiles: weights and optimizer state in flat arrays of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from numba.core import event
from torch import Tensor

from lottery.catalogue.models._perceptron import Perceptron
from lottery.engines.support import Rule, layers, rule
from lottery.pruning.mask import Mask
from lottery.training.objective import Objective
from lottery.training.trainer import Stopped

SLOTS = {  # what torch calls the values that an optimizer keeps of each weight
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "nesterov": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
}

Array = np.ndarray[Any, Any]


class CompiledEngine:
    """Base of engines that move weights and optimizer state of a network between torch and flat arrays.

    A subclass says in `_sizes` how many numbers it keeps of each layer's weight and bias, and in `_packed` and
    `_unpacked` how they are laid out. The network must be one that `engines.choose.unsupported` accepts.
    """

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer, threads: int):
        model, kept_rule = objective.model, rule(optimizer)
        assert isinstance(model, Perceptron) and kept_rule is not None
        self._optimizer, self._rule, self._threads = optimizer, kept_rule, _launched(threads)
        self.threads: int | None = None
        self._layers, self._residual = layers(model), model.residual
        self._smoothing = np.float32(getattr(objective.loss, "label_smoothing", 0.0))
        self._steps = 0

    def _alive(self, mask: Mask) -> list[Tensor]:
        """Return the surviving weights of each layer, bool of shape (out, in)."""
        named = [(f"{place}.weight", layer.weight) for place, layer in self._layers.items()]
        return [mask[name] if name in mask else torch.ones_like(weight, dtype=torch.bool) for name, weight in named]

    def _allocate(self) -> None:
        weights, biases = (sum(sizes) for sizes in self._sizes())
        # weights and biases, then two values of state of each: the order of `kernels.step`
        sizes = (weights, biases, weights, weights, biases, biases)
        self._state = tuple(zeros(size) for size in sizes)

    def _sizes(self) -> tuple[list[int], list[int]]:
        raise NotImplementedError

    def _packed(self, layer: int, weight: Tensor) -> Tensor:
        """Return the numbers that are kept of a layer's weight (out, in), in their order."""
        raise NotImplementedError

    def _unpacked(self, layer: int, values: Tensor, shape: torch.Size) -> Tensor:
        """Return the layer's weight from the numbers kept of it, 0 where nothing is kept: the inverse of `_packed`."""
        raise NotImplementedError

    @torch.no_grad()
    def load(self) -> None:
        """Copy the weights and the optimizer's state from torch into the flat arrays."""
        kept = self._optimizer.state
        self._steps = max((int(kept[p]["step"]) for p in self._parameters() if "step" in kept.get(p, {})), default=0)
        for name, weights, biases in self._slots():
            for i, (layer, w, b) in enumerate(self._parts(weights, biases)):
                w.copy_(self._packed(i, self._value(layer.weight, name)))
                b[: layer.out_features] = self._value(layer.bias, name)

    @torch.no_grad()
    def flush(self) -> None:
        """Copy the weights and the optimizer's state from the flat arrays back to torch."""
        for name, weights, biases in self._slots():
            if name is not None and not self._steps and not self._optimizer.state:
                continue  # torch makes the state at the first step
            for i, (layer, w, b) in enumerate(self._parts(weights, biases)):
                self._put(layer.weight, name, self._unpacked(i, w, layer.weight.shape))
                self._put(layer.bias, name, b[: layer.out_features])
        if self._rule == "adam" and self._steps:
            for parameter in self._parameters():
                self._optimizer.state[parameter]["step"] = torch.tensor(float(self._steps))

    def _slots(self) -> Iterator[tuple[str | None, Array, Array]]:
        """Return the names of what is kept of weights and biases: None for values, then the optimizer's state."""
        w, b, wm, wv, bm, bv = self._state
        yield None, w, b
        yield from zip(SLOTS[self._rule], (wm, wv), (bm, bv), strict=False)

    def _parts(self, weights: Array, biases: Array) -> Iterator[tuple[torch.nn.Linear, Tensor, Tensor]]:
        """Yield each layer with its part of these arrays, as tensors that share their memory."""
        parts = (torch.split(torch.from_numpy(a), s) for a, s in zip((weights, biases), self._sizes(), strict=True))
        yield from zip(self._layers.values(), *parts, strict=True)

    def _parameters(self) -> Iterator[Tensor]:
        for layer in self._layers.values():
            yield layer.weight
            yield layer.bias

    def _value(self, parameter: Tensor, name: str | None) -> Tensor:
        value = parameter.detach() if name is None else self._optimizer.state.get(parameter, {}).get(name)
        return torch.zeros_like(parameter) if value is None else value

    def _put(self, parameter: Tensor, name: str | None, value: Tensor) -> None:
        if name is None:
            parameter.copy_(value)
        else:
            self._optimizer.state[parameter][name] = value.clone()

    def _take_threads(self) -> None:
        if self._threads > 1:
            numba.set_num_threads(self._threads)

    def _factors(self) -> Array:
        return _factors(self._optimizer.param_groups[0], self._rule, self._steps)


def _factors(group: Mapping[str, Any], kept_rule: Rule, steps: int) -> Array:
    """Return the numbers of `kernels.update`, rounded once.

    They are lr, weight decay, decoupled decay, momentum or the two betas and their differences from 1, epsilon, step
    size, and root of the second correction of Adam.
    """
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if kept_rule != "adam":
        return np.array([lr, decay, 0, group.get("momentum", 0), 0, 0, 0, 0, 0, 0], np.float32)
    (b1, b2), decoupled = group["betas"], bool(group.get("decoupled_weight_decay"))
    corrected = lr / (1 - b1**steps), math.sqrt(1 - b2**steps)
    decays = (0, lr * decay) if decoupled else (decay, 0)
    return np.array([lr, *decays, b1, 1 - b1, b2, 1 - b2, group["eps"], *corrected], np.float32)


def zeros(*shape: int) -> Array:
    """Return float32 zeros that begin at a cache line, as torch's do.

    numpy's arrays begin anywhere, and each vector would be read from two lines.
    """
    values: Array = torch.zeros(shape).numpy()
    return values


def flat(x: Tensor) -> Array:
    """Return a batch (n, ...) as (n, values), without a copy where it is contiguous."""
    return x.reshape(len(x), -1).contiguous().numpy()


@contextmanager
def stoppable(stopped: Callable[[], bool]) -> Iterator[None]:
    """Let what is compiled inside end with Stopped when told to, between passes, which take seconds at most."""

    class Halt(BaseException):
        """Not an Exception: numba turns those into others."""

    class Looking(event.Listener):
        def on_start(self, happening: event.Event) -> None:
            if stopped():
                raise Halt

        def on_end(self, happening: event.Event) -> None:
            """A pass that has ended lets the next one look."""

    try:
        with event.install_listener("numba:run_pass", Looking()):
            yield
    except Halt:
        raise Stopped from None


def _launched(threads: int) -> int:
    """Start numba's threads, and return the number of them to use.

    Their first use in a process sets OpenMP's number of threads, which is torch's too, to that of all cores.
    """
    of_torch = torch.get_num_threads()
    if threads == 1:  # whose kernels need none of numba's
        return threads
    usable = min(threads, int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    numba.set_num_threads(usable)
    torch.set_num_threads(of_torch)
    return usable
