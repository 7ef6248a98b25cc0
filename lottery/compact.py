"""A pruned network made smaller: an ordinary network without the units that its outputs do not need."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from lottery.build import build_model, prunable, without_weight_norms
from lottery.errors import DamagedFile, UsageError
from lottery.mask import Mask
from lottery.reading import parse_json, read_bytes
from lottery.spec import Component
from lottery.tensors import decode, encode

FORMAT, VERSION = "lottery compact network", 1
MOST_BYTES = 1 << 36
Layer = nn.Linear | nn.Conv2d
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d)
_PASSED = (  # what treats each unit by itself
    *(nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Hardswish, nn.Mish, *_BATCH, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten),
)
_FUNCTIONS = ("relu", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "flatten")


@dataclass(frozen=True)
class Compacted:
    """The smaller network, in evaluation mode, and what was removed: (layer, units before, units after)."""

    model: nn.Module
    layers: list[tuple[str, int, int]]
    parameters: tuple[int, int]  # before and after


@dataclass(frozen=True)
class Speed:
    """Seconds of one forward pass, medians over turns in which both networks were run; `ratio` is how often faster."""

    masked: float
    compact: float

    @property
    def ratio(self) -> float:
        return self.masked / self.compact


@dataclass(frozen=True)
class _Joint:
    """Two layers, by their paths, with nothing but operations on single units between them."""

    first: str
    between: list[fx.Node]
    last: str


@torch.no_grad()
def compact(model: nn.Module, mask: Mask, shape: Sequence[int]) -> Compacted:
    """The network under the mask without the units that cannot influence its output, and those that receive nothing.

    In evaluation mode its outputs are those of the masked network, within rounding. A unit that receives nothing is a
    constant, which moves into the biases of the layer behind it; before a padded convolution, whose border would tell
    the difference, one other than 0 stays. Units are removed between two linear or convolutional layers that are
    joined by activations, batch normalization, pooling and flattening; where a sum of branches joins (the stream of a
    residual network) they stay, and so does the last unit of a layer. `shape` is that of an input without the batch.
    The model itself is not changed. Raises UsageError for a model whose code torch.fx cannot follow."""
    small = deepcopy(model).cpu().eval()
    before = sum(p.numel() for p in small.parameters())
    weights = without_weight_norms(small, mask)
    for name, weight in weights.items():
        weight.mul_(mask[name])
    paths = [
        path
        for path, module in small.named_modules()
        if any(module._parameters.get("weight") is w for w in weights.values())
    ]
    sizes = {path: len(_layer(small, path).weight) for path in paths}
    joints = list(_joints(_traced(small), dict(small.named_modules())))
    outputs = _outputs(small, [joint.first for joint in joints], shape)
    for joint in reversed(joints):
        unread = _by_unit(small, joint, _layer(small, joint.last).weight).flatten(1).count_nonzero(1) == 0
        _shrink(small, joint, _but_one(unread))
    for joint in joints:
        constants, uniform = _constants(small, joint, outputs[joint.first])
        idle = _layer(small, joint.first).weight.flatten(1).count_nonzero(1) == 0
        last = _layer(small, joint.last)
        if isinstance(last, nn.Conv2d):
            idle &= uniform & ((constants == 0).all(1) | (not _padded(last)))
        idle = _but_one(idle)
        _fold(small, joint, idle, constants)
        _shrink(small, joint, idle)
    after = sum(p.numel() for p in small.parameters())
    rows = [(path, size, len(_layer(small, path).weight)) for path, size in sizes.items()]
    return Compacted(small, rows, (before, after))


def _layer(model: nn.Module, path: str) -> Layer:
    layer = model.get_submodule(path)
    assert isinstance(layer, (nn.Linear, nn.Conv2d)), path
    return layer


def _traced(model: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(model)
    except Exception as error:  # torch.fx raises what the model's code raises when it meets a symbol
        why = str(error).partition("\n")[0]
        raise UsageError(
            f"{type(model).__name__}: torch.fx cannot follow its code: {why}; export another form"
        ) from error


def _joints(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> Iterator[_Joint]:
    """In the order of the network. A module that is called twice is no part of one."""
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        if not _is_layer(modules, node) or called.count(str(node.target)) > 1:
            continue
        between, following = list[fx.Node](), node
        while len(following.users) == 1:
            following = next(iter(following.users))
            if _is_layer(modules, following) and called.count(str(following.target)) == 1:
                yield _Joint(str(node.target), between, str(following.target))
                break
            if not _is_passed(modules, following, called):
                break
            between.append(following)


def _is_layer(modules: Mapping[str, nn.Module], node: fx.Node) -> bool:
    layer = modules.get(str(node.target)) if node.op == "call_module" else None
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)


def _is_passed(modules: Mapping[str, nn.Module], node: fx.Node, called: Sequence[str]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, _BATCH):
            return module.running_mean is not None and called.count(str(node.target)) == 1
        return isinstance(module, _PASSED)
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in _FUNCTIONS


def _outputs(model: nn.Module, paths: Sequence[str], shape: Sequence[int]) -> dict[str, torch.Size]:
    """The shapes of what these layers give for one example."""
    found: dict[str, torch.Size] = {}

    def note(path: str) -> Any:
        return lambda layer, inputs, output: found.__setitem__(path, output.shape)

    handles = [model.get_submodule(path).register_forward_hook(note(path)) for path in paths]
    try:
        model(torch.zeros(1, *shape, dtype=next(model.parameters()).dtype))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _by_unit(model: nn.Module, joint: _Joint, weight: Tensor) -> Tensor:
    """The weights of the last layer by the unit of the first that they read: (units, outputs, positions or kernel)."""
    units = len(_layer(model, joint.first).weight)
    return weight.reshape(len(weight), units, -1).transpose(0, 1)


def _constants(model: nn.Module, joint: _Joint, output: torch.Size) -> tuple[Tensor, Tensor]:
    """What the last layer reads of each unit of the first if that receives nothing, (units, positions), and whether it
    is the same at all positions."""
    first = _layer(model, joint.first)
    bias = first.bias if first.bias is not None else torch.zeros(len(first.weight), dtype=first.weight.dtype)
    value: Any = bias.reshape(1, -1, *[1] * (len(output) - 2)).expand(1, -1, *output[2:]).clone()
    for node in joint.between:
        if node.op == "call_module":
            value = model.get_submodule(str(node.target))(value)
        elif node.op == "call_method":
            value = getattr(value, str(node.target))(*node.args[1:], **node.kwargs)
        else:
            assert callable(node.target)
            value = node.target(value, *node.args[1:], **node.kwargs)
    constants: Tensor = value.reshape(len(first.weight), -1)
    return constants, (constants == constants[:, :1]).all(1)


def _padded(layer: nn.Conv2d) -> bool:
    return layer.padding == "same" or any(side != 0 for side in layer.padding if not isinstance(side, str))


def _fold(model: nn.Module, joint: _Joint, removed: Tensor, constants: Tensor) -> None:
    """Add what the removed units give the last layer to its biases."""
    last = _layer(model, joint.last)
    if isinstance(last, nn.Conv2d):
        constants = constants[:, :1]  # one value at all positions, seen by the whole kernel
    read = _by_unit(model, joint, last.weight)[removed] * constants[removed][:, None, :]
    given = read.double().sum((0, 2)).to(last.weight.dtype)
    if bool(given.any()):
        if last.bias is None:
            last.bias = nn.Parameter(torch.zeros_like(given))
        last.bias += given


def _but_one(removed: Tensor) -> Tensor:
    """Not the first one, where it would be all of a layer."""
    return removed if not bool(removed.all()) else torch.arange(len(removed)) > 0


def _shrink(model: nn.Module, joint: _Joint, removed: Tensor) -> None:
    """Take units off the first layer, what is between, and the last."""
    if not bool(removed.any()):
        return
    kept = ~removed
    first, last = _layer(model, joint.first), _layer(model, joint.last)
    columns = _by_unit(model, joint, last.weight)[kept].transpose(0, 1)
    shape = (len(last.weight), -1, *last.weight.shape[2:])
    first.weight = nn.Parameter(first.weight[kept].clone())
    if first.bias is not None:
        first.bias = nn.Parameter(first.bias[kept].clone())
    last.weight = nn.Parameter(columns.reshape(shape).clone())
    for node in joint.between:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, _BATCH):
            for values in (module._parameters, module._buffers):
                for name, value in values.items():
                    if value is not None and value.dim():
                        part = value.detach()[kept].clone()
                        values[name] = nn.Parameter(part) if values is module._parameters else part  # type: ignore[assignment]
            module.num_features = int(kept.sum())
    _tell_sizes(first)
    _tell_sizes(last)


def _tell_sizes(layer: Layer) -> None:
    """The sizes that a layer says of itself."""
    out, read = layer.weight.shape[:2]
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = out, read
    else:
        layer.out_channels, layer.in_channels = out, read


@torch.no_grad()
def speed_up(masked: nn.Module, small: nn.Module, shape: Sequence[int], *, batch: int = 128, turns: int = 21) -> Speed:
    """How much faster the smaller network is on this machine, on batches of inputs of this shape, both in turns."""
    x, times = torch.randn(batch, *shape), (list[float](), list[float]())
    networks = [deepcopy(each).cpu().eval() for each in (masked, small)]
    for turn in range(turns + 2):
        for network, seconds in zip(networks, times, strict=True):
            began = time.perf_counter()
            network(x)
            if turn > 1:  # the first two warm up
                seconds.append(time.perf_counter() - began)
    return Speed(statistics.median(times[0]), statistics.median(times[1]))


def written(small: nn.Module, component: Component, shape: Sequence[int], classes: int) -> bytes:
    """A compacted network of a model of the catalogue as a safetensors file that `load_compact` reads."""
    about = {"model": component.as_dict(), "shape": list(shape), "classes": classes}
    head = {"format": FORMAT, "version": str(VERSION), "about": json.dumps(about, sort_keys=True)}
    return encode(small.state_dict(), head)


def load_compact(path: str | Path) -> nn.Module:
    """A network from a file of `written`, in evaluation mode. Raises UsageError for another file, DamagedFile for one
    that is not whole."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    tensors, head = decode(read_bytes(path, most=MOST_BYTES))
    if head.get("format") != FORMAT or head.get("version") != str(VERSION):
        raise UsageError(f"{path}: holds no compact network of version {VERSION}")
    about = parse_json(head["about"].encode(), str(path))
    component, shape = Component.parse(about["model"]), tuple(about["shape"])
    model = build_model(component, shape, about["classes"], init=Component("torch"), seed=0)
    without_weight_norms(model, list(prunable(model)))
    try:
        for path_of, module in model.named_modules():
            own = {name.rpartition(".")[2]: t for name, t in tensors.items() if name.rpartition(".")[0] == path_of}
            if not own or not isinstance(module, (nn.Linear, nn.Conv2d, *_BATCH)):
                continue
            for name, value in own.items():
                if name in ("weight", "bias"):
                    setattr(module, name, nn.Parameter(torch.empty_like(value)))
                else:
                    module._buffers[name] = torch.empty_like(value)
            if isinstance(module, _BATCH):
                module.num_features = len(own["running_mean"])
            else:
                _tell_sizes(module)
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise DamagedFile(f"{path}: its tensors are not those of the network that it names: {error}") from error
    return model.eval()
