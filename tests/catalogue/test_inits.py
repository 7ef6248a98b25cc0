"""Initializations: variances and defining properties over layers of several shapes, linear and convolutional."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import ks_2samp
from torch import nn

from lottery import registry
from lottery.catalogue.inits._mean_field import critical
from lottery.catalogue.inits._metainit import gradient_quotient, random_loss, tune_norms
from lottery.errors import UsageError
from lottery.network.build import build_model, effective, prunable
from lottery.values import Component

LAYERS = {
    "wide": (lambda: nn.Linear(400, 900), 400, 900),
    "narrow": (lambda: nn.Linear(900, 300), 900, 300),
    "conv": (lambda: nn.Conv2d(32, 96, 3), 288, 864),
    "pointwise": (lambda: nn.Conv2d(300, 500, 1, bias=False), 300, 500),
    "conv1d": (lambda: nn.Conv1d(64, 160, 5), 320, 800),
}
VARIANCES = {
    "geometric_mean": lambda fan_in, fan_out: 2 / math.sqrt(fan_in * fan_out),
    "glorot_normal": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "glorot_uniform": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "kaiming_normal": lambda fan_in, fan_out: 2 / fan_in,
    "kaiming_uniform": lambda fan_in, fan_out: 2 / fan_in,
    "lecun_normal": lambda fan_in, fan_out: 1 / fan_in,
    "lecun_uniform": lambda fan_in, fan_out: 1 / fan_in,
    "mean_field": lambda fan_in, fan_out: 2 / fan_in,
    "naive": lambda fan_in, fan_out: 1e-4,
    "torch": lambda fan_in, fan_out: 1 / (3 * fan_in),
}
PROPERTIES = {"orthogonal", "delta_orthogonal", "fixup", "lsuv", "metainit"}  # each has tests of its own below
FEW_STEPS = {"metainit": {"steps": 2}}


def drawn(name: str, layer: str, seed: int = 0, **args: Any) -> Any:
    module = LAYERS[layer][0]()
    registry.inits[name].make(module, torch.Generator().manual_seed(seed), **args)
    return module


class Block(nn.Module):
    """A residual block without normalization, of as many layers as there are widths less one."""

    def __init__(self, *widths: int):
        super().__init__()
        self.branch = [nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in pairwise(widths)]
        self.layers = nn.Sequential(*self.branch)

    def residual(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.branch:
            x = layer(torch.relu(x))
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.residual(x)


def any_model() -> nn.Sequential:
    """A network that every init takes: 3x8x8 images, 5 classes."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), Block(32, 24, 32), Block(32, 24, 32), nn.Flatten(), nn.Linear(2048, 5)
    )


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(9)
    return torch.randn(16, 3, 8, 8, generator=draws) * 5, torch.randint(5, (16,), generator=draws)


def initialize(name: str, model: nn.Module, seed: int = 0, **args: Any) -> nn.Module:
    entry = registry.inits[name]
    batch = [examples()] if entry.traits.batch else []
    entry.make(model, torch.Generator().manual_seed(seed), *batch, **FEW_STEPS.get(name, {}), **args)
    return model


ANYWHERE = [entry.name for entry in registry.inits if entry.name != "planted"]  # of one model: test_planted.py


def test_every_init_is_tested_by_its_variance_or_its_defining_property() -> None:
    assert {entry.name for entry in registry.inits} == set(VARIANCES) | PROPERTIES | {"planted"}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", VARIANCES)
def test_the_variance_of_weights_is_the_formula(name: str, layer: str) -> None:
    weight = drawn(name, layer).weight
    expected = VARIANCES[name](*LAYERS[layer][1:])
    # the variance of n normal draws spreads by sqrt(2/n); uniform ones less
    assert weight.var().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / weight.numel()))
    assert abs(weight.mean().item()) < 5 * math.sqrt(expected / weight.numel())


