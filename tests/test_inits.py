"""Initializations: variances and bounds over layers of several shapes, linear and convolutional."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

from lottery import registry

LAYERS = {
    "wide": (lambda: nn.Linear(400, 900), 400, 900),
    "narrow": (lambda: nn.Linear(900, 300), 900, 300),
    "conv": (lambda: nn.Conv2d(32, 96, 3), 288, 864),
    "pointwise": (lambda: nn.Conv2d(300, 500, 1, bias=False), 300, 500),
    "conv1d": (lambda: nn.Conv1d(64, 160, 5), 320, 800),
}
VARIANCES = {
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "kaiming_normal": lambda fan_in, fan_out: 2 / fan_in,
    "kaiming_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "torch": lambda fan_in, fan_out: 1 / (3 * fan_in),
}


def drawn(name: str, layer: str, seed: int = 0, **args: str) -> nn.Module:
    module = LAYERS[layer][0]()
    registry.inits[name].make(module, torch.Generator().manual_seed(seed), **args)
    return module


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", [entry.name for entry in registry.inits])
def test_the_variance_of_weights_is_the_formula(name: str, layer: str) -> None:
    weight = drawn(name, layer).weight
    expected = VARIANCES[name](*LAYERS[layer][1:])
    # the variance of n normal draws spreads by sqrt(2/n); uniform ones less
    assert weight.var().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / weight.numel()))
    assert abs(weight.mean().item()) < 5 * math.sqrt(expected / weight.numel())


@pytest.mark.parametrize("name", ["kaiming_normal", "kaiming_uniform"])
def test_kaiming_can_count_outputs(name: str) -> None:
    weight = drawn(name, "wide", fan="fan_out").weight
    assert weight.var().item() == pytest.approx(2 / 900, rel=0.02)


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("glorot_uniform", math.sqrt(6 / 1300)),
        ("kaiming_uniform", math.sqrt(6 / 400)),
        ("torch", 1 / 20),
    ],
)
def test_uniform_draws_fill_their_bound(name: str, bound: float) -> None:
    assert drawn(name, "wide").weight.abs().max().item() == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize("name", [entry.name for entry in registry.inits])
def test_biases_are_zero_but_for_torchs_default(name: str) -> None:
    bias = drawn(name, "wide").bias
    assert bias.abs().max().item() == (pytest.approx(1 / 20, rel=0.02) if name == "torch" else 0)


@pytest.mark.parametrize("name", [entry.name for entry in registry.inits])
def test_draws_come_from_the_generator_alone(name: str) -> None:
    first, again, other = drawn(name, "conv", 1), drawn(name, "conv", 1), drawn(name, "conv", 2)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    model = nn.Linear(3, 3)
    state = torch.get_rng_state()
    registry.inits[name].make(model, torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layer", LAYERS)
def test_torchs_default_is_the_distribution_that_a_layer_is_made_with(layer: str) -> None:
    torch.manual_seed(0)
    made, ours = LAYERS[layer][0](), drawn("torch", layer)
    bound = 1 / math.sqrt(LAYERS[layer][1])
    for name, theirs in made.named_parameters():
        values = ours.get_parameter(name)
        assert values.abs().max().item() <= bound and theirs.abs().max().item() <= bound
        distance = ks_2samp(values.detach().flatten().numpy(), theirs.detach().flatten().numpy()).statistic
        assert distance < 2 * math.sqrt(2 / values.numel())  # exceeded by chance once in 1,500


def test_normalizations_start_afresh() -> None:
    norm = nn.BatchNorm2d(4)
    norm(torch.randn(8, 4, 3, 3) + 5)
    norm.weight.data.fill_(3)
    registry.inits["glorot_normal"].make(nn.Sequential(norm), torch.Generator())
    assert norm.running_mean is not None and norm.num_batches_tracked is not None
    assert (norm.weight.sum().item(), norm.running_mean.abs().sum().item(), int(norm.num_batches_tracked)) == (4, 0, 0)
