"""Chains of fully connected layers: paths and multiply-adds from masks and sizes alone, without network or torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lottery import registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lottery.pruning.mask import Mask
    from lottery.values import Component


@dataclass(frozen=True)
class LayerPaths:
    """The numbers of one layer's weights and output units that lie on a path from input to output.

    Attributes:
        effective: Number of surviving weights on a path.
        units: Number of output units.
        dead: Number of output units on no path.
    """

    effective: int
    units: int
    dead: int


def chain_paths(mask: Mask) -> dict[str, LayerPaths]:
    """Return for each layer what of it lies on a path, as `lottery.structure.connectivity.paths` has it.

    Args:
        mask: Mask of a network whose prunable weights are matrices of shape (outputs, inputs), in the order in which
            the layers follow on each other, each reading the one before it and nothing else.
    """
    flat, shapes = mask.flat(), mask.shapes()
    alive = {name: bits.reshape(shapes[name]) for name, bits in flat.items()}
    given: dict[str, NDArray[np.bool_]] = {}  # by layer, which of its inputs depend on the network's input
    receives: dict[str, NDArray[np.bool_]] = {}
    reached: NDArray[np.bool_] | None = None
    for name, bits in alive.items():
        given[name] = np.ones(bits.shape[1], bool) if reached is None else reached
        receives[name] = reached = _any(bits[:, given[name]], 1)
    found: dict[str, LayerPaths] = {}
    needed: NDArray[np.bool_] | None = None  # of a layer's outputs, those that the network's output depends on
    for name, bits in reversed(alive.items()):
        reaches = np.ones(len(bits), bool) if needed is None else needed
        effective = np.count_nonzero(bits[np.ix_(reaches, given[name])])
        found[name] = LayerPaths(int(effective), len(bits), int(np.count_nonzero(~(receives[name] & reaches))))
        needed = _any(bits[reaches], 0)
    return {name: found[name] for name in alive}


def _any(bits: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.logical_or.reduce(bits, axis=axis)
    return found


def is_chain(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return True if the shapes can be those of such a chain: matrices, each with as many inputs as outputs before."""
    every = list(shapes.values())
    return all(len(shape) == 2 for shape in every) and all(one[0] == other[1] for one, other in pairwise(every))


def makes_chain(model: Component) -> bool:
    """Return True if a recipe's model is such a chain, with nothing of a plugin inside it."""
    entry = registry.models[model.name]
    arguments = entry.all_arguments(model.args)
    inside = (registry.activations, "activation"), (registry.normalizations, "norm")
    own = not any(named[arguments[key]].code for named, key in inside if key in arguments)
    return own and entry.traits.chain is not None and entry.traits.chain(arguments)


def chain_steps(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the multiply-adds of a training step, as `multiply_adds.per_layer_and_step` has them, by size of layer.

    Those of a forward pass are the sizes.
    """
    return {name: (3 if place else 2) * size for place, (name, size) in enumerate(sizes.items())}