@pytest.mark.parametrize(
    ("name", "args", "variance"),
    [
        ("kaiming_normal", {"fan": "fan_out"}, 2 / 900),
        ("kaiming_uniform", {"fan": "fan_out"}, 2 / 900),
        ("geometric_mean", {"c": 1.0}, 1 / 600),
        ("naive", {"std": 0.3}, 0.09),
        ("mean_field", {"activation": "tanh"}, 1 / 400),
    ],
)
def test_a_key_changes_the_variance_as_it_says(name: str, args: dict[str, Any], variance: float) -> None:
    weight = drawn(name, "wide", **args).weight
    assert weight.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / weight.numel()))


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("glorot_uniform", math.sqrt(6 / 1300)),
        ("kaiming_uniform", math.sqrt(6 / 400)),
        ("lecun_uniform", math.sqrt(3 / 400)),
        ("torch", 1 / 20),
    ],
)
def test_uniform_draws_fill_their_bound(name: str, bound: float) -> None:
    assert drawn(name, "wide").weight.abs().max().item() == pytest.approx(bound, rel=1e-4)


@pytest.mark.parametrize("name", ANYWHERE)
def test_biases_are_zero_but_for_torchs_default(name: str) -> None:
    bias = initialize(name, any_model())[-1].bias  # type: ignore[index]
    assert bias.abs().max().item() == (pytest.approx(2048**-0.5, rel=0.5) if name == "torch" else 0)


