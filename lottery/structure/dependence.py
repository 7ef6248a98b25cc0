"""Dependence on the input: tensors of 0 and 1 that go through a network in place of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map

from lottery.errors import UsageError

Rule = Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Any]


@dataclass
class Notes:
    """Observations of a pass on the weights that it was asked to watch.

    Attributes:
        outputs: Outputs of the layer of each weight, each with the dimension of its units.
        mixed: Weights of which it is not known what they connect.
        used: Weights of which it is not known what their units are.
        lost: Something was computed from the input that could not be followed, such as an index into a list.
    """

    outputs: dict[Tensor, list[tuple[Flow, int]]]
    mixed: set[Tensor] = field(default_factory=set)
    used: set[Tensor] = field(default_factory=set)
    lost: bool = False

    def among(self, values: Any) -> set[Tensor]:
        """Return the watched weights, or those of which views are, among the arguments of a function."""
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves(values) if _is_constant(leaf)}
        return {weight for weight in self.outputs if weight.untyped_storage()._cdata in given}


def _is_constant(value: Any) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, Flow) and value.requires_grad


class Flow(Tensor):
    """A tensor that is 1 where a value depends on the network's input and 0 where it does not.

    The network's own code runs on it. A value depends on everything that it is computed from, through weights that are
    not 0: nothing cancels, a product depends on each factor, a maximum on all that it is taken over. Activations and
    normalizations pass each number by itself; biases and other constants carry nothing. An operation that this module
    does not know is taken to mix everything. The gradient is likewise 1 where the network's output depends on a value
    and 0 where it does not. Both are made 0 or 1 after each operation, so that no depth overflows. One example at a
    time: where everything is mixed, the examples of a batch would be.

    Attributes:
        notes: Observations on the watched weights.
    """

    notes: Notes

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            return _through(func, args, kwargs or {})


def flow(shape: Sequence[int], weights: Sequence[Tensor]) -> Flow:
    """Return one example of this shape, 1 everywhere; the outputs of layers with these `weights` will be noted."""
    return _carry(torch.ones(1, *shape, dtype=torch.float64), Notes({weight: [] for weight in weights}))


class _Binary(torch.autograd.Function):
    """Function that is 1 where a value is not 0, with the same for the gradient; both must be at least 0."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return (value > 0).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        gradient: Tensor = gradients[0]
        return (gradient > 0).to(gradient.dtype)


def _carry(value: Tensor, notes: Notes) -> Flow:
    carried: Flow = _Binary.apply(value).as_subclass(Flow)
    carried.notes = notes
    return carried


def _through(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func.__name__
    if name in _CONSTANTS:
        return func(*args, **kwargs)
    notes = next(leaf.notes for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Flow))
    result = _rule(name)(func, args, kwargs)
    notes.lost |= any(isinstance(leaf, Tensor) and leaf.dtype in _PLACES for leaf in tree_leaves(result))
    result = tree_map(lambda v: _carry(v, notes) if isinstance(v, Tensor) and v.is_floating_point() else v, result)
    others = notes.among((args, kwargs))
    if name in _WEIGHT and (weight := _argument(args, kwargs, *_WEIGHT[name])) in notes.outputs:
        notes.outputs[weight].append((tree_leaves(result)[0], 1 if name.startswith("conv") else -1))
        others -= {weight}
    notes.used |= others
    notes.mixed |= others if name not in _FOLLOWED else set()
    if name not in _IN_PLACE:
        return result
    if not isinstance(args[0], Flow):
        raise UsageError(f"torch's {name}: writes what depends on the input into a constant; make a new tensor of both")
    if result is not None:
        args[0].copy_(result)
    return args[0]


def _rule(name: str) -> Rule:
    if name in _RULES:
        return _RULES[name]
    base = name.removesuffix("_").strip("_")  # relu_, __add__
    return next((_RULES[known] for known in (base, base[1:]) if known in _RULES), _mix)  # __iadd__, __rsub__


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _plain(values: Any) -> Any:
    """Return flows as plain tensors and other tensors as 0: constants carry nothing."""
    return tree_map(
        lambda v: (
            v
            if not isinstance(v, Tensor) or not v.is_floating_point()
            else v.as_subclass(Tensor)
            if isinstance(v, Flow)
            else torch.zeros_like(v)
        ),
        values,
    )


