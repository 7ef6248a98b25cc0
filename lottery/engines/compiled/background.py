"""Training steps of a fully connected network on images that are mostly background, which its first layer skips.

Four fifths of MNIST's pixels are black, and the first layer is nine tenths of LeNet: what the background gives is
computed once for all examples. The other layers are the sparse engine's, pruned or not. The arithmetic is compiled by
numba, see `lottery.engines.compiled.background_kernels`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lottery.engines.compiled import background_kernels as kernels
from lottery.engines.compiled.background_kernels import BLOCK
from lottery.engines.compiled.base import Array, CompiledEngine, flat, zeros
from lottery.engines.compiled.kernels import RULES
from lottery.engines.compiled.sparse import TILE, activations, by_source, compressed, work_space
from lottery.pruning.mask import Mask
from lottery.training.objective import Objective

ROWS = 32  # of the first layer's weights in a block, updated at once


class BackgroundEngine(CompiledEngine):
    """An `Engine` for one network, pruned or not, whose steps are the dense ones within the rounding of float32.

    The network has a hidden layer and is one that `lottery.engines.choose.unsupported` accepts.

    Args:
        background: Value (inputs,) that most inputs of most examples have; any values give right results.
        threads: Number of threads that share the examples of a batch; it decides the order of sums.
    """

    name = "background"

    def __init__(
        self,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        mask: Mask,
        threads: int,
        background: Tensor,
    ):
        super().__init__(objective, optimizer, threads)
        first = next(iter(self._layers.values()))
        self._background, self._every = background.numpy(), np.arange(first.in_features, dtype=np.int32)
        self._blocks = -(-first.out_features // BLOCK)
        self._units = units = self._blocks * BLOCK
        alive = self._alive(mask)
        second = functional.pad(alive[1], (0, units - first.out_features))  # no weight comes from what fills up a block
        self._net, rows, kept = compressed([bits.numpy() for bits in (second, *alive[2:])])
        self._hidden = np.append(0, units + self._net[0])  # where layers begin, the first one among them
        self._transposed = by_source(self._net[-1], rows, units, 0, int(self._hidden[-2]))
        self._kept = [torch.from_numpy(places) for places in kept]
        self._allocate()
        weights, _, wm, wv, _, _ = self._state
        end = self._sizes()[0][0]
        shape = self._blocks, first.in_features, BLOCK
        self._first = tuple(part[:end].reshape(shape) for part in (weights, wm, wv))
        self._rest = tuple(part[end:] for part in (weights, wm, wv))
        pruned = not bool(alive[0].all())
        self._mask = self._packed(0, alive[0].float()).numpy().reshape(shape) if pruned else np.zeros((0, 1, 1), "f4")
        self._work: dict[int, tuple[tuple[Array, ...], tuple[Array, ...]]] = {}
        shapes = activations(self._net, units, TILE, False)
        self._evaluated = (*self._lists(threads, TILE), *(zeros(threads, *shape) for shape in shapes))
        self.load()

    def _sizes(self) -> tuple[list[int], list[int]]:
        first, *others = self._layers.values()
        weights = [self._units * first.in_features, *(len(kept) for kept in self._kept)]
        return weights, [self._units, *(layer.out_features for layer in others)]

    def _packed(self, layer: int, weight: Tensor) -> Tensor:
        """Return blocks of rows of the first layer, filled up with zeros; of the other layers the surviving weights."""
        if layer == 0:
            whole = functional.pad(weight, (0, 0, 0, self._units - len(weight)))
            return whole.view(self._blocks, BLOCK, -1).transpose(1, 2).flatten()
        return self._padded(layer, weight).flatten()[self._kept[layer - 1]]

    def _unpacked(self, layer: int, values: Tensor, shape: torch.Size) -> Tensor:
        if layer == 0:
            return values.view(self._blocks, -1, BLOCK).transpose(1, 2).reshape(-1, shape[1])[: shape[0]]
        whole = self._padded(layer, torch.zeros(shape))
        whole.view(-1)[self._kept[layer - 1]] = values
        return whole[:, : shape[1]]

    def _padded(self, layer: int, weight: Tensor) -> Tensor:
        """Return the second layer's weight with the units that fill up the first layer's blocks among its inputs."""
        return functional.pad(weight, (0, self._units - weight.shape[1])) if layer == 1 else weight

    def load(self) -> None:
        """Copy the weights and the optimizer's state from torch; see `CompiledEngine`."""
        super().load()
        if len(self._mask):  # the model may not have been masked yet
            for weights in self._first:
                weights *= self._mask

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Do one training step on a batch; see `Engine`."""
        self._take_threads()
        self._steps += 1
        _, bias, _, _, bm, bv = self._state
        weights, wm, wv = self._rest
        work, own = self._buffers(len(x))
        loss = kernels.step(self._threads)(
            flat(x),
            y.numpy(),
            self._background,
            self._first,
            self._mask,
            self._net,
            self._hidden,
            self._transposed,
            (weights, bias, wm, wv, bm, bv),
            work,
            own,
            self._smoothing,
            RULES.index(self._rule),
            self._factors(),
        )
        return torch.tensor(loss, dtype=torch.float64)

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs of a batch; see `Engine`."""
        self._take_threads()
        out = np.empty((len(x), list(self._layers.values())[-1].out_features), np.float32)
        weights, others, biases = self._first[0], self._rest[0], self._state[1]
        kernels.outputs(self._threads)(
            flat(x), self._background, weights, self._net, others, biases, self._evaluated, out
        )
        return torch.from_numpy(out)

    def _lists(self, tiles: int, tile: int) -> tuple[Array, ...]:
        """Return the work space of the first layer for so many tiles; see `kernels.outputs`."""
        inputs = len(self._background)
        bases, outs = zeros(self._threads * self._blocks, BLOCK), zeros(self._threads, tile, BLOCK)
        values, places = (np.zeros((tiles, tile, inputs), kind) for kind in (np.float32, np.int32))
        return self._every, bases, outs, values, places, np.zeros((tiles, tile), np.int64)

    def _buffers(self, examples: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return the work space of a step on so many examples; see `kernels.step`."""
        if examples not in self._work:
            *work, of_biases = work_space(self._net, self._units, examples, self._threads)
            tiles, tile, inputs = len(work[0]), work[0].shape[2], len(self._background)
            of_biases = zeros(tiles, self._units + of_biases.shape[1])
            entries = (tile + 1) * inputs  # one more than there are examples, which is the background in all together
            by_input, examples_of = (np.zeros((tiles, entries), kind) for kind in (np.float32, np.int32))
            ds = zeros(tiles, self._blocks, tile + 1, BLOCK)
            starts = np.zeros((tiles, inputs + 1), np.int64)
            gradients = zeros(self._threads, ROWS, BLOCK)
            own = (*self._lists(tiles, tile), by_input, examples_of, starts, ds, gradients)
            self._work[examples] = (*work, of_biases), own
        return self._work[examples]
