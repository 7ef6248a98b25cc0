"""Training steps of a fully connected network on images that are mostly background, which its first layer skips.

Four fifths of MNIST's pixels are black, and the first layer is nine tenths of LeNet: what the background gives is
computed once for all examples. The other layers are torch's matrix products. See `lottery.background_kernels`."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lottery import background_kernels as kernels
from lottery.compiled import Array, CompiledEngine, flat
from lottery.kernels import RULES
from lottery.mask import Mask
from lottery.objective import Objective

LANES = 32  # rows of the first layer's weights are filled up to so many: what is left over of a vector is slow


@dataclass(frozen=True)
class _Layer:
    """A layer after the first, and its gradients, in the engine's arrays."""

    weight: Tensor
    bias: Tensor
    of_weight: Tensor
    of_bias: Tensor


@dataclass(frozen=True)
class _Work:
    """What a step on so many examples works in. Of the first layer the tensors are views of the arrays."""

    first: Array
    of_first: Array
    outputs: list[Tensor]  # of each layer, rectified but for the last
    gradients: list[Tensor]  # with respect to what enters the rectifiers
    noted: tuple[Array, ...]  # see `kernels.forward`


class BackgroundEngine(CompiledEngine):
    """An `Engine` for one network, pruned or not. Its steps are the dense ones within the rounding of float32.

    `background` (inputs,) is what most inputs of most examples equal; any values give right results. `threads` share
    the examples of a batch; with other numbers of threads sums have another order."""

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
        self._background = background.numpy()
        self._units, self._width = first.out_features, -(-first.out_features // LANES) * LANES
        self._allocate()
        w, b, wm, wv, bm, bv = self._state
        of_weights, of_biases = np.zeros_like(w), np.zeros_like(b)
        self._kept = kept = self._bits(mask)
        end = self._sizes()[0][0]
        self._first = tuple(part[:end].reshape(-1, self._width) for part in (w, wm, wv))
        self._rest = w[end:], b, wm[end:], wv[end:], bm, bv
        self._mask = kept[:end].reshape(-1, self._width), kept[end:]
        self._of_bias, self._of_rest = of_biases[: self._width], (of_weights[end:], of_biases)
        parts = zip(self._parts(w, b), self._parts(of_weights, of_biases), strict=True)
        self._others = [
            _Layer(weight.view_as(layer.weight), bias, of_weight.view_as(layer.weight), of_bias)
            for (layer, weight, bias), (_, of_weight, of_bias) in list(parts)[1:]
        ]
        self._work: dict[int, _Work] = {}
        self.load()

    def _bits(self, mask: Mask) -> Array:
        """1 for each weight that is kept and 0 for the others, in the order of the weights; empty where all are."""
        if mask.density == 1:
            return np.zeros(0, np.float32)
        named = [(f"{place}.weight", layer.weight) for place, layer in self._layers.items()]
        alive = [mask[name].float() if name in mask else torch.ones_like(weight) for name, weight in named]
        return torch.cat([self._packed(i, bits) for i, bits in enumerate(alive)]).numpy()

    def _sizes(self) -> tuple[list[int], list[int]]:
        first, *others = self._layers.values()
        weights = [first.in_features * self._width, *(layer.weight.numel() for layer in others)]
        return weights, [self._width, *(layer.out_features for layer in others)]

    def _packed(self, layer: int, weight: Tensor) -> Tensor:
        """Of the first layer a row an input, filled up with zeros; of the others as it is."""
        if layer:
            return weight.flatten()
        return functional.pad(weight.t(), (0, self._width - self._units)).flatten()

    def _unpacked(self, layer: int, values: Tensor, shape: torch.Size) -> Tensor:
        return values.view(shape) if layer else values.view(-1, self._width)[:, : self._units].t()

    def load(self) -> None:
        super().load()
        if len(self._kept):  # the model may not have been masked yet
            w, _, wm, wv, *_ = self._state
            for weights in (w, wm, wv):
                weights *= self._kept

    @torch.no_grad()
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        self._steps += 1
        work, factors, number = self._outputs(x), self._factors(), RULES.index(self._rule)
        loss = kernels.loss(work.outputs[-1].numpy(), work.gradients[-1].numpy(), y.numpy(), self._smoothing)
        for i in range(len(self._others) - 1, -1, -1):
            layer, d, below, h = self._others[i], work.gradients[i + 1], work.gradients[i], work.outputs[i]
            torch.mm(d.t(), h, out=layer.of_weight)
            torch.sum(d, 0, out=layer.of_bias)
            torch.mm(d, layer.weight, out=below)
            torch.ops.aten.threshold_backward.grad_input(below, h, 0, grad_input=below)
        kernels.backward(
            work.of_first, self._background, self._first, self._mask[0], work.noted, self._of_bias, number, factors
        )
        kernels.finish(self._rest, *self._of_rest, self._mask[1], number, factors)
        return torch.tensor(loss, dtype=torch.float64)

    @torch.no_grad()
    def outputs(self, x: Tensor) -> Tensor:
        return self._outputs(x).outputs[-1].clone()

    def _outputs(self, x: Tensor) -> _Work:
        """The forward pass: outputs of all layers, and which examples differ from the background at each input."""
        numba.set_num_threads(self._threads)
        work, weights, bias = self._buffers(len(x)), self._first[0], self._state[1][: self._width]
        kernels.forward(flat(x), self._background, weights, bias, bool(self._others), work.first, work.noted)
        for i, layer in enumerate(self._others):
            torch.addmm(layer.bias, work.outputs[i], layer.weight.t(), out=work.outputs[i + 1])
            if i + 1 < len(self._others):
                work.outputs[i + 1].relu_()
        return work

    def _buffers(self, examples: int) -> _Work:
        if examples not in self._work:
            inputs, width, tile = len(self._background), self._width, -(-examples // self._threads)
            first, of_first = (np.zeros((examples, width), np.float32) for _ in range(2))
            outputs, gradients = (
                [
                    torch.from_numpy(array)[:, : self._units],
                    *(torch.zeros(examples, len(layer.bias)) for layer in self._others),
                ]
                for array in (first, of_first)
            )
            noted = (
                np.zeros((self._threads, inputs, tile), np.float32),
                np.zeros((self._threads, inputs, tile), np.int32),
                np.zeros((self._threads, inputs), np.int64),
                np.zeros((self._threads, width), np.float32),
                np.minimum(np.arange(self._threads + 1) * tile, examples),
                np.zeros((self._threads, width), np.float32),
            )
            self._work[examples] = _Work(first, of_first, outputs, gradients, noted)
        return self._work[examples]
