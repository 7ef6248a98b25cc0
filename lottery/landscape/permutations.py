"""Permutations of hidden units, which change the weights of a network and not the function that it computes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lottery.errors import UsageError
from lottery.landscape.subject import State
from lottery.network.channel_groups import ChannelGroup, channel_groups
from lottery.network.layout import Layout, load
from lottery.pruning.mask import Mask

_PER_UNIT = ("weight", "bias", "running_mean", "running_var")  # of a batch normalization


@dataclass(frozen=True)
class Axis:
    """A dimension of a tensor along which hidden units lie.

    Attributes:
        tensor: Name of the tensor in the network's state.
        dim: The dimension.
        trains: True for weights, biases and scales, False for running statistics.
    """

    tensor: str
    dim: int
    trains: bool = True


@dataclass(frozen=True)
class Units:
    """Hidden units that may be permuted, with all tensors that have a place for each of them.

    Attributes:
        count: Number of units.
        axes: Where they lie. Along a dimension that is longer, each unit has a block of neighbouring places.
        readers: Paths of the layers that read the units.
    """

    count: int
    axes: tuple[Axis, ...]
    readers: tuple[str, ...]


def hidden_units(model: nn.Module) -> list[Units]:
    """Return the groups of hidden units of a network that may be permuted, each by itself.

    They are those of linear and convolutional layers, batch normalizations and shortcuts, as `channel_groups` finds
    them; units that are concatenated, split into groups, normalized together or computed from shared weights stay.

    Raises:
        UsageError: There is none, or the network's code cannot be followed.
    """
    shared = {name for pair in Layout.of(model).same.items() for name in pair}
    found = [units for group in channel_groups(model) if (units := _units(model, group, shared)) is not None]
    if not found:
        raise UsageError(
            f"{type(model).__name__}: it has no hidden units that can be permuted without a change of its function; "
            "leave out `align`"
        )
    return found


def _units(model: nn.Module, group: ChannelGroup, shared: set[str]) -> Units | None:
    """Return the units of a group; None where a tensor has no whole number of places for each, or is shared."""
    tensors = model.state_dict()
    count = len(tensors[f"{group.writers[0]}.weight"])
    axes = [Axis(f"{path}.{name}", 0) for path in group.writers for name in ("weight", "bias")]
    axes += [Axis(f"{path}.{name}", 0, name in _PER_UNIT[:2]) for path in group.norms for name in _PER_UNIT]
    axes += [Axis(f"{path}.weight", 1) for path in group.readers]
    axes = [axis for axis in axes if axis.tensor in tensors]
    whole = all(tensors[axis.tensor].shape[axis.dim] % count == 0 for axis in axes)
    if not whole or shared & {axis.tensor for axis in axes}:
        return None
    return Units(count, tuple(axes), tuple(group.readers))


def permuted(
    tensors: Mapping[str, Tensor], groups: Sequence[Units], orders: Sequence[Tensor], but: Axis | None = None
) -> dict[str, Tensor]:
    """Return tensors by name with their units in another order; those that have no units are handed through.

    Args:
        tensors: A state, or the bits of a mask.
        groups: The groups of units.
        orders: For each group the old places of its units, in their new order.
        but: An axis that stays as it is.
    """
    found = dict(tensors)
    for units, order in zip(groups, orders, strict=True):
        for axis in units.axes:
            if axis.tensor in found and axis != but:
                value = found[axis.tensor]
                block = value.shape[axis.dim] // units.count
                places = (order[:, None] * block + torch.arange(block)).flatten().to(value.device)
                found[axis.tensor] = value.index_select(axis.dim, places)
    return found


def permuted_state(state: State, groups: Sequence[Units], orders: Sequence[Tensor]) -> State:
    """Return a state with its hidden units in another order, and its mask with them."""
    mask = None if state.mask is None else Mask(permuted(dict(state.mask), groups, orders))
    return State(state.name, state.key, permuted(state.weights, groups, orders), mask, state.step)


@torch.no_grad()
def check_same_function(model: nn.Module, one: State, other: State, inputs: Iterable[Tensor]) -> None:
    """Raise UsageError unless two states give the same outputs for inputs, within the rounding of double precision.

    A state whose outputs are not finite passes.
    """
    model = model.double().eval()
    for x in inputs:
        x = x.double() if x.is_floating_point() else x
        load(model, one.masked())
        expected: Tensor = model(x)
        load(model, other.masked())
        given: Tensor = model(x)
        if not bool(expected.isfinite().all()):
            continue
        if not torch.allclose(given, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max())):
            raise UsageError(
                f"{type(model).__name__}: with its hidden units in another order it gives other outputs; leave out "
                "`align`"
            )
