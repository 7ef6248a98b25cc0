"""A pruned network made smaller: an ordinary network without the units that its outputs do not need."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lottery.errors import DamagedFile, UsageError
from lottery.files.read import parse_json, read_bytes
from lottery.files.tensors import decode, encode
from lottery.network.build import build_model, own_parameters
from lottery.network.layout import Layout
from lottery.network.weights import PRUNABLE
from lottery.pruning.mask import Mask, whole
from lottery.structure.channel_groups import BatchNorm, Joint, Layer, joints
from lottery.structure.connectivity import Units, paths
from lottery.values import Component

FORMAT, VERSION = "lottery compact network", 1
MOST_BYTES = 1 << 36
AT_ONCE = 64  # constant units whose effects on the next layer are computed together
ROUNDING = 1e-11  # relative, of sums in float64


class Row(NamedTuple):
    """A layer's output units before and after; `kind` is linear or conv. `dead` are those that had to stay though they
    do not connect input and output: see `compact`.
    """

    layer: str
    kind: str
    before: int
    after: int
    dead: int


@dataclass(frozen=True)
class Compacted:
    """The smaller network, in evaluation mode on the CPU, its pruned layers, and parameters before and after."""

    model: nn.Module
    rows: list[Row]
    parameters: tuple[int, int]


@dataclass(frozen=True)
class Speed:
    """Seconds of one forward pass, medians over turns in which both networks were run; `ratio` is how often faster."""

    masked: float
    compact: float

    @property
    def ratio(self) -> float:
        return self.masked / self.compact


@torch.no_grad()
def compact(model: nn.Module, mask: Mask, shape: Sequence[int]) -> Compacted:
    """The network under the mask without the units that cannot influence its output, and those that receive nothing.

    In evaluation mode its outputs are those of the masked network, within rounding. A unit that receives nothing is
    constant, and what it gives the next layer moves into that layer's biases. Before a convolution that pads with zeros
    this would be wrong at the border: there, one such unit stays and stands for all, and one whose constant is not the
    same everywhere (it reads another constant across a border) stays too.
    Units can be removed where linear and convolutional layers alone write and read them, each unit by itself
    (`channel_groups`). What several layers write, added in the stream of a residual network, goes where all of them are
    dead. Dead units elsewhere stay: before a layer or group normalization, and the network's outputs. A layer keeps one
    unit at least. Weight normalizations are computed and gone. `shape` is that of an input without the batch; the model
    itself is not changed. Raises UsageError for a model that torch.fx cannot follow, and where the smaller network,
    tried on random inputs, does not give the outputs of the masked one.
    """
    small = pruned(model, mask).cpu().eval()
    layers = {path: name for path, name in _layers(small).items() if name in mask}
    own_parameters(small, layers.values())
    sizes = {path: _units_of(small.get_submodule(path)) for path in layers}
    found = paths(model, mask, shape).units
    works = {path: found[name].works for path, name in layers.items()}
    small.double()
    narrow = [joint for joint in joints(small) if all(path in layers for path in joint.writers)]
    expected, seen = _tried(small, shape, [path for joint in narrow for path in joint.readers])
    for joint in narrow:
        if _is_laid_out(small, joint, seen):
            units = [found[layers[path]] for path in joint.writers]
            kept = _fold(small, joint, units, seen)
            _shrink(small, joint, kept)
            works |= {path: works[path][kept] for path in joint.writers}
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
    """A copy of the model with each pruned weight 0, in layers that share a weight too.

    Raises UsageError where the mask names a weight that the model lacks or has in another shape.
    """
    copied = deepcopy(model)
    for name, bits in whole(copied, mask):
        weight = copied.get_parameter(name)
        weight.copy_(torch.where(bits.to(weight.device), weight, torch.zeros_like(weight)))
    return copied


def _layers(model: nn.Module) -> dict[str, str]:
    """The names of the prunable weights of linear and convolutional layers, by the paths of these."""
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
    """The outputs for two random examples, and what these layers read for the first.

    What a unit that receives nothing gives is the same for all examples; random ones make no layer divide by 0.
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


def _is_laid_out(model: nn.Module, joint: Joint, seen: Mapping[str, Tensor]) -> bool:
    """Whether all write equally many units, and readers see one channel of each, or their positions flattened."""
    sizes = {_units_of(model.get_submodule(path)) for path in joint.writers}
    units = min(sizes)
    if len(sizes) > 1 or any(model.get_submodule(path).num_features != units for path in joint.norms):
        return False
    for path in joint.readers:
        size, flat = seen[path].shape, not isinstance(_layer(model, path), nn.Conv2d)
        if not flat:
            fits = joint.spatial and len(size) == 4 and size[1] == units
        elif joint.spatial:
            fits = len(size) == 2 and size[1] % units == 0
        else:
            fits = size[-1] == units
        if not fits:
            return False
    return True


