"""Compact networks: a pruned network as a smaller, ordinary one, without the units that its outputs do not need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lottery.errors import UsageError
from lottery.network.build import own_parameters
from lottery.network.channel_groups import BatchNorm, ChannelGroup, Layer, channel_groups
from lottery.network.layout import Layout
from lottery.network.weights import PRUNABLE
from lottery.pruning.mask import Mask, whole
from lottery.structure.connectivity import Units, paths

AT_ONCE = 64  # constant units whose effects on the next layer are computed together
ROUNDING = 1e-11  # relative, of sums in float64


class Row(NamedTuple):
    """The output units of one layer before and after compaction.

    Attributes:
        layer: Name of the layer.
        kind: `linear` or `conv`.
        before: Number of output units of the pruned network.
        after: Number of output units of the compact network.
        dead: Number of units that had to stay though they do not connect input and output; see `compact`.
    """

    layer: str
    kind: str
    before: int
    after: int
    dead: int


@dataclass(frozen=True)
class Compacted:
    """A compact network in evaluation mode on the CPU, its layers, and the number of parameters before and after."""

    model: nn.Module
    rows: list[Row]
    parameters: tuple[int, int]


@torch.no_grad()
def compact(model: nn.Module, mask: Mask, shape: Sequence[int]) -> Compacted:
    """Return the network under the mask without units that cannot influence its output or that receive no input.

    In evaluation mode its outputs are those of the masked network, within rounding. A unit that receives nothing is
    constant, and its contribution to the next layer moves into that layer's biases. Before a convolution that pads with
    zeros this would be wrong at the border: there, one such unit stays and stands for all of them, and a unit whose
    constant differs from position to position (it reads another constant across a border) stays too.

    Units can be removed where only linear and convolutional layers write and read them, each unit by itself
    (`channel_groups`). Units that several layers write, added in the stream of a residual network, go where all of the
    writers are dead. Dead units elsewhere stay: before a layer or group normalization, and the network's outputs. A
    layer keeps at least one unit. Weight normalizations are replaced by the weights that they compute.

    Args:
        model: The network; it is not changed.
        mask: Bool tensors by name, True where a weight survives.
        shape: Shape of an input without the batch.

    Raises:
        UsageError: torch.fx cannot follow the model, or the compact network, tried on random inputs, does not give the
            outputs of the masked one.
    """
    small = pruned(model, mask).cpu().eval()
    layers = {path: name for path, name in prunable_layers(small).items() if name in mask}
    own_parameters(small, layers.values())
    sizes = {path: _units_of(small.get_submodule(path)) for path in layers}
    found = paths(model, mask, shape).units
    works = {path: found[name].works for path, name in layers.items()}
    small.double()
    narrow = [group for group in channel_groups(small) if all(path in layers for path in group.writers)]
    expected, seen = _tried(small, shape, [path for group in narrow for path in group.readers])
    for group in narrow:
        if _is_laid_out(small, group, seen):
            units = [found[layers[path]] for path in group.writers]
            kept = _fold(small, group, units, seen)
            _shrink(small, group, kept)
            works |= {path: works[path][kept] for path in group.writers}
    given, _ = _tried(small, shape, [])
    if not all(_close(one, other) for one, other in zip(given, expected, strict=True)):
        raise UsageError(f"{type(model).__name__}: made compact, its outputs are others; export another form")
    small.to(next(model.parameters()).dtype)
    rows = [
        Row(path, _kind(small.get_submodule(path)), size, len(works[path]), int((~works[path]).sum()))
        for path, size in sizes.items()
    ]
    return Compacted(small, rows, (_count(model), _count(small)))


@torch.no_grad()
def pruned(model: nn.Module, mask: Mask) -> nn.Module:
    """Return a copy of the model with each pruned weight 0, also in layers that share a weight.

    Raises:
        UsageError: The mask names a weight that the model lacks or has in another shape.
    """
    copied = deepcopy(model)
    for name, bits in whole(copied, mask):
        weight = copied.get_parameter(name)
        weight.copy_(torch.where(bits.to(weight.device), weight, torch.zeros_like(weight)))
    return copied


def prunable_layers(model: nn.Module) -> dict[str, str]:
    """Return the names of the prunable weights of linear and convolutional layers, by the path of the layer."""
    weights = Layout.of(model).weights.items()
    return {place.path: name for name, place in weights if isinstance(model.get_submodule(place.path), PRUNABLE)}


def _layer(model: nn.Module, path: str) -> Layer:
    layer = model.get_submodule(path)
    assert isinstance(layer, (nn.Linear, nn.Conv2d)), path
    return layer


def _units_of(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def _kind(layer: nn.Module) -> str:
    return "linear" if isinstance(layer, nn.Linear) else "conv"


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _tried(model: nn.Module, shape: Sequence[int], last: Sequence[str]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the outputs for two random examples, and the inputs of the layers `last` for the first of them.

    The output of a unit that receives nothing is the same for all examples. Examples are random so that no layer
    divides by 0.
    """
    seen: dict[str, Tensor] = {}

    def note(path: str) -> Any:
        return lambda layer, inputs: seen.__setitem__(path, inputs[0][:1])

    handles = [model.get_submodule(path).register_forward_pre_hook(note(path)) for path in last]
    draws = torch.Generator().manual_seed(0)
    made = model(torch.randn(2, *shape, generator=draws, dtype=torch.float64))
    for handle in handles:
        handle.remove()
    return [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)], seen


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-12 + 1e-8 * float(other.abs().max()), equal_nan=True)


