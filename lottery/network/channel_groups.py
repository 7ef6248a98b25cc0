"""Channel groups: layers that share their units, so that a unit can be removed from all of them at once."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from lottery.errors import UsageError

Layer = nn.Linear | nn.Conv2d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d

_ELEMENTWISE = (  # these treat each number by itself
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU),
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Mish),
)
_ELEMENTWISE_NAMES = (
    "relu",
    "relu_",
    "relu6",
    "leaky_relu",
    "elu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "softplus",
    "dropout",
)
_SPATIAL = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten)
_SPATIAL_NAMES = ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "flatten")
_ARITHMETIC = (operator.add, operator.iadd, operator.sub, operator.mul, operator.imul, operator.truediv)


@dataclass
class ChannelGroup:
    """Layers that share their units (features or channels), by their paths in the model.

    A reader sees each unit as one of its channels, or, after a flattening, as a block of neighbouring features.

    Attributes:
        writers: Layers that compute the units; the outputs of several are added or multiplied, unit by unit.
        norms: Batch normalizations that act on the units.
        readers: Layers that read the units.
        spatial: The units have positions, which may be pooled and flattened.
        closed: Something else writes or reads the units, so that none can be removed.
    """

    writers: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)
    spatial: bool = False
    closed: bool = False

    def absorb(self, other: ChannelGroup) -> None:
        """Add the layers of another group to this one."""
        self.writers += other.writers
        self.norms += other.norms
        self.readers += other.readers
        self.closed |= other.closed or self.spatial != other.spatial


def channel_groups(model: nn.Module) -> list[ChannelGroup]:
    """Return the groups of a model from which units can be removed, in the order of its code.

    Each layer writes at most one group and reads at most one. A layer whose outputs are concatenated, shuffled or
    normalized together belongs to none, nor does a layer that is called twice or whose weight the model uses by itself.
    The model is followed by torch.fx, as in PyTorch's own fusion of convolutions with batch normalizations.

    Raises:
        UsageError: The model's code takes decisions that depend on its inputs.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # torch.fx raises what the model's code raises when it meets a symbol
        why = str(error).partition("\n")[0]
        name = type(model).__name__
        raise UsageError(f"{name}: torch.fx cannot follow its code: {why}; export another form") from error
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    used = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    once = {path: model.get_submodule(path) for path, count in calls.items() if count == 1 and path not in used}
    group_of: dict[fx.Node, ChannelGroup] = {}
    for node in graph.nodes:
        group_of[node] = _outputs_group(node, model, once, group_of)
    found = {id(group): group for group in group_of.values()}.values()
    return [group for group in found if group.writers and group.readers and not group.closed]


def _outputs_group(
    node: fx.Node, model: nn.Module, once: Mapping[str, nn.Module], group_of: dict[fx.Node, ChannelGroup]
) -> ChannelGroup:
    """Return the group of this node's outputs, and register the node as a reader of its inputs' groups."""
    read = [group_of[each] for each in node.all_input_nodes if each.op != "get_attr"]
    module = once.get(str(node.target)) if node.op == "call_module" else None
    if module is not None and len(read) == 1 and _is_layer(module):
        read[0].readers.append(str(node.target))
        return ChannelGroup(writers=[str(node.target)], spatial=isinstance(module, nn.Conv2d))
    if module is not None and len(read) == 1 and _is_norm(module):
        read[0].norms.append(str(node.target))
        return read[0]
    if read and node.target in _ARITHMETIC and _each_or_scalar(node, model):
        return _merged(read, group_of)
    if len(read) == 1 and _keeps_units_apart(node, model, read[0].spatial):
        return read[0]
    for group in read:
        group.closed = True
    return ChannelGroup(closed=True)


def _merged(read: list[ChannelGroup], group_of: dict[fx.Node, ChannelGroup]) -> ChannelGroup:
    first = read[0]
    for other in read[1:]:
        if other is not first:
            first.absorb(other)
            group_of.update({node: first for node, group in group_of.items() if group is other})
    return first


def _is_layer(module: nn.Module) -> bool:
    return type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1)


def _is_norm(module: nn.Module) -> bool:
    """Return True for a batch normalization that is the same function of a unit for every batch."""
    return type(module) in (nn.BatchNorm1d, nn.BatchNorm2d) and module.running_mean is not None


def _keeps_units_apart(node: fx.Node, model: nn.Module, spatial: bool) -> bool:
    """Return True if the node treats each unit by itself."""
    if node.op == "call_module":
        return type(model.get_submodule(str(node.target))) in (_ELEMENTWISE + _SPATIAL if spatial else _ELEMENTWISE)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if name == "mean":
        return spatial and _dims(node) in ({2, 3}, {-1, -2})
    passed = _ELEMENTWISE_NAMES + _SPATIAL_NAMES if spatial else _ELEMENTWISE_NAMES
    return node.op in ("call_method", "call_function") and name in passed


def _each_or_scalar(node: fx.Node, model: nn.Module) -> bool:
    """Return True if the node combines units with units, with numbers, or with parameters of a single number."""
    for value in node.args:
        if isinstance(value, fx.Node) and value.op == "get_attr":
            path, _, name = str(value.target).rpartition(".")
            held = getattr(model.get_submodule(path), name)
            if not isinstance(held, Tensor) or held.numel() != 1:
                return False
        elif not isinstance(value, (fx.Node, int, float)):
            return False
    return True


def _dims(node: fx.Node) -> set[Any]:
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return set(dims) if isinstance(dims, (tuple, list)) else set()
