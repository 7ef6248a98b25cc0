"""Training steps of a sparse fully connected network on a CPU, at a cost that follows the density.

The surviving weights, and the optimizer's state of them, are held as compressed sparse rows; `flush` brings the dense
tensors of model and optimizer up to date. The arithmetic is compiled by numba, see `lottery.kernels`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from lottery import kernels
from lottery.engines import Rule, layers, rule
from lottery.mask import Mask
from lottery.models._perceptron import Perceptron
from lottery.objective import Objective

CHUNKS = 4  # of rows a thread: rows have unequal numbers of weights
OUTPUT_TILE = 128  # examples that a thread evaluates at once
SLOTS = {  # what torch calls the values that an optimizer keeps of each weight
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "nesterov": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
}

Array = np.ndarray[Any, Any]


class SparseEngine:
    """An `Engine` for one network under one mask. Its steps are the dense ones within the rounding of float32.

    `threads` share the examples of a batch; with other numbers of threads sums have another order. The network must be
    one that `lottery.engines.unsupported` has nothing to say against."""

    name = "sparse"

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer, mask: Mask, threads: int):
        model, kept_rule = objective.model, rule(optimizer)
        assert isinstance(model, Perceptron) and kept_rule is not None
        self._optimizer, self._rule, self._threads = optimizer, kept_rule, _launched(threads)
        self._layers, self._residual = layers(model), model.residual
        self._smoothing = np.float32(getattr(objective.loss, "label_smoothing", 0.0))
        alive = [
            mask[name] if (name := f"{place}.weight") in mask else torch.ones_like(layer.weight, dtype=torch.bool)
            for place, layer in self._layers.items()
        ]
        self._kept = [bits.flatten().nonzero().flatten() for bits in alive]  # places of the weights within each layer
        self._net, self._transposed = compressed([bits.numpy() for bits in alive])
        weights, rows = len(self._net[2]), len(self._net[1]) - 1
        # weights and biases, then two values of state of each: the order of `kernels.step`
        self._state = tuple(np.zeros(size, np.float32) for size in (weights, rows, weights, weights, rows, rows))
        self._steps = 0
        self._work: dict[int, tuple[Array, ...]] = {}
        self.load()

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        numba.set_num_threads(self._threads)
        self._steps += 1
        loss = kernels.step(
            _flat(x),
            y.numpy(),
            self._net,
            self._transposed,
            self._state,
            self._buffers(len(x)),
            self._smoothing,
            self._residual,
            kernels.RULES.index(self._rule),
            _factors(self._optimizer.param_groups[0], self._rule, self._steps),
        )
        return torch.tensor(loss, dtype=torch.float64)

    def outputs(self, x: Tensor) -> Tensor:
        numba.set_num_threads(self._threads)
        out = np.empty((len(x), list(self._layers.values())[-1].out_features), np.float32)
        work = self._buffers(OUTPUT_TILE * self._threads)
        kernels.outputs(_flat(x), self._net, self._state, work, self._residual, out)
        return torch.from_numpy(out)

    @torch.no_grad()
    def load(self) -> None:
        kept = self._optimizer.state
        self._steps = max((int(kept[p]["step"]) for p in self._parameters() if "step" in kept.get(p, {})), default=0)
        for name, weights, biases in self._slots():
            for array, parts in ((weights, self._weights(name)), (biases, self._biases(name))):
                torch.cat([part.flatten() for part in parts], out=torch.from_numpy(array))

    @torch.no_grad()
    def flush(self) -> None:
        for name, weights, biases in self._slots():
            if name is not None and not self._steps and not self._optimizer.state:
                continue  # torch makes the state at the first step
            sizes = [len(kept) for kept in self._kept]
            for layer, kept, values in zip(self._layers.values(), self._kept, _split(weights, sizes), strict=True):
                whole = torch.zeros(layer.weight.numel())
                whole[kept] = values
                self._put(layer.weight, name, whole.view_as(layer.weight))
            sizes = [layer.out_features for layer in self._layers.values()]
            for layer, values in zip(self._layers.values(), _split(biases, sizes), strict=True):
                self._put(layer.bias, name, values)
        if self._rule == "adam" and self._steps:
            for parameter in self._parameters():
                self._optimizer.state[parameter]["step"] = torch.tensor(float(self._steps))

    def _slots(self) -> Iterator[tuple[str | None, Array, Array]]:
        """What is kept of weights and of biases: the values themselves (None), then the optimizer's state by name."""
        w, b, wm, wv, bm, bv = self._state
        yield None, w, b
        yield from zip(SLOTS[self._rule], (wm, wv), (bm, bv), strict=False)

    def _parameters(self) -> Iterator[Tensor]:
        for layer in self._layers.values():
            yield layer.weight
            yield layer.bias

    def _weights(self, name: str | None) -> list[Tensor]:
        places = zip(self._layers.values(), self._kept, strict=True)
        return [self._value(layer.weight, name).flatten()[kept] for layer, kept in places]

    def _biases(self, name: str | None) -> list[Tensor]:
        return [self._value(layer.bias, name) for layer in self._layers.values()]

    def _value(self, parameter: Tensor, name: str | None) -> Tensor:
        value = parameter.detach() if name is None else self._optimizer.state.get(parameter, {}).get(name)
        return torch.zeros_like(parameter) if value is None else value

    def _put(self, parameter: Tensor, name: str | None, value: Tensor) -> None:
        if name is None:
            parameter.copy_(value)
        else:
            self._optimizer.state[parameter][name] = value.clone()

    def _buffers(self, examples: int) -> tuple[Array, ...]:
        """What a step on so many examples works in: a tile of them for each thread."""
        if examples not in self._work:
            first, indptr = self._net[0], self._net[1]
            units, rows = next(iter(self._layers.values())).in_features + first[-1], first[-1]
            tile = -(-examples // self._threads)
            starts = np.minimum(np.arange(self._threads + 1) * tile, examples)
            kept = (self._threads, rows, tile) if self._residual else (self._threads, 1, 1)
            acts, grads = (np.zeros((self._threads, units, tile), np.float32) for _ in range(2))
            gates, sums = (np.zeros(kept, np.float32) for _ in range(2))
            # rows with as many weights together, each counted as one more for its bias
            cost = indptr + np.arange(rows + 1)
            shares = np.linspace(0, cost[-1], CHUNKS * self._threads + 1)
            chunks = np.unique(np.searchsorted(cost, shares))
            scratch = np.zeros((len(chunks) - 1, max(1, int(np.diff(indptr).max()))), np.float32)
            self._work[examples] = acts, grads, gates, sums, starts, chunks, scratch, np.zeros(self._threads)
        return self._work[examples]


def _launched(threads: int) -> int:
    """Start numba's threads; the number of them to use.

    The first use of them in a process sets OpenMP's number of threads, which is torch's too, to that of all cores."""
    of_torch = torch.get_num_threads()
    usable = min(threads, int(numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    numba.set_num_threads(usable)
    torch.set_num_threads(of_torch)
    return usable


def compressed(alive: Sequence[Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The surviving weights of consecutive layers, bool (out, in) each, by row and by the hidden unit they come from:
    (layers, indptr, units, places) and (tptr, trows, tplaces) of `lottery.kernels`."""
    inputs = alive[0].shape[1]
    first = np.cumsum([0, *(len(bits) for bits in alive)])
    entries = [np.nonzero(bits) for bits in alive]
    below = [0, *(inputs + first[:-2])]  # the first unit of the layer below
    units = np.concatenate([c + start for (_, c), start in zip(entries, below, strict=True)]).astype(np.int32)
    rows = np.concatenate([r + start for (r, _), start in zip(entries, first, strict=False)])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=first[-1]))])
    hidden = np.nonzero(units >= inputs)[0]
    order = hidden[np.argsort(units[hidden], kind="stable")]
    tptr = np.concatenate([[0], np.cumsum(np.bincount(units[hidden] - inputs, minlength=first[-2]))])
    places = np.arange(len(units), dtype=np.int32)
    transposed = tptr, (rows[order] + inputs).astype(np.int32), order.astype(np.int32)
    return (first, indptr, units, places), transposed


def _factors(group: Mapping[str, Any], kept_rule: Rule, steps: int) -> Array:
    """The numbers of `kernels._update`, rounded once: lr, weight decay, decoupled decay, momentum or the two betas and
    what is left of each to 1, epsilon, step size and root of the second correction of Adam."""
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if kept_rule != "adam":
        return np.array([lr, decay, 0, group.get("momentum", 0), 0, 0, 0, 0, 0, 0], np.float32)
    (b1, b2), decoupled = group["betas"], bool(group.get("decoupled_weight_decay"))
    corrected = lr / (1 - b1**steps), math.sqrt(1 - b2**steps)
    decays = (0, lr * decay) if decoupled else (decay, 0)
    return np.array([lr, *decays, b1, 1 - b1, b2, 1 - b2, group["eps"], *corrected], np.float32)


def _flat(x: Tensor) -> Array:
    return x.reshape(len(x), -1).contiguous().numpy()


def _split(values: Array, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    return torch.split(torch.from_numpy(values), list(sizes))
