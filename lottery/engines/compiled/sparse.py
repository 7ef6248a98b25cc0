"""Training steps of a sparse fully connected network on a CPU, at a cost that follows the density.

The surviving weights, and the optimizer's state of them, are held as compressed sparse rows; `flush` brings the dense
tensors of model and optimizer up to date. The arithmetic is compiled by numba, see `kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lottery.engines.compiled import kernels
from lottery.engines.compiled.base import Array, CompiledEngine, flat, zeros
from lottery.engines.compiled.simd import LANES
from lottery.pruning.mask import Mask
from lottery.training.objective import Objective

CHUNKS = 4  # of segments a thread: they have unequal numbers of weights
TILE = 64  # examples that a thread takes through the network at once: as many as its kernels keep in registers
STRETCH = 100  # units whose activations of a tile fit into a first level cache
FEWEST = 20  # weights of a row from one stretch, on average, for it to be worth a segment


Net = tuple[Array, ...]  # see `lottery.engines.compiled.kernels`


class SparseEngine(CompiledEngine):
    """An `Engine` for one network under one mask, whose steps are the dense ones within the rounding of float32.

    The network must be one that `lottery.engines.choose.unsupported` accepts. `threads` share the examples of a batch;
    their number decides the order of sums.
    """

    name = "sparse"

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer, mask: Mask, threads: int):
        super().__init__(objective, optimizer, threads)
        self._inputs = next(iter(self._layers.values())).in_features
        self._net, rows, kept = compressed([bits.numpy() for bits in self._alive(mask)])
        self._transposed = by_source(self._net[-1], rows, self._inputs, self._inputs, int(self._net[0][-2]))
        self._kept = [torch.from_numpy(places) for places in kept]
        self._allocate()
        self._work: dict[int, tuple[Array, ...]] = {}
        shapes = activations(self._net, self._inputs, TILE, self._residual)
        self._evaluated = [zeros(threads, *shape) for shape in shapes]
        self.load()

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Do one training step on a batch; see `Engine`."""
        self._take_threads()
        self._steps += 1
        loss = kernels.step(self._threads)(
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
        """Return the outputs of a batch; see `Engine`."""
        self._take_threads()
        out = np.empty((len(x), list(self._layers.values())[-1].out_features), np.float32)
        acts, gates = self._evaluated
        kernels.outputs(self._threads)(flat(x), self._net, self._state, acts, gates, self._residual, out)
        return torch.from_numpy(out)

    def _sizes(self) -> tuple[list[int], list[int]]:
        return [len(kept) for kept in self._kept], [layer.out_features for layer in self._layers.values()]

    def _packed(self, layer: int, weight: Tensor) -> Tensor:
        """Return the surviving weights."""
        return weight.flatten()[self._kept[layer]]

    def _unpacked(self, layer: int, values: Tensor, shape: torch.Size) -> Tensor:
        whole = torch.zeros(shape.numel())
        whole[self._kept[layer]] = values
        return whole.view(shape)

    def _buffers(self, examples: int) -> tuple[Array, ...]:
        if examples not in self._work:
            self._work[examples] = work_space(self._net, self._inputs, examples, self._threads, self._residual)
        return self._work[examples]


def activations(net: Net, inputs: int, tile: int, residual: bool) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shapes of the activations of so many examples, and of the rectifiers' outputs kept beside them."""
    rows = int(net[0][-1])
    return (inputs + rows, tile), (rows, tile) if residual else (1, 1)


def tiles_of(examples: int, threads: int) -> Array:
    """Return where the tiles of the examples begin, and where the last one ends."""
    tile = min(TILE, -(-examples // threads))
    return np.append(np.arange(0, examples, tile), examples)


def work_space(net: Net, inputs: int, examples: int, threads: int, residual: bool = False) -> tuple[Array, ...]:
    """Return the work space of a step on so many examples; see `kernels.step`.

    Biases are those of all units but the `inputs`.
    """
    begins = tiles_of(examples, threads)
    tiles, tile = len(begins) - 1, -(-int(begins[1]) // LANES) * LANES
    whole, kept = ((tiles, *shape) for shape in activations(net, inputs, tile, residual))
    acts, grads, gates, sums = (zeros(*shape) for shape in (whole, whole, kept, kept))
    layers, _, _, starts, _ = net
    cost = starts + 2 * np.arange(len(starts))  # what a segment costs beside its weights
    chunks = np.unique(np.searchsorted(cost, np.linspace(0, cost[-1], CHUNKS * threads + 1)))
    scratch = zeros(len(chunks) - 1, int(np.diff(starts[chunks]).max(initial=1)))
    of_biases = zeros(tiles, int(layers[-1]))
    return acts, grads, gates, sums, begins, chunks, scratch, np.zeros(tiles), of_biases


def compressed(alive: Sequence[Array]) -> tuple[Net, Array, list[Array]]:
    """Return the surviving weights of consecutive layers by segment.

    Args:
        alive: Bool tensors (out, in) of the layers.

    Returns:
        (layers, parts, owners, starts, units) of `kernels`; the row of each weight; the positions of the weights, in
        this order, in each layer.
    """
    layers = np.cumsum([0, *(len(bits) for bits in alive)])
    below = [0, *(alive[0].shape[1] + layers[:-2])]  # the first unit of the layer below
    parts, owners, counts, units, rows, kept = [0], [], [], [], [], []
    for bits, first_row, first_unit in zip(alive, layers[:-1], below, strict=True):
        row, column = np.nonzero(bits)
        stretches = max(1, min(-(-bits.shape[1] // STRETCH), len(row) // (FEWEST * len(bits))))
        segment = column * stretches // bits.shape[1] * len(bits) + row
        order = np.argsort(segment, kind="stable")
        found, many = np.unique(segment, return_counts=True)
        parts.append(parts[-1] + len(found))
        owners.append(first_row + found % len(bits))
        counts.append(many)
        units.append(first_unit + column[order])
        rows.append(first_row + row[order])
        kept.append((row * bits.shape[1] + column)[order])
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    net = layers, np.array(parts), np.concatenate(owners), starts, np.concatenate(units).astype(np.int32)
    return net, np.concatenate(rows), kept


def by_source(units: Array, rows: Array, inputs: int, first: int, count: int) -> tuple[Array, ...]:
    """Return (tptr, trows, tplaces) of `kernels` for the weights that come from `count` units from `first` on."""
    chosen = np.nonzero((units >= first) & (units < first + count))[0]
    order = chosen[np.argsort(units[chosen], kind="stable")]
    ptr = np.concatenate([[0], np.cumsum(np.bincount(units[chosen] - first, minlength=count))])
    return ptr, (rows[order] + inputs).astype(np.int32), order.astype(np.int32)
