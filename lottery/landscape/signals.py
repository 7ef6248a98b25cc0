"""Signals through a network: variances, gradients, dead units and the input-output Jacobian, layer by layer.

Layers are the modules whose weights multiply, in the order in which a forward pass calls them, with the activations
between them. All is measured in evaluation mode, so that each example stands for itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from lottery.landscape.mean_field import gradient_scale, moments
from lottery.landscape.memo import Memo
from lottery.landscape.subject import State, Subject
from lottery.landscape.surface import Surface
from lottery.landscape.watch import Call, Watch
from lottery.network.layout import Layout

HORIZON = 6.0  # depth scales that a signal survives (Schoenholz et al. 2017)
FLAT = 1e-3  # share of an activation's steepest slope below which a unit is saturated
COLUMNS = ("variance", "mean_square", "expected_mean_square", "gradient", "weight_gradient", "dead", "saturated")
WORDS = {1.0: "explodes", 0.0: "holds", -1.0: "vanishes"}


@dataclass(frozen=True)
class Signals:
    """The signals of a network at one state.

    Attributes:
        layers: One row for each call of a layer or activation, in the order of the forward pass: `layer` (its name),
            `kind` (`layer` or `activation`) and the numbers `COLUMNS`: variance of its outputs over units and examples;
            their mean square, and that which the mean-field recursion expects from the weights' variances (NaN behind a
            normalization, a shortcut or a pooling, and for activations); root of the mean over examples of the squared
            norm of the gradient of an example's loss in the outputs; norm of the gradient of the mean loss in the
            surviving weights; shares of the units that are 0 for all examples (dead), and where the activation's slope
            is below a thousandth of its steepest for all examples (saturated; a dead ReLU is).
        totals: `forward_rate` and `backward_rate`: growth a layer of the logarithm of the mean square, and of that of
            the squared gradient toward the input, fitted to the hidden layers; `backward_unit_rate`, the same of
            its mean over the units of a layer; `expected_backward_rate`; `dead`,
            `saturated` over all units; `jacobian_largest`, `jacobian_smallest`, `jacobian_mean_square` of the singular
            values of each example's Jacobian, the largest and mean over examples; `propagation` 1 where a signal
            explodes, -1 where it vanishes, 0 where it holds (`verdict`).
    """

    layers: Sequence[Mapping[str, float | str]]
    totals: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """The word for `propagation`."""
        return WORDS[self.totals["propagation"]]

    @property
    def depth_scale_measured(self) -> float:
        """Layers over which the squared gradient changes by a factor e, by its fitted growth."""
        return gradient_scale(self.totals["backward_rate"])

    @property
    def depth_scale_expected(self) -> float:
        """Layers over which the squared gradient changes by a factor e, by the mean-field recursion."""
        return gradient_scale(self.totals["expected_backward_rate"])


def measure(surface: Surface, jacobian: int = 10) -> Signals:
    """Return the signals of the network at a surface's present point, over the training examples.

    Args:
        surface: The surface, with `running` statistics; batch normalization divides by those of its point.
        jacobian: Number of examples whose input-output Jacobian is taken, those of the first batch at most; none for 0
            and for inputs that are no numbers, whose singular values are then NaN.
    """
    weights = _weight_gradients(surface)
    sums: list[_Sums] = []
    calls: list[Call] = []
    with Watch(surface.model) as watch:
        for x, y in surface.examples("train"):
            value = surface.loss(surface.outputs(x), y) * len(y)
            calls = watch.take()
            gradients = torch.autograd.grad(value, [call.output for call in calls], materialize_grads=True)
            sums = sums or [_Sums() for _ in calls]
            for entry, call, gradient in zip(sums, calls, gradients, strict=True):
                entry.add(call, gradient.detach())
    expected, chi = _expected(calls, sums)
    layers: list[dict[str, float | str]] = []
    for call, entry, mean_square in zip(calls, sums, expected, strict=True):
        own = weights.get(call.name, math.nan) if call.kind == "layer" else math.nan
        numbers = (*entry.spread(), mean_square, entry.gradient(), own, *entry.shares())
        layers.append({"layer": call.label, "kind": call.kind, **dict(zip(COLUMNS, numbers, strict=True))})
    totals = {**_rates(layers, sums, chi), **_units(sums), **_singular_values(surface, jacobian)}
    return Signals(layers, {**totals, "propagation": _propagation(layers, totals)})


def along(subject: Subject, memo: Memo, *, examples: int, jacobian: int, reset: bool) -> list[Signals]:
    """Return the signals of each state of a subject, over so many training examples.

    Args:
        subject: Its states, one or more.
        memo: Keeps each state that is done.
        examples: Number of training examples.
        jacobian: Number of examples whose input-output Jacobian is taken.
        reset: Measure running statistics anew at each state.
    """
    return [
        _kept(memo, f"state {number}", partial(_at, subject, state, examples, jacobian, reset))
        for number, state in enumerate(subject.states)
    ]


def _at(subject: Subject, state: State, examples: int, jacobian: int, reset: bool) -> Signals:
    surface = subject.surface(state.mask, examples)
    surface.load(surface.point(state.weights))
    if reset:
        surface.reset_statistics()
    return measure(surface, jacobian)


def _kept(memo: Memo, name: str, make: Callable[[], Signals]) -> Signals:
    """Return what `make` returns, or what it returned before; words and numbers are kept as one tensor of bytes."""

    def packed() -> Tensor:
        found = make()
        return torch.frombuffer(bytearray(json.dumps([found.layers, found.totals]).encode()), dtype=torch.uint8)

    layers, totals = json.loads(bytes(memo.tensor(name, packed).cpu().numpy()))
    return Signals(layers, totals)


@dataclass
class _Sums:
    """Sums over the examples so far, of one call."""

    count: int = 0
    examples: int = 0
    total: float = 0.0
    squares: float = 0.0
    inputs: float = 0.0
    input_count: int = 0
    gradients: float = 0.0
    zero: Tensor | None = None
    flat: Tensor | None = None

    def add(self, call: Call, gradient: Tensor) -> None:
        output = call.output.detach().double()
        self.count, self.examples = self.count + output.numel(), self.examples + len(output)
        self.total, self.squares = self.total + float(output.sum()), self.squares + float(output.square().sum())
        self.gradients += float(gradient.double().square().sum())
        if call.kind == "layer":
            self.inputs += float(call.input.double().square().sum())
            self.input_count += call.input.numel()
            return
        zero = _by_unit(call.output.detach() == 0, call.channels)
        flat = _by_unit(_is_flat(call), call.channels)
        self.zero = zero if self.zero is None else self.zero & zero
        self.flat = flat if self.flat is None else self.flat & flat

    def spread(self) -> tuple[float, float]:
        mean = self.total / self.count
        return max(self.squares / self.count - mean * mean, 0.0), self.squares / self.count

    def gradient(self) -> float:
        return math.sqrt(self.gradients / self.examples)

    def shares(self) -> tuple[float, float]:
        if self.zero is None or self.flat is None:
            return math.nan, math.nan
        return float(self.zero.double().mean()), float(self.flat.double().mean())


def _by_unit(true: Tensor, channels: bool) -> Tensor:
    """Return for each unit, a channel or a feature, True if all its values are true."""
    units = true.movedim(1 if channels else -1, 0)
    return units.reshape(len(units), -1).all(dim=1)


def _is_flat(call: Call) -> Tensor:
    slope = _slope(call.module, call.input).abs()
    line = torch.linspace(-10, 10, 2001, dtype=call.input.dtype, device=call.input.device)
    if any(True for _ in call.module.parameters()):  # one with a parameter for each channel takes no line
        return slope < FLAT * slope.max()
    return slope < FLAT * _slope(call.module, line).abs().max()


@torch.enable_grad()
def _slope(function: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    value = function.forward(x * 1)  # not by a call, which the hooks would see; a copy, for one that works in place
    (slope,) = torch.autograd.grad(value.sum(), x)
    return slope


def _weight_gradients(surface: Surface) -> dict[str, float]:
    """Return the norm of the mean loss' gradient in the surviving weights of each layer by its module's path."""
    _, gradient = surface.gradient()
    parameters: dict[str, set[str]] = {}
    for place in Layout.of(surface.model).weights.values():
        parameters.setdefault(place.path, set()).add(place.parameter)
    return {
        path: math.hypot(*(float(gradient[surface.blocks[n]].double().norm()) for n in names if n in surface.blocks))
        for path, names in parameters.items()
    }


def _expected(calls: Sequence[Call], sums: Sequence[_Sums]) -> tuple[list[float], dict[int, float]]:
    """Return the mean squares of the recursion by call, and the growth of the squared gradient back over each layer."""
    squares, chi = [math.nan] * len(calls), {}
    for number, (call, entry) in enumerate(zip(calls, sums, strict=True)):
        if call.kind != "layer" or (variances := _variances(call.module)) is None:
            continue
        weight_var, bias_var = variances
        if number == 0:
            squares[0] = weight_var * entry.inputs / entry.input_count + bias_var
            continue
        before = call.source
        activation = None if before is None or calls[before].kind == "layer" else calls[before]
        layer = before if activation is None else activation.source
        if layer is None or calls[layer].kind != "layer" or not math.isfinite(squares[layer]):
            continue
        value, slope = squares[layer], 1.0
        if activation is not None:
            value, slope = moments(_double(activation.module), squares[layer])
        squares[number], chi[number] = weight_var * value + bias_var, weight_var * slope
    return squares, chi


def _double(function: nn.Module) -> Callable[[Tensor], Tensor]:
    copy = deepcopy(function).double()
    return lambda x: copy(x * 1)  # it may work in place


@torch.no_grad()
def _variances(layer: nn.Module) -> tuple[float, float] | None:
    """Return the mean square of the weights times fan_in, pruned ones counted as 0, and that of the biases."""
    if not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    weight = layer.weight.double()
    bias = 0.0 if layer.bias is None else float(layer.bias.double().square().mean())
    return float(weight.square().mean()) * weight[0].numel(), bias


def _rates(
    layers: Sequence[Mapping[str, float | str]], sums: Sequence[_Sums], chi: Mapping[int, float]
) -> dict[str, float]:
    numbers = _hidden(layers)
    forward = [float(layers[i]["mean_square"]) for i in numbers]
    backward = [float(layers[i]["gradient"]) ** 2 for i in numbers]
    factors = [chi.get(i, math.nan) for i in numbers[1:]]
    logs = [-math.inf if value == 0 else math.log(value) for value in factors]
    return {
        "forward_rate": _growth(forward),
        "backward_rate": _growth(backward[::-1]),
        "backward_unit_rate": _growth([sums[i].gradients / sums[i].count for i in reversed(numbers)]),
        "expected_backward_rate": math.fsum(logs) / len(logs) if logs else math.nan,
    }


def _hidden(layers: Sequence[Mapping[str, float | str]]) -> list[int]:
    """Return the numbers of the layers that a rate is fitted to: all but the output, which is scaled in its own way."""
    numbers = [i for i, row in enumerate(layers) if row["kind"] == "layer"]
    return numbers[:-1] if len(numbers) > 2 else numbers


def _growth(values: Sequence[float]) -> float:
    """Return the slope a layer of the logarithms: infinite where a value is not finite, minus infinity at a 0."""
    if len(values) < 2 or values[0] == 0:
        return math.nan
    if not all(map(math.isfinite, values)):
        return math.inf
    if min(values) == 0:
        return -math.inf
    return float(np.polyfit(np.arange(len(values)), np.log(values), 1)[0])


def _propagation(layers: Sequence[Mapping[str, float | str]], totals: Mapping[str, float]) -> float:
    """Return 1 if forward or backward signals grow by more than e^6 over the hidden layers, else -1 if any shrinks so.

    Six depth scales are what a trainable network may have (Schoenholz et al. 2017).
    """
    steps = len(_hidden(layers)) - 1
    changes = [totals[name] * steps for name in ("forward_rate", "backward_rate")]
    if any(change > HORIZON for change in changes):
        return 1.0
    return -1.0 if any(change < -HORIZON for change in changes) else 0.0


def _units(sums: Sequence[_Sums]) -> dict[str, float]:
    zero = [entry.zero for entry in sums if entry.zero is not None]
    flat = [entry.flat for entry in sums if entry.flat is not None]
    if not zero:
        return {"dead": math.nan, "saturated": math.nan}
    return {"dead": float(torch.cat(zero).double().mean()), "saturated": float(torch.cat(flat).double().mean())}


def _singular_values(surface: Surface, examples: int) -> dict[str, float]:
    names = ("jacobian_largest", "jacobian_smallest", "jacobian_mean_square")
    found = list(jacobians(surface, examples))
    if not found or not all(bool(torch.isfinite(matrix).all()) for matrix in found):
        return dict.fromkeys(names, math.nan)
    values = torch.linalg.svdvals(torch.stack(found))
    numbers = values[:, 0].mean(), values[:, -1].mean(), values.square().mean()
    return dict(zip(names, map(float, numbers), strict=True))


def jacobians(surface: Surface, examples: int) -> Iterator[Tensor]:
    """Yield the Jacobian of the outputs in the inputs, (outputs, inputs), in double precision, of the first examples.

    It is NaN where outputs are not finite. Inputs that are no numbers have none.
    """
    x = next(surface.examples("train"))[0][:examples]
    if not len(x) or not x.is_floating_point():
        return
    x = x.detach().clone().requires_grad_()
    outputs = surface.outputs(x).flatten(1)
    rows: list[Tensor] = []
    for i in range(outputs.shape[1]):
        surface.check()
        (row,) = torch.autograd.grad(outputs[:, i].sum(), x, retain_graph=True, materialize_grads=True)
        rows.append(row.flatten(1))
    lost = ~torch.isfinite(outputs.detach()).all(dim=1)  # a ReLU would pass no gradient on at NaN, and hide it
    for matrix, diverged in zip(torch.stack(rows, dim=1).double(), lost, strict=True):
        yield torch.full_like(matrix, math.nan) if bool(diverged) else matrix
