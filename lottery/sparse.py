"""Training steps of a sparse fully connected network on a CPU, at a cost that follows the density.

The surviving weights, and the optimizer's state of them, are held as compressed sparse rows; `flush` brings the dense
tensors of model and optimizer up to date. The arithmetic is compiled by numba, see `lottery.kernels`."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch import Tensor

from lottery import kernels
from lottery.compiled import Array, CompiledEngine, flat
from lottery.mask import Mask
from lottery.objective import Objective

CHUNKS = 4  # of rows a thread: rows have unequal numbers of weights
OUTPUT_TILE = 128  # examples that a thread evaluates at once


class SparseEngine(CompiledEngine):
    """An `Engine` for one network under one mask. Its steps are the dense ones within the rounding of float32.

    `threads` share the examples of a batch; with other numbers of threads sums have another order. The network must be
    one that `lottery.engines.unsupported` has nothing to say against."""

    name = "sparse"

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer, mask: Mask, threads: int):
        super().__init__(objective, optimizer, threads)
        alive = [
            mask[name] if (name := f"{place}.weight") in mask else torch.ones_like(layer.weight, dtype=torch.bool)
            for place, layer in self._layers.items()
        ]
        self._kept = [bits.flatten().nonzero().flatten() for bits in alive]  # places of the weights within each layer
        self._net, self._transposed = compressed([bits.numpy() for bits in alive])
        self._allocate()
        self._work: dict[int, tuple[Array, ...]] = {}
        self.load()

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        numba.set_num_threads(self._threads)
        self._steps += 1
        loss = kernels.step(
            flat(x),
            y.numpy(),
            self._net,
            self._transposed,
            self._state,
            self._buffers(len(x)),
            self._smoothing,
            self._residual,
            kernels.RULES.index(self._rule),
            self._factors(),
        )
        return torch.tensor(loss, dtype=torch.float64)

    def outputs(self, x: Tensor) -> Tensor:
        numba.set_num_threads(self._threads)
        out = np.empty((len(x), list(self._layers.values())[-1].out_features), np.float32)
        work = self._buffers(OUTPUT_TILE * self._threads)
        kernels.outputs(flat(x), self._net, self._state, work, self._residual, out)
        return torch.from_numpy(out)

    def _sizes(self) -> tuple[list[int], list[int]]:
        return [len(kept) for kept in self._kept], [layer.out_features for layer in self._layers.values()]

    def _packed(self, layer: int, weight: Tensor) -> Tensor:
        """The surviving weights."""
        return weight.flatten()[self._kept[layer]]

    def _unpacked(self, layer: int, values: Tensor, shape: torch.Size) -> Tensor:
        whole = torch.zeros(shape.numel())
        whole[self._kept[layer]] = values
        return whole.view(shape)

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