def _is_laid_out(model: nn.Module, group: ChannelGroup, seen: Mapping[str, Tensor]) -> bool:
    """Return True if all writers have as many units, and readers see one channel of each or its positions flattened."""
    sizes = {_units_of(model.get_submodule(path)) for path in group.writers}
    units = min(sizes)
    if len(sizes) > 1 or any(model.get_submodule(path).num_features != units for path in group.norms):
        return False
    for path in group.readers:
        size, flat = seen[path].shape, not isinstance(_layer(model, path), nn.Conv2d)
        if not flat:
            fits = group.spatial and len(size) == 4 and size[1] == units
        elif group.spatial:
            fits = len(size) == 2 and size[1] % units == 0
        else:
            fits = size[-1] == units
        if not fits:
            return False
    return True


def _fold(model: nn.Module, group: ChannelGroup, units: Sequence[Units], seen: Mapping[str, Tensor]) -> Tensor:
    """Move the contributions of constant units into the biases of the readers, and return which units must stay.

    A unit is constant if no writer makes it depend on the input in a way that matters to the output.

    Args:
        model: The network, changed in place.
        group: The layers that share the units.
        units: The units of each writer.
        seen: An input of each reader.

    Returns:
        A bool tensor, True for units that must stay.
    """
    kept = torch.stack([each.works for each in units]).any(0)
    idle = ~kept & torch.stack([each.reaches for each in units]).any(0)
    at_border = torch.zeros_like(kept)
    moved: dict[str, dict[int, Tensor]] = {}
    for path in group.readers:
        moved[path] = {}
        for unit, given in _effects(_layer(model, path), seen[path], idle):
            if given is None:
                at_border[unit] = True
            else:
                moved[path][unit] = given
    kept |= at_border
    if len(group.readers) == 1:
        reader = group.readers[0]
        kept &= ~_merge(_layer(model, reader), seen[reader], at_border)
    if not bool(kept.any()):  # a layer keeps one unit at least
        kept[0] = True
    for path, effects in moved.items():
        layer = _layer(model, path)
        gone = [given for unit, given in effects.items() if not kept[unit]]
        bias = torch.stack([torch.zeros_like(layer.weight.flatten(1)[:, 0]), *gone]).sum(0)
        if bool(bias.any()):
            layer.bias = nn.Parameter(bias if layer.bias is None else layer.bias + bias)
    return kept


def _merge(reader: Layer, seen: Tensor, constant: Tensor) -> Tensor:
    """Let one constant unit stand for all that are the same at every position, and return which units can go."""
    read = _by_position(reader, seen, len(constant))
    uniform = constant & (read == read[:, :1]).all(1)
    if bool(uniform.any()):
        stays = int(torch.where(uniform, read[:, 0].abs(), -1).argmax())
        columns = _by_unit(reader.weight, len(constant)).clone()
        shares = read[uniform, 0] / read[stays, 0]
        columns[:, stays] = torch.einsum("ou...,u->o...", columns[:, uniform], shares)
        reader.weight = nn.Parameter(columns.flatten(1, 2))
        uniform[stays] = False
    return uniform


def _by_unit(weight: Tensor, units: int) -> Tensor:
    """Return a layer's weight by the units that it reads, of shape (outputs, units, features, ...)."""
    return weight.reshape(len(weight), units, -1, *weight.shape[2:])


def _by_position(layer: Layer, seen: Tensor, units: int) -> Tensor:
    """Return the input of a layer by unit, of shape (units, features or positions)."""
    return seen.movedim(1 if isinstance(layer, nn.Conv2d) else -1, 0).reshape(units, -1)


def _effects(layer: Layer, seen: Tensor, idle: Tensor) -> Iterator[tuple[int, Tensor | None]]:
    """Yield each idle unit with what it adds to the layer's outputs; None if that differs between positions."""
    without_bias = deepcopy(layer)
    without_bias.bias = None
    dim = 1 if isinstance(layer, nn.Conv2d) else -1
    features = seen.shape[dim] // len(idle)
    read, columns = _by_position(layer, seen, len(idle)), _by_unit(layer.weight, len(idle))
    for some in torch.split(idle.nonzero().flatten(), AT_ONCE):
        alone = nn.functional.one_hot(some, len(idle)).repeat_interleave(features, 1).to(seen.dtype)
        shape = [1] * seen.dim()
        shape[0], shape[dim] = alone.shape
        made = without_bias(seen * alone.reshape(shape)).movedim(dim, 1).unsqueeze(-1).flatten(2)
        for unit, given in zip(some.tolist(), made, strict=True):
            scale = ROUNDING * columns[:, unit].abs().sum() * read[unit].abs().max()
            yield unit, given[:, 0] if bool((given.amax(1) - given.amin(1) <= scale).all()) else None


def _shrink(model: nn.Module, group: ChannelGroup, kept: Tensor) -> None:
    """Remove all units but those kept from writers, normalizations and the inputs of readers."""
    for path in group.readers:
        weight = model.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        resize(model.get_submodule(path), {"weight": _by_unit(weight, len(kept))[:, kept].flatten(1, 2)})
    for path in (*group.writers, *group.norms):
        module = model.get_submodule(path)
        values = {**module._parameters, **module._buffers}
        resize(module, {name: value[kept] for name, value in values.items() if value is not None and value.dim()})


def resize(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Put tensors of other sizes in place of a layer's or a batch normalization's own, and update its sizes."""
    for name, value in values.items():
        if name in module._parameters:
            module.register_parameter(name, nn.Parameter(value.detach().clone()))
        else:
            module.register_buffer(name, value.detach().clone())
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Conv2d):
        module.out_channels, module.in_channels = module.weight.shape[0], module.weight.shape[1] * module.groups
    elif isinstance(module, BatchNorm):
        module.num_features = next(len(value) for value in values.values() if value.dim())