@pytest.mark.parametrize("name", ANYWHERE)
def test_draws_come_from_the_generator_alone(name: str) -> None:
    state = torch.get_rng_state()
    models = [any_model() for _ in range(3)]
    torch.set_rng_state(state)
    first, again, other = (initialize(name, model, seed) for model, seed in zip(models, (1, 1, 2), strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first[0].weight, other[0].weight)  # type: ignore[index]
    assert all(module.training for module in first.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in first.parameters())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal_weights_have_orthonormal_rows_or_columns_times_the_gain(layer: str, gain: float) -> None:
    matrix = drawn("orthogonal", layer, gain=gain).weight.detach().flatten(1).double()
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    torch.testing.assert_close(matrix @ matrix.T, gain**2 * torch.eye(len(matrix)).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_delta_orthogonal_kernel_is_an_orthogonal_centre_and_zero_around_it(layer: str) -> None:
    weight = drawn("delta_orthogonal", layer, gain=1.5).weight.detach().double()
    taps = weight.flatten(2) if weight.dim() > 2 else weight[:, :, None]
    centre = taps.shape[2] // 2
    assert taps[:, :, :centre].abs().sum() == taps[:, :, centre + 1 :].abs().sum() == 0
    matrix = taps[:, :, centre]
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    torch.testing.assert_close(matrix @ matrix.T, 2.25 * torch.eye(len(matrix)).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_delta_orthogonal_convolution_keeps_the_norm_of_each_position(groups: int) -> None:
    conv = nn.Conv2d(8, 16, 3, padding=1, bias=False, groups=groups)
    registry.inits["delta_orthogonal"].make(conv, torch.Generator().manual_seed(0))
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(conv(x).norm(dim=1), x.norm(dim=1))


PHI = {  # with its derivative, for an integral that shares nothing with the solver
    "tanh": (math.tanh, lambda x: 1 - math.tanh(x) ** 2),
    "sigmoid": (
        lambda x: 1 / (1 + math.exp(-x)),
        lambda x: math.exp(-abs(x)) / (1 + math.exp(-abs(x))) ** 2,
    ),
    "leaky_relu": (lambda x: x if x > 0 else 0.01 * x, lambda x: 1.0 if x > 0 else 0.01),
}


@pytest.mark.parametrize(
    ("activation", "bias_var"),
    [("tanh", 1e-3), ("tanh", 0.05), ("tanh", 0.5), ("sigmoid", 0.0), ("sigmoid", 0.1), ("leaky_relu", 0.0)],
)
def test_the_mean_field_point_is_critical_and_fixed(activation: str, bias_var: float) -> None:
    weight_var, q = critical(activation, bias_var)
    value, slope = PHI[activation]

    def mean(f: Any) -> float:
        integral, _ = quad(
            lambda z: f(math.sqrt(q) * z) ** 2 * math.exp(-z * z / 2), -12, 12, points=[0.0], epsabs=1e-13
        )
        return float(integral) / math.sqrt(2 * math.pi)

    assert q > 0 or activation == "leaky_relu"
    # at q = 0 the integral would see one side of the kink only: half of the mass has each slope
    chi = weight_var * (mean(slope) if q else (slope(1.0) ** 2 + slope(-1.0) ** 2) / 2)
    assert chi == pytest.approx(1, abs=1e-9)
    assert weight_var * mean(value) + bias_var == pytest.approx(q, abs=1e-9)


@pytest.mark.parametrize(("activation", "weight_var"), [("relu", 2), ("tanh", 1), ("gelu", 4), ("silu", 4), ("elu", 1)])
def test_without_biases_the_critical_variance_is_that_of_the_slope_at_zero(activation: str, weight_var: float) -> None:
    assert critical(activation, 0.0) == (pytest.approx(weight_var, rel=1e-5), 0.0)


def test_mean_field_draws_biases_of_their_variance_and_refuses_them_for_relu() -> None:
    bias = drawn("mean_field", "wide", activation="tanh", bias_var=0.05).bias
    assert bias.var().item() == pytest.approx(0.05, rel=5 * math.sqrt(2 / 900))
    with pytest.raises(UsageError, match=r"mean_field: relu with bias_var 0\.05 is nowhere critical"):
        drawn("mean_field", "wide", bias_var=0.05)


@pytest.mark.parametrize("depth", [2, 3])
def test_fixup_starts_each_block_as_the_identity_with_branches_scaled_by_their_number(depth: int) -> None:
    widths = (40,) * (depth + 1)
    model: Any = nn.Sequential(
        nn.Conv2d(3, 40, 3), *(Block(*widths) for _ in range(5)), nn.Flatten(), nn.Linear(40, 10)
    )
    registry.inits["fixup"].make(model, torch.Generator().manual_seed(0))
    x = torch.randn(2, 40, 6, 6)
    for block in model[1:6]:
        assert not block.residual(x).any() and torch.equal(block(x), x)
        for layer in block.branch[:-1]:
            expected = 2 / (40 * 9) * 5 ** (-1 / (depth - 1))  # L^(-1/(2m-2)) squared
            assert layer.weight.var().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / layer.weight.numel()))
    assert model[0].weight.var().item() == pytest.approx(2 / 27, rel=5 * math.sqrt(2 / model[0].weight.numel()))
    assert not model[-1].weight.any()


def test_fixup_refuses_a_model_without_its_blocks_and_normalized_weights() -> None:
    with pytest.raises(UsageError, match="no residual blocks made for it"):
        drawn("fixup", "wide")
    model = any_model()
    registry.normalizations["weight"].make(model[0])
    with pytest.raises(UsageError, match="use norm: none"):
        initialize("fixup", model)


@pytest.mark.parametrize("norm_name", ["none", "weight"])
def test_lsuv_gives_each_layer_outputs_of_unit_variance_and_keeps_its_directions(norm_name: str) -> None:
    model = build_model(
        Component("conv2", {"norm": norm_name}), (3, 8, 8), 5, init=Component("lsuv"), seed=0, batch=examples()
    )
    seen: list[float] = []
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_hook(lambda *call: seen.append(float(call[2].var(correction=0))))
    with torch.no_grad():
        model(examples()[0])
    assert len(seen) == 5 and all(abs(variance - 1) < 0.1 for variance in seen)
    for weight in effective(model).values():
        matrix = weight.flatten(1) if len(weight) <= weight[0].numel() else weight.flatten(1).T
        gram = matrix @ matrix.T
        torch.testing.assert_close(gram / gram[0, 0], torch.eye(len(gram)), rtol=0, atol=1e-4)


def test_lsuv_names_the_layer_whose_outputs_are_constant() -> None:
    batch = (torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(UsageError, match="outputs of fc1 have variance 0"):
        build_model(Component("lenet"), (6,), 5, init=Component("lsuv"), seed=0, batch=batch)


def test_an_init_that_looks_at_examples_says_so_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="init lsuv: it looks at training examples"):
        build_model(Component("lenet"), (6,), 5, init=Component("lsuv"), seed=0)


def test_the_gradient_quotient_is_that_of_the_full_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = torch.randn(7, 3).double(), torch.randint(2, (7,))
    shapes = [(name, p.shape) for name, p in model.named_parameters()]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split([shape.numel() for _, shape in shapes])
        weights = {name: part.view(shape) for (name, shape), part in zip(shapes, parts, strict=True)}
        return nn.functional.cross_entropy(torch.func.functional_call(model, weights, x), y)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    g, hessian = torch.func.grad(loss)(flat), torch.func.hessian(loss)(flat)
    expected = ((g - hessian @ g) / (g + 1e-5 * torch.where(g >= 0, 1.0, -1.0)) - 1).abs().mean()
    value = gradient_quotient(nn.functional.cross_entropy(model(x), y), list(model.parameters()), 1e-5)
    torch.testing.assert_close(value.detach(), expected)


def deep(scale: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(12, 12), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(12, 4))
    registry.inits["lecun_normal"].make(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in prunable(model).values():
            weight.mul_(scale)
    return model


def mean_quotient(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    draws, parameters = torch.Generator().manual_seed(77), list(model.parameters())
    values = [gradient_quotient(random_loss(model, draws, batch), parameters, 1e-5).item() for _ in range(5)]
    return sum(values) / 5


@pytest.mark.parametrize("scale", [0.5, 2.0])
@pytest.mark.parametrize("regression", [False, True])
def test_metainit_lowers_the_gradient_quotient_of_a_badly_scaled_deep_net(scale: float, regression: bool) -> None:
    model, draws = deep(scale), torch.Generator().manual_seed(1)
    batch = (torch.empty(64, 12), torch.empty(64, 4) if regression else torch.empty(64, dtype=torch.int64))
    before, directions = mean_quotient(model, batch), [w.detach().clone() for w in prunable(model).values()]
    tune_norms(model, draws, batch, steps=100, lr=0.1, momentum=0.9, epsilon=1e-5)
    assert mean_quotient(model, batch) < 1 < before  # above 1 a step of rate 1 turns the mean entry of the gradient
    for old, weight in zip(directions, prunable(model).values(), strict=True):
        cosine = nn.functional.cosine_similarity(weight.flatten(), old.flatten(), 0).item()
        assert abs(cosine) == pytest.approx(1, abs=1e-5)  # lengths are all that has changed, one may have passed 0


def test_a_step_of_metainit_moves_each_norm_by_the_learning_rate() -> None:
    model = deep(1.0)
    before = [weight.norm().item() for weight in prunable(model).values()]
    batch = (torch.randn(8, 12), torch.randint(4, (8,)))
    tune_norms(model, torch.Generator(), batch, steps=1, lr=0.05, momentum=0.9, epsilon=1e-5)
    moved = [weight.norm().item() - norm for weight, norm in zip(prunable(model).values(), before, strict=True)]
    assert [abs(move) for move in moved] == pytest.approx([0.05] * 9, rel=1e-4)


@pytest.mark.parametrize("name", [*VARIANCES, "orthogonal", "delta_orthogonal"])
def test_under_a_weight_norm_an_init_gives_the_weights_that_it_gives_without(name: str) -> None:
    plain, weighted, spectral = (
        effective(build_model(Component("conv2", {"norm": norm}), (3, 8, 8), 5, init=Component(name), seed=0))
        for norm in ("none", "weight", "spectral")
    )
    for a, b, c in zip(plain.values(), weighted.values(), spectral.values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(c / c.norm(), a / a.norm())


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


@pytest.mark.parametrize("name", ["kaiming_normal", "kaiming_uniform", "orthogonal"])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, lambda n: nn.GroupNorm(2, n)])
def test_uniform_norms_are_drawn_after_all_weights_and_leave_these_as_they_are(name: str, norm: Any) -> None:
    def made(**args: Any) -> tuple[Any, torch.Generator]:
        model = nn.Sequential(nn.Conv2d(3, 8, 3), norm(8), nn.Conv2d(8, 6, 1, bias=False), norm(6), nn.Linear(6, 2))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.7)
        draws = torch.Generator().manual_seed(5)
        registry.inits[name].make(model, draws, **args)
        return model, draws

    (ones, draws), (uniform, _) = made(), made(norms="uniform")
    for place in ("0", "2", "4"):
        assert torch.equal(uniform.get_submodule(place).weight, ones.get_submodule(place).weight)
    for place, size in (("1", 8), ("3", 6)):
        expected = torch.empty(size).uniform_(generator=draws)
        assert torch.equal(uniform.get_submodule(place).weight, expected)
        assert torch.equal(ones.get_submodule(place).weight, torch.ones(size))
        assert torch.equal(uniform.get_submodule(place).bias, torch.zeros(size))
    explicit, _ = made(norms="ones")
    assert all(torch.equal(a, b) for a, b in zip(explicit.parameters(), ones.parameters(), strict=True))


def test_norms_are_no_part_of_a_key_where_they_are_ones() -> None:
    given: tuple[dict[str, str], ...] = ({}, {"norms": "ones"}, {"norms": "uniform"})
    plain, ones, uniform = (registry.inits.identity(Component("kaiming_normal", args)) for args in given)
    assert plain == ones != uniform