def _fold(model: nn.Module, joint: Joint, units: Sequence[Units], seen: Mapping[str, Tensor]) -> Tensor:
    """Move what constant units give the readers into their biases; which units must stay.

    `units` are those of each writer, `seen` an input of each reader. A unit that none of its writers makes depend on
    the input, in a way that the output depends on, is constant for each reader that the output depends on by it.
    """
    kept = torch.stack([each.works for each in units]).any(0)
    idle = ~kept & torch.stack([each.reaches for each in units]).any(0)
    at_border = torch.zeros_like(kept)
    moved: dict[str, dict[int, Tensor]] = {}
    for path in joint.readers:
        moved[path] = {}
        for unit, given in _effects(_layer(model, path), seen[path], idle):
            if given is None:
                at_border[unit] = True
            else:
                moved[path][unit] = given
    kept |= at_border
    if len(joint.readers) == 1:
        reader = joint.readers[0]
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
    """Let one of these constant units stand for those that are, as it is, the same at all positions; which can go."""
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
    """A layer's weight by the units that it reads: (outputs, units, features, ...)."""
    return weight.reshape(len(weight), units, -1, *weight.shape[2:])


def _by_position(layer: Layer, seen: Tensor, units: int) -> Tensor:
    """What a layer reads of each unit: (units, features or positions)."""
    return seen.movedim(1 if isinstance(layer, nn.Conv2d) else -1, 0).reshape(units, -1)


def _effects(layer: Layer, seen: Tensor, idle: Tensor) -> Iterator[tuple[int, Tensor | None]]:
    """What each of these units by itself adds to the layer's outputs, none if that is not the same at all positions."""
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


def _shrink(model: nn.Module, joint: Joint, kept: Tensor) -> None:
    """Take the other units off the writers, the normalizations, and what the readers read."""
    for path in joint.readers:
        weight = model.get_submodule(path).weight
        assert isinstance(weight, Tensor)
        _set(model.get_submodule(path), {"weight": _by_unit(weight, len(kept))[:, kept].flatten(1, 2)})
    for path in (*joint.writers, *joint.norms):
        module = model.get_submodule(path)
        values = {**module._parameters, **module._buffers}
        _set(module, {name: value[kept] for name, value in values.items() if value is not None and value.dim()})


def _set(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Put tensors of other sizes in place of a layer's or a batch normalization's own, and let it say its sizes."""
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


@torch.no_grad()
def speed_up(
    masked: nn.Module,
    small: nn.Module,
    shape: Sequence[int],
    *,
    batch: int = 128,
    turns: int = 201,
    seconds: float = 10.0,
) -> Speed:
    """How much faster the smaller network is on this machine's processor, for batches of inputs of this shape.

    In evaluation mode. Both run in turns, the first alternating, so that what else the machine does slows both; two
    turns that warm up are not counted. Ends early once it took so many `seconds`, not before five turns. On a busy
    machine, a network against itself came out within 2 % in 201 turns, in 15 within 10 %.
    """
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0), dtype=next(small.parameters()).dtype)
    networks = [deepcopy(each).cpu().eval() for each in (masked, small)]
    times: list[list[float]] = [[], []]
    for turn in range(turns + 2):
        for which in (0, 1) if turn % 2 else (1, 0):
            began = time.perf_counter()
            networks[which](x)
            if turn > 1:
                times[which].append(time.perf_counter() - began)
        if turn > 5 and sum(times[0]) + sum(times[1]) > seconds:
            break
    return Speed(statistics.median(times[0]), statistics.median(times[1]))


def written(small: nn.Module, component: Component, shape: Sequence[int], classes: int) -> bytes:
    """A compacted network of a model of the catalogue as a safetensors file that `load_compact` reads.

    The widths are those of the tensors; the metadata name the model, the shape of its inputs, and the classes.
    """
    about = {"model": component.as_dict(), "shape": list(shape), "classes": classes}
    head = {"format": FORMAT, "version": str(VERSION), "about": json.dumps(about, sort_keys=True)}
    return encode(small.state_dict(), head)


def load_compact(path: str | Path) -> nn.Module:
    """A network from a file of `written`, in evaluation mode: the model of the catalogue, its layers as wide as saved.

    Raises UsageError for another file, DamagedFile for one that is not whole.
    """
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    tensors, head = decode(read_bytes(path, most=MOST_BYTES))
    if head.get("format") != FORMAT or head.get("version") != str(VERSION):
        raise UsageError(f"{path}: holds no compact network of version {VERSION}")
    about = parse_json(head["about"].encode(), str(path))
    component, shape = Component.parse(about["model"]), tuple(about["shape"])
    model = build_model(component, shape, about["classes"], init=Component("torch"), seed=0)
    own_parameters(model, _layers(model).values())
    own: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        own.setdefault(name.rpartition(".")[0], {})[name.rpartition(".")[2]] = value
    try:
        for at, module in model.named_modules():
            if isinstance(module, (*PRUNABLE, BatchNorm)):
                _set(module, own.get(at, {}))
        model.load_state_dict(tensors)
        model.eval()(torch.zeros(1, *shape, dtype=next(model.parameters()).dtype))
    except (RuntimeError, ValueError) as error:
        raise DamagedFile(f"{path}: its tensors are not those of the network that it names: {error}") from error
    return model
