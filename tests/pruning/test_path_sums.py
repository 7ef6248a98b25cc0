"""SynFlow's sum over paths, by going through the paths one by one, and the networks that have no such sum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.ops import SqueezeExcitation

from lottery.network.build import prunable
from lottery.pruning.path_sums import sums_paths
from lottery.registry import activations, models, normalizations
from tests.support.criteria import context, draw, score

ACTIVATIONS = [entry.name for entry in activations]
NORMS: dict[str, Any] = {
    **{entry.name: entry.make for entry in normalizations if not entry.traits.weight},
    "LayerNorm": lambda channels, _: nn.LayerNorm(channels),
    "RMSNorm": lambda channels, _: nn.RMSNorm(channels),
}
CASES = [(norm, spatial) for norm in NORMS for spatial in (False, True) if not (spatial and norm.endswith("Norm"))]


class Net(nn.Module):
    """Two hidden layers of 4 and 2 units with a shortcut past the second pair of weights, biases everywhere."""

    def __init__(self, norm: str, activation: str, spatial: bool):
        super().__init__()
        make = NORMS[norm]
        self.fc1, self.norm1 = self.layer(3, 4, spatial), make(4, spatial)
        self.fc2, self.norm2 = self.layer(4, 4, spatial), make(4, spatial)
        self.activation, self.output = activations[activation].make(), nn.Linear(4, 2)

    def layer(self, inputs: int, outputs: int, spatial: bool) -> nn.Module:
        return nn.Conv2d(inputs, outputs, 1) if spatial else nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.fc1(x)))
        x = x + self.activation(self.norm2(self.fc2(x)))
        logits: Tensor = self.output(x.flatten(2).mean(2) if x.dim() == 4 else x)
        return logits


def trained(norm: str, activation: str, spatial: bool) -> nn.Module:
    """With weights, biases and statistics of all kinds, as at a rewind point past step 0."""
    with torch.random.fork_rng(devices=[]):
        network = draw(Net(norm, activation, spatial), 5)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.copy_(buffer + 0.7)
    return network


def paths(network: nn.Module) -> Iterator[tuple[float, list[tuple[str, int, int]]]]:
    """Each path from an input or a bias to an output: the product of what lies on it, and its prunable weights."""
    value = {
        name: parameter.detach().abs().flatten(1) if parameter.dim() > 1 else parameter.detach().abs()
        for name, parameter in network.named_parameters()
    }

    def scale(norm: str, unit: int) -> float:
        return float(value[f"{norm}.weight"][unit]) if f"{norm}.weight" in value else 1.0

    def starts(layer: str, norm: str, unit: int) -> list[float]:
        shift = [float(value[f"{norm}.bias"][unit])] if f"{norm}.bias" in value else []
        return [float(value[f"{layer}.bias"][unit]) * scale(norm, unit), *shift]

    def out(unit: int, product: float, used: list[Any]) -> Iterator[tuple[float, list[Any]]]:
        for j in range(2):
            yield product * float(value["output.weight"][j, unit]), [*used, ("output.weight", j, unit)]

    def middle(unit: int, product: float, used: list[Any]) -> Iterator[tuple[float, list[Any]]]:
        yield from out(unit, product, used)  # by the shortcut
        for j in range(4):
            factor = float(value["fc2.weight"][j, unit]) * scale("norm2", j)
            yield from out(j, product * factor, [*used, ("fc2.weight", j, unit)])

    for j in range(4):
        for i in range(3):
            yield from middle(j, float(value["fc1.weight"][j, i]) * scale("norm1", j), [("fc1.weight", j, i)])
        for start in starts("fc1", "norm1", j):
            yield from middle(j, start, [])
        for start in starts("fc2", "norm2", j):
            yield from out(j, start, [])


@pytest.mark.parametrize(("norm", "spatial"), CASES)
def test_synflow_is_the_sum_of_the_paths_under_each_norm_activation_and_bias(norm: str, spatial: bool) -> None:
    shape = (3, 2, 2) if spatial else (3,)
    for activation in ACTIVATIONS:

        def build(activation: str = activation) -> nn.Module:
            return trained(norm, activation, spatial)

        expected = {name: torch.zeros_like(weight) for name, weight in prunable(build()).items()}
        for product, used in paths(build()):
            for name, *place in used:
                expected[name][tuple(place)] += product
        found = score("synflow", build, context(build, torch.zeros(1, *shape), torch.zeros(1)))
        for name, total in expected.items():
            assert torch.allclose(found[name], total, rtol=1e-12), (activation, name)


@pytest.mark.parametrize("norm", [entry.name for entry in normalizations])
def test_under_each_norm_what_flows_into_a_layer_flows_out(norm: str) -> None:
    """Tanaka et al. 2020, theorem 2, on a network without shortcuts: layers have equal sums, none runs dry."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = models["plain"].make((1, 8, 8), 10, depth=8, norm=norm, width=4)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    state = network.double().eval().state_dict()

    def build() -> nn.Module:
        copy = models["plain"].make((1, 8, 8), 10, depth=8, norm=norm, width=4).double().eval()
        copy.load_state_dict(state)
        return copy

    scores = score("synflow", build, context(build, torch.zeros(1, 1, 8, 8), torch.zeros(1)))
    sums = [float(each.sum()) for each in scores.values()]
    assert len(sums) == 8 and sums == pytest.approx([sums[0]] * 8, rel=1e-9) and sums[0] > 0


