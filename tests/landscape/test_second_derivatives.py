"""Layers by functions with second derivatives of their own: torch's values, checked derivatives, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradgradcheck
from torch.func import functional_call, hessian
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lottery.landscape.second_derivatives import SecondDerivatives
from lottery.landscape.surface import Statistics, Surface
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.values import Part

IMAGES, CLASSES = (2, 6, 6), 3
Call = Callable[..., Tensor]


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draws, dtype=torch.float64).requires_grad_() for shape in shapes]


def ours(call: Call) -> Call:
    def inside(*inputs: Tensor) -> Tensor:
        with SecondDerivatives():
            return call(*inputs)

    return inside


def replaced(call: Call, inputs: list[Tensor]) -> bool:
    node = ours(call)(*inputs).grad_fn
    return node is not None and node.name() in ("_ConvolutionBackward", "_BatchNormBackward", "_ReLUBackward")


def agree(call: Call, inputs: list[Tensor]) -> None:
    """Hold values, gradients and second derivatives to torch's."""

    def all_of(by: Call) -> list[Tensor]:
        out = by(*inputs)
        draws = torch.Generator().manual_seed(1)
        gradients = torch.autograd.grad(
            out, inputs, torch.randn(out.shape, generator=draws, dtype=out.dtype), create_graph=True
        )
        along = [torch.randn(g.shape, generator=draws, dtype=out.dtype) for g in gradients]
        twice = torch.autograd.grad(gradients, inputs, along, materialize_grads=True)
        return [out, *gradients, *twice]

    for found, expected in zip(all_of(ours(call)), all_of(call), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


CONVOLUTIONS: list[tuple[Call, tuple[int, ...], tuple[int, ...], bool, dict[str, Any]]] = [
    (functional.conv2d, (2, 2, 3, 4), (2, 2, 2, 3), True, {}),
    (functional.conv2d, (1, 2, 5, 4), (2, 2, 3, 3), False, {"stride": 2, "padding": 1}),
    (functional.conv2d, (1, 4, 3, 4), (2, 2, 3, 2), True, {"padding": (1, 0), "groups": 2, "stride": (1, 2)}),
    (functional.conv2d, (1, 2, 3, 3), (2, 1, 3, 3), False, {"groups": 2, "padding": 2, "dilation": 2}),
    (functional.conv2d, (2, 2, 3, 3), (3, 2, 1, 1), True, {"stride": (2,)}),
    (functional.conv1d, (2, 2, 7), (3, 2, 3), True, {"stride": 2}),
    (functional.conv3d, (1, 1, 2, 2, 3), (2, 1, 2, 2, 2), True, {"padding": 1}),
]


@pytest.mark.parametrize(("conv", "x", "weight", "bias", "settings"), CONVOLUTIONS)
def test_a_convolution_has_torchs_derivatives(
    conv: Call, x: tuple[int, ...], weight: tuple[int, ...], bias: bool, settings: dict[str, Any]
) -> None:
    inputs = drawn(x, weight, *[weight[:1]] * bias)
    call = partial(conv, **settings)
    assert replaced(call, inputs)
    agree(call, inputs)
    assert gradgradcheck(ours(call), inputs)


@pytest.mark.parametrize("shape", [(5, 2), (3, 2, 3), (2, 2, 3, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_has_torchs_derivatives(shape: tuple[int, ...], training: bool) -> None:
    inputs = drawn(shape, shape[1:2], shape[1:2])
    mean, var = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.5, 2.0]).double()

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional.batch_norm(x, mean.clone(), var.clone(), weight, bias, training, eps=1e-3)

    assert replaced(call, inputs)
    agree(call, inputs)
    assert gradgradcheck(ours(call), inputs)


@pytest.mark.parametrize("training", [False, True])
def test_third_derivatives_are_right_as_well(training: bool) -> None:
    def slopes(x: Tensor, scale: Tensor, bias: Tensor, weight: Tensor) -> Tensor:
        statistics = torch.zeros(2).double(), torch.ones(2).double()
        with SecondDerivatives():
            y = functional.batch_norm(functional.conv1d(x, weight), *statistics, scale, bias, training)
            found = torch.autograd.grad((torch.relu(y) ** 3).sum(), (x, scale, weight), create_graph=True)
        return torch.cat([gradient.flatten() for gradient in found])

    inputs = drawn((3, 1, 4), (2,), (2,), (2, 1, 2))
    assert gradgradcheck(slopes, inputs)


def test_running_statistics_and_values_are_torchs_bits() -> None:
    def steps(inside: bool) -> list[Tensor]:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU())
        x = torch.randn(4, 2, 6, 6)
        with SecondDerivatives() if inside else torch.enable_grad():
            trained = layers(x)
            out = layers.eval()(x)
        return [trained, out, *layers.state_dict().values()]

    assert all(torch.equal(one, other) for one, other in zip(steps(True), steps(False), strict=True))


def test_a_call_that_is_not_foreseen_is_torchs_own() -> None:
    image, weight = drawn((2, 5, 5), (3, 2, 3, 3))
    batch, scale, single = drawn((2, 2, 5, 5), (2,), (1, 2, 5, 5))
    assert not replaced(functional.conv2d, [image, weight])  # no batch
    assert not replaced(partial(functional.conv2d, padding="same"), [batch, weight])
    assert not replaced(lambda x: functional.batch_norm(x, None, None, None, None, True), [batch])
    assert not replaced(lambda x, w: functional.batch_norm(x, None, None, w, w.detach(), True).mul(1), [batch, scale])
    with torch.autocast("cpu", torch.bfloat16):
        assert not replaced(functional.conv2d, [batch.detach().float(), weight.detach().float().requires_grad_()])
    with SecondDerivatives():  # `torch.func` inside of a network
        each = torch.func.vmap(lambda x: functional.relu(functional.conv2d(x[None], weight))[0])(single)
        kept = single.detach().clone()
        assert functional.relu(kept, inplace=True) is kept and bool((kept >= 0).all())
        assert functional.conv2d(input=batch, weight=weight).shape == (2, 3, 3, 3)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            functional.batch_norm(single.detach()[:, :, 0, 0], None, None, scale, scale, True)
    torch.testing.assert_close(each, functional.relu(functional.conv2d(single, weight)))


class Convolutional(nn.Module):
    """Small, with all that is replaced: strides, a shortcut, a shared and a computed weight, a bias, a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.shared, self.again = nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.BatchNorm2d(3)
        self.bounded = nn.Conv2d(3, 2, 2, stride=2)
        register_parametrization(self.bounded, "weight", nn.Tanh())
        self.output = nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.softplus(self.norm(self.first(x)))
        x = functional.relu(x + self.again(self.shared(self.shared(x))))
        held: Tensor = checkpoint(self.bounded, x, use_reentrant=False)
        out: Tensor = self.output(torch.tanh(held).mean((2, 3)))
        return out


def network() -> nn.Module:
    torch.manual_seed(2)
    model = Convolutional().double()
    for _ in range(3):
        model(torch.randn(16, *IMAGES).double())
    return model


def images(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
    draws = torch.Generator().manual_seed(3)
    for size in (4, 3):
        yield (
            torch.randn(size, *IMAGES, generator=draws, dtype=torch.float64),
            torch.randint(CLASSES, (size,), generator=draws),
        )


def pruned(model: nn.Module) -> Mask:
    draws = torch.Generator().manual_seed(0)
    names = ("first.weight", "shared.weight", "output.weight")
    return Mask({name: torch.rand(model.get_parameter(name).shape, generator=draws) < 0.5 for name in names})


def surface(masked: bool, statistics: Statistics, state: dict[str, Tensor] | None = None) -> Surface:
    model = network()
    at = Surface(model, images, pruned(model) if masked else None, loss=nn.CrossEntropyLoss(), statistics=statistics)
    at.load(at.point(state_of(network()) if state is None else state))
    return at


def plain_batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, training: bool, momentum: float, eps: float
) -> Tensor:
    """In sums and products: torch's own has a wrong forward derivative by its weight in training mode (torch 2.14)."""
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    mean, scale, bias = (v.view(-1, 1, 1) for v in (mean, weight / (var + eps).sqrt(), bias))
    return (x - mean) * scale + bias


def dense_matrix(at: Surface, kind: str, statistics: Statistics) -> Tensor:
    """The matrix by `torch.func`, which takes nothing of ours."""
    here, total, count = at.here(), torch.zeros(at.size, at.size, dtype=torch.float64), 0
    for x, y in images("train"):
        model = at.model.train() if statistics == "batch" else at.model.eval()

        def outputs(vector: Tensor, model: nn.Module = model, x: Tensor = x) -> Tensor:
            buffers = {name: value.clone() for name, value in here.buffers.items()}
            return functional_call(model, {**buffers, **at.spread(vector)}, (x,))

        if kind == "hessian":
            matrix = hessian(lambda vector, y=y: at.loss(outputs(vector), y))(here.vector)
        else:
            jacobian = torch.func.jacrev(outputs)(here.vector)
            inner = hessian(lambda out, y=y: at.loss(out, y))(outputs(here.vector))
            matrix = torch.einsum("aci,acbd,bdj->ij", jacobian, inner, jacobian)
        total, count = total + matrix * len(y), count + len(y)
    at.load(here)
    return total / count


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("masked", [False, True])
def test_products_of_a_convolutional_network_are_those_of_the_dense_matrix(
    kind: str, statistics: Statistics, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = surface(masked, statistics)
    with monkeypatch.context() as patch:  # `torch.func` knows no checkpoints
        patch.setattr(functional, "batch_norm", plain_batch_norm)
        patch.setitem(Convolutional.forward.__globals__, "checkpoint", lambda f, x, use_reentrant: f(x))
        matrix = dense_matrix(at, kind, statistics)
    product = at.hessian_product if kind == "hessian" else at.gauss_newton_product
    draws = torch.Generator().manual_seed(7)
    for _ in range(3):
        vector = torch.randn(at.size, generator=draws, dtype=torch.float64)
        torch.testing.assert_close(product(vector), matrix @ vector, rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", ["hessian_product", "gauss_newton_product"])
def test_products_do_not_read_pruned_weights(kind: str) -> None:
    state = state_of(network())
    bad = {name: value.clone() for name, value in state.items()}
    for name, alive in pruned(network()).items():
        bad[name][~alive] = float("nan")
    clean, poisoned = surface(True, "running", state), surface(True, "running", bad)
    vector = torch.ones(clean.size, dtype=torch.float64)
    assert torch.equal(getattr(clean, kind)(vector), getattr(poisoned, kind)(vector))


class Convolutions(TorchDispatchMode):
    """Counts convolutions; a backward pass has one for its input and one for its weight, each as long as a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.count += 1
        elif func is torch.ops.aten.convolution_backward.default:
            self.count += sum(args[-1][:2])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_products_cost_eight_and_five_convolutions_where_a_gradient_costs_three(statistics: Statistics) -> None:
    layers = nn.Sequential(
        *(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for _ in range(8)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    x, y = torch.randn(6, 4, 8, 8), torch.randint(4, (6,))
    at = Surface(layers, lambda part: iter([(x, y)]), loss=nn.CrossEntropyLoss(), statistics=statistics)
    vector = torch.ones(at.size)

    def cost(call: Callable[[], object]) -> int:
        with Convolutions() as counter:
            call()
        return counter.count

    assert cost(at.gradient) == 3 * 8 - 1  # the first layer needs none for its input
    assert cost(lambda: at.hessian_product(vector)) == 8 * 8 - 5
    assert cost(lambda: at.gauss_newton_product(vector)) == 5 * 8 - 2