def _mix(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Let each number of the result depend on each number that goes in; other results stay as they are."""
    inputs = [leaf.as_subclass(Tensor) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Flow)]
    with torch.no_grad():
        copies = tree_map(lambda v: v.as_subclass(Tensor).clone() if isinstance(v, Flow) else v, (args, kwargs))
        shapes = func(*copies[0], **copies[1])
    total = torch.stack([value.sum() for value in inputs]).sum()
    return tree_map(lambda v: total.expand(v.shape) if isinstance(v, Tensor) and v.is_floating_point() else v, shapes)


def _move(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Apply a function that copies, moves, sums or averages as it is."""
    return func(*_plain(args), **_plain(kwargs))


def _pass(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Pass each number by itself."""
    first: Tensor = next(v for v in (*args, *kwargs.values()) if isinstance(v, Flow))
    return first.as_subclass(Tensor)


def _join(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Combine numbers at the same position, whatever the operation."""
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    shape = torch.broadcast_shapes(*(value.shape for value in tensors))  # type: ignore[no-untyped-call]
    parts = [value.as_subclass(Tensor).expand(shape) for value in tensors if isinstance(value, Flow)]
    return torch.stack(parts).sum(0)


def _layer(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Pass along weights that are not 0, without the bias."""
    named = dict(zip(("input", "weight", "bias"), args, strict=False)) | dict(kwargs)
    if isinstance(named["weight"], Flow) or not isinstance(named["input"], Flow):
        return _mix(func, args, kwargs)  # weights that are computed from the input
    rest = {name: value for name, value in named.items() if name not in ("input", "weight", "bias")}
    return func(named["input"].as_subclass(Tensor), named["weight"].abs(), None, *args[3:], **rest)


def _product(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Multiply matrices: along the rows of the first and the columns of the second."""
    a, b = args if len(args) == 2 else (*args, *kwargs.values())
    parts = []
    if isinstance(a, Flow):
        parts.append(func(a.as_subclass(Tensor), torch.ones_like(b.detach()) if isinstance(b, Flow) else b.abs()))
    if isinstance(b, Flow):
        parts.append(func(torch.ones_like(a.detach()) if isinstance(a, Flow) else a.abs(), b.as_subclass(Tensor)))
    return torch.stack(parts).sum(0)


def _softmax(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    value: Tensor = args[0].as_subclass(Tensor)
    dim = _argument(args, kwargs, 1, "dim")
    return value.sum(dim, keepdim=True).expand_as(value)


def _attention(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Let each position look at all positions of each channel; shapes are (..., positions, channels)."""
    q, k, v = (_plain(value) for value in args[:3])
    made: Tensor = v.sum(-2, keepdim=True) + q.sum(-1, keepdim=True) + k.sum((-1, -2), keepdim=True)
    return made


def _multi_head(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, None]:
    """Mix all positions and channels in the heads.

    It is not known what the weights before the heads connect; it is known of those behind them.
    """
    q, k, v = (_plain(value) for value in args[:3])
    mixed = (q.sum() + k.sum() + v.sum()).expand(q.shape)
    return functional.linear(mixed, args[11].abs()), None


def _average(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Take an average in place of a maximum, which depends on all that it is taken over."""
    name = func.__name__.removeprefix("_")
    named = dict(zip(("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"), args, strict=False))
    named |= kwargs
    if name.startswith("adaptive"):
        return getattr(functional, name.replace("max", "avg"))(_plain(args[0]), *args[1:2])
    if named.get("dilation", 1) not in (1, (1, 1)) or named.get("return_indices"):
        return _mix(func, args, kwargs)
    kept = {key: value for key, value in named.items() if key in ("kernel_size", "stride", "padding", "ceil_mode")}
    return getattr(functional, name.replace("max", "avg"))(_plain(named["input"]), **kept)


def _pad(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    mode = _argument(args, kwargs, 2, "mode") or "constant"
    return functional.pad(_plain(args[0]), _argument(args, kwargs, 1, "pad"), mode)


def _put(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Replace a part of a tensor in place."""
    if isinstance(args[0], Flow):
        func(args[0], args[1], _plain(args[2]) if isinstance(args[2], Tensor) else 0)


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_CONVOLUTIONS = [f"conv{transposed}{n}d" for transposed in ("", "_transpose") for n in (1, 2, 3)]
_WEIGHT = {  # where a function takes the weight of a layer
    **dict.fromkeys(("linear", *_CONVOLUTIONS), (1, "weight")),
    "multi_head_attention_forward": (11, "out_proj_weight"),
}
_FOLLOWED = ("linear", *_CONVOLUTIONS, "matmul", "mm", "bmm", "__matmul__", "__rmatmul__")  # weights, to what they give
_PLACES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_JOINS = _named(_join, "add sub mul div truediv true_divide pow maximum minimum where lerp addcmul addcdiv")
_IN_PLACE = ["__setitem__", "copy_", *(f"{name}_" for name in _JOINS), *(f"__i{name}__" for name in _JOINS)]
_CONSTANTS = ["new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like"]
_ACTIVATIONS = _named(
    _pass,
    "relu leaky_relu tanh sigmoid softplus elu silu gelu relu6 hardtanh hardswish hardsigmoid selu celu mish "
    "logsigmoid prelu rrelu softsign tanhshrink softshrink hardshrink threshold "
    "abs neg exp log sqrt rsqrt square sin cos erf reciprocal clamp clamp_min clamp_max to float double type_as",
)
_NORMALIZATIONS = _named(
    _pass,
    "batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize "
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout",
)
_MOVES = _named(
    _move,
    "__get__ size dim numel __getitem__ copy_ contiguous clone reshape view flatten unflatten ravel permute transpose "
    "swapaxes movedim t squeeze unsqueeze expand expand_as repeat roll flip chunk split tensor_split unbind narrow "
    "select unfold cat concat concatenate stack sum mean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "adaptive_avg_pool2d adaptive_avg_pool3d pixel_shuffle pixel_unshuffle channel_shuffle",
)
_RULES: dict[str, Rule] = {
    **_JOINS,
    **_ACTIVATIONS,
    **_NORMALIZATIONS,
    **_MOVES,
    **dict.fromkeys(("linear", *_CONVOLUTIONS), _layer),
    **_named(_product, "matmul mm bmm"),
    **_named(_softmax, "softmax log_softmax"),
    **dict.fromkeys((f"{kind}max_pool{n}d" for kind in ("", "_", "adaptive_") for n in (1, 2, 3)), _average),
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head,
    "pad": _pad,
    "__setitem__": _put,
}