class Around(nn.Module):
    """A function of torch between two linear layers."""

    def __init__(self, function: Any):
        super().__init__()
        self.first, self.function, self.last = nn.Linear(4, 6), function, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.function(self.first(x)))
        return logits


STRAIGHT: list[Any] = [
    *(functional.relu, functional.gelu, torch.tanh, torch.sigmoid, Tensor.tanh, functional.silu, functional.relu6),
    *(nn.ReLU6(), nn.Hardswish(inplace=True), nn.SELU(), nn.PReLU(), nn.Softsign(), nn.LogSigmoid(), nn.Mish()),
    *(nn.LayerNorm(6), nn.RMSNorm(6), nn.GroupNorm(2, 6), nn.BatchNorm1d(6, affine=False), nn.Dropout(0.5)),
]
BENT: list[Any] = [
    *(lambda x: x * torch.sigmoid(x), lambda x: x**2, lambda x: x.clamp(max=6), lambda x: torch.log1p(x)),
    *(lambda x: functional.normalize(x, dim=1), lambda x: x.softmax(1), lambda x: functional.log_softmax(x, 1)),
    *(lambda x: x + torch.log1p(x) * 1e-3, lambda x: x.softmax(1) * x.sum(1, keepdim=True)),
]


def test_functions_whose_value_is_neutral_leave_a_sum_of_paths_and_others_do_not() -> None:
    assert [function for function in STRAIGHT if not sums_paths(Around(function), (4,))] == []
    assert [place for place, function in enumerate(BENT) if sums_paths(Around(function), (4,))] == []


def test_gates_and_attention_are_no_sums_of_paths_and_layer_norm_and_pooling_are() -> None:
    blocks = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)]
    swin = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], num_classes=3)
    assert sums_paths(ConvNeXt(blocks, stochastic_depth_prob=0.5, num_classes=3), (3, 32, 32))
    assert not sums_paths(swin, (3, 16, 16))
    gated = nn.Sequential(nn.Conv2d(3, 8, 1), SqueezeExcitation(8, 2), nn.Flatten(), nn.Linear(8 * 16, 2))
    assert not sums_paths(gated, (3, 4, 4))
    assert not sums_paths(models["highway"].make((16,), 3, width=5, depth=3), (16,))
    for name in ("conv2", "resnet20", "fixup_resnet20"):
        assert sums_paths(models[name].make((3, 32, 32), 10), (3, 32, 32)), name
