"""Connectivity of pruned networks: weights on paths from input to output, and dead units."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lottery.catalogue.normalizations._switchable import Switchable
from lottery.network.build import own_parameters
from lottery.network.layout import Layout
from lottery.pruning.mask import Mask, whole
from lottery.structure.dependence import Flow, flow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True)
class Units:
    """The output units (features or channels) of one layer, as bool tensors of shape (units,).

    A unit that does not work is dead. One that receives nothing may still be a constant other than 0, by its bias or
    that of a normalization.

    Attributes:
        receives: The unit depends on the network's input.
        reaches: The network's output depends on the unit.
        works: Both hold, at one of the unit's positions at least.
    """

    receives: Tensor
    reaches: Tensor
    works: Tensor

    @property
    def dead(self) -> int:
        """Number of dead units."""
        return int((~self.works).sum())


@dataclass(frozen=True)
class Paths:
    """The part of a mask that lies on paths from input to output, and the units of each layer."""

    effective: Mask
    units: dict[str, Units]


def paths(network: nn.Module, mask: Mask, input_shape: Sequence[int]) -> Paths:
    """Return the weights of a mask that lie on a path from the network's input to its output, and its units.

    Direct density counts the surviving weights, effective density those of them on a path from input to output
    (Vysogorets & Kempe 2023, "Connectivity matters"). A path goes along surviving weights and through everything that
    is not pruned: shortcuts, pooling, gates, each position of a convolution (where a feature map is one pixel, the
    border of a padded kernel is on no path). Biases carry nothing of the input, and normalizations pass each channel by
    itself: that layer, group and instance statistics let one channel see others is no path.

    Operations that `structure.dependence` does not know count as depending on everything, and so do recurrent layers
    and the projections of attention: then too much is called connected and too few units dead, never the other way.

    Args:
        network: Any network; its own weights, mode and device do not matter, and it is not changed.
        mask: Bool tensors by name, True where a weight survives.
        input_shape: Shape of an input without the batch.
    """
    alive, layout = dict(whole(network, mask)), Layout.of(network)
    network = deepcopy(network).cpu().double().eval().requires_grad_()
    weights = own_parameters(network, alive)
    for path, module in list(network.named_modules()):
        if isinstance(module, Switchable):  # its statistics are no paths, and are written out in its code
            network.set_submodule(path, nn.Identity())
    draws = torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # differing, so that weights computed of them do not cancel out
        parameter.requires_grad_(False).uniform_(1, 2, generator=draws)
    for name, weight in weights.items():
        weight.copy_(alive[name]).requires_grad_(True)
    with torch.enable_grad():
        start = flow(input_shape, list(weights.values()))
        ends = [leaf for leaf in tree_leaves(network(start)) if isinstance(leaf, Flow)]
        notes = start.notes
        layers = [notes.outputs[weight] for weight in weights.values()]
        slopes = _slopes(ends, [*weights.values(), *(output for outputs in layers for output, _ in outputs)])
    connected = {
        name: alive[name] & ((slope > 0) | (notes.lost or weight in notes.mixed))
        for (name, weight), slope in zip(weights.items(), slopes, strict=False)
    }
    known = {
        name: _units(len(alive[name]), [(made, next(slopes), dim) for made, dim in outputs])
        for name, outputs in zip(weights, layers, strict=True)
    }
    effective, found = dict[str, Tensor](), dict[str, Units]()
    for name, bits in mask.items():
        place = layout.place(name)
        whole_name = layout.same.get(place.parameter, place.parameter)
        effective[name], found[name] = place.rows_of(connected[whole_name]), known[whole_name]
        if notes.lost or weights[whole_name] in notes.used:
            found[name] = Units(*torch.ones(3, len(bits), dtype=torch.bool))
    return Paths(Mask(effective), found)


def effective_mask(network: nn.Module, mask: Mask, input_shape: Sequence[int]) -> Mask:
    """Return the weights of the mask that lie on a path from input to output; see `paths`."""
    return paths(network, mask, input_shape).effective


def units(network: nn.Module, mask: Mask, input_shape: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the output units of each layer in the mask; see `Units`."""
    found = paths(network, mask, input_shape).units
    return {name: (layer.receives, layer.reaches) for name, layer in found.items()}


def _slopes(ends: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[Tensor]:
    """Return the gradient of the sum of the ends with respect to each value; 0 where they do not depend on it."""
    with torch._C.DisableTorchFunctionSubclass():
        total = sum((end.sum() for end in ends), start=torch.zeros((), dtype=torch.float64))
        if not total.requires_grad:
            return iter([torch.zeros_like(value) for value in values])
        return iter(torch.autograd.grad(total, values, materialize_grads=True))


def _units(count: int, outputs: Sequence[tuple[Tensor, Tensor, int]]) -> Units:
    """Return the units of a layer from its outputs, each with its gradient and the dimension of the units.

    A layer without outputs has idle units only.
    """
    receives, reaches, works = torch.zeros(3, count, dtype=torch.bool)
    with torch._C.DisableTorchFunctionSubclass():
        for made, slope, dim in outputs:
            given, taken = (value.as_subclass(Tensor).movedim(dim, 0).flatten(1) > 0 for value in (made, slope))
            receives, reaches, works = (
                known | now.any(1) for known, now in ((receives, given), (reaches, taken), (works, given & taken))
            )
    return Units(receives, reaches, works)
