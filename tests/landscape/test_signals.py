"""Signals by layer against plain arithmetic, the mean-field recursion and dense Jacobians."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.landscape.mean_field import chi, fixed_point, variance
from lottery.landscape.memo import Memo
from lottery.landscape.signals import jacobians, measure
from lottery.landscape.subject import State, Subject
from lottery.landscape.surface import Batches, Surface
from lottery.network.layout import state_of
from lottery.pruning.mask import Mask
from lottery.values import Part


def batches(inputs: int = 6, sizes: tuple[int, ...] = (20, 13), classes: int = 3) -> Batches:
    def make(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        draws = torch.Generator().manual_seed(5)
        for size in sizes:
            yield torch.randn(size, inputs, generator=draws), torch.randint(classes, (size,), generator=draws)

    return make


def chain(activation: str, depth: int, width: int, weight_var: float, bias_var: float = 0.0) -> nn.Sequential:
    draws = torch.Generator().manual_seed(1)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(width, width)
        nn.init.normal_(layer.weight, 0, math.sqrt(weight_var / width), generator=draws)
        nn.init.normal_(layer.bias, 0, math.sqrt(bias_var), generator=draws)
        layers += [layer, registry.activations[activation].make()]
    output = nn.Linear(width, 3)
    nn.init.normal_(output.weight, 0, 1 / math.sqrt(width), generator=draws)
    nn.init.zeros_(output.bias)
    return nn.Sequential(*layers, output)


def random_mask(model: nn.Module, density: float) -> Mask:
    draws = torch.Generator().manual_seed(2)
    return Mask(
        {
            f"{name}.weight": torch.rand(module.weight.shape, generator=draws) < density
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear)
        }
    )


def surface_of(model: nn.Module, mask: Mask | None = None, inputs: int = 6) -> Surface:
    surface = Surface(model, batches(inputs), mask, loss=nn.CrossEntropyLoss())
    surface.load(surface.point(state_of(model)))
    return surface


def all_of(inputs: int = 6) -> tuple[Tensor, Tensor]:
    parts = list(batches(inputs)("train"))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def test_numbers_of_a_layer_are_those_of_plain_arithmetic() -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(6, 5), nn.Linear(5, 3)
    found = measure(surface_of(nn.Sequential(one, nn.Tanh(), two)))
    x, y = all_of()
    before = one(x)
    middle = torch.tanh(before)
    outputs = two(middle)
    loss = nn.functional.cross_entropy(outputs, y, reduction="sum")
    gradients = torch.autograd.grad(loss, [before, middle, outputs], retain_graph=True)
    weights = torch.autograd.grad(loss / len(y), [one.weight, two.weight])
    first, second, third = found.layers
    assert [row["layer"] for row in found.layers] == ["0", "1", "2"]
    assert [row["kind"] for row in found.layers] == ["layer", "activation", "layer"]
    for row, value, gradient in zip(found.layers, (before, middle, outputs), gradients, strict=True):
        assert row["variance"] == pytest.approx(value.var(correction=0).item(), rel=1e-5)
        assert row["mean_square"] == pytest.approx(value.square().mean().item(), rel=1e-5)
        assert row["gradient"] == pytest.approx(gradient.square().sum(1).mean().sqrt().item(), rel=1e-5)
    assert first["weight_gradient"] == pytest.approx(weights[0].norm().item(), rel=1e-5)
    assert third["weight_gradient"] == pytest.approx(weights[1].norm().item(), rel=1e-5)
    assert math.isnan(second["weight_gradient"])  # type: ignore[arg-type]


def test_the_backward_rate_of_a_unit_is_that_of_the_norm_less_the_growth_of_the_width() -> None:
    torch.manual_seed(0)
    widths = (48, 24, 12, 6)
    layers = [nn.Linear(n, m) for n, m in zip((6, *widths), (*widths, 3), strict=True)]
    found = measure(surface_of(nn.Sequential(*layers)), jacobian=0).totals
    assert found["backward_unit_rate"] == pytest.approx(found["backward_rate"] - math.log(2), abs=1e-9)
    x, y = all_of()
    hidden = [layers[0](x)]
    for layer in layers[1:]:
        hidden.append(layer(hidden[-1]))
    loss = nn.functional.cross_entropy(hidden[-1], y, reduction="sum")
    squares = [g.square().mean().item() for g in torch.autograd.grad(loss, hidden[:4])]
    slope = np.polyfit(range(4), np.log(squares[::-1]), 1)[0]
    assert found["backward_unit_rate"] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("density", [1.0, 0.3])
@pytest.mark.parametrize(
    ("activation", "weight_var", "bias_var", "within"), [("relu", 2.0, 0.0, 0.35), ("tanh", 2.5, 0.05, 0.1)]
)
def test_a_wide_network_is_as_the_recursion_expects(
    activation: str, weight_var: float, bias_var: float, within: float, density: float
) -> None:
    width, depth = 800, 6  # of ReLU the logarithm of q has a standard deviation of sqrt(5 depth / width) = 0.19
    model = chain(activation, depth, width, weight_var / density, bias_var)
    found = measure(surface_of(model, random_mask(model, density) if density < 1 else None, width), jacobian=0)
    function = registry.activations[activation].make()
    q, rates = weight_var + bias_var, []
    for row in [row for row in found.layers if row["kind"] == "layer"][:-1]:
        assert row["expected_mean_square"] == pytest.approx(q, rel=0.03)
        assert row["mean_square"] == pytest.approx(q, rel=within)
        rates.append(math.log(chi(function, q, weight_var)))
        q = variance(function, q, weight_var, bias_var)
    expected = sum(rates[:-1]) / (depth - 1)
    assert found.totals["expected_backward_rate"] == pytest.approx(expected, abs=0.01)
    assert found.totals["backward_rate"] == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize(
    ("activation", "weight_var", "word"),
    [("relu", 2.0, "holds"), ("relu", 4.0, "explodes"), ("relu", 1.0, "vanishes"), ("sigmoid", 1.0, "vanishes")],
)
def test_the_verdict_is_that_of_the_phase(activation: str, weight_var: float, word: str) -> None:
    assert measure(surface_of(chain(activation, 12, 100, weight_var), inputs=100)).verdict == word


def test_signals_hold_up_to_six_depth_scales() -> None:
    scale = fixed_point(torch.tanh, 0.6).xi_gradient
    short, long = round(4 * scale), round(9 * scale)
    assert (short, long) == (8, 18)
    words = [measure(surface_of(chain("tanh", depth, 200, 0.6), inputs=200)).verdict for depth in (short, long)]
    assert words == ["holds", "vanishes"]


def test_gradients_through_batch_normalization_and_relu_grow_by_the_published_factor() -> None:
    torch.manual_seed(0)
    width, depth = 200, 40
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 3))

    def many(part: Part) -> Iterator[tuple[Tensor, Tensor]]:
        draws = torch.Generator().manual_seed(5)
        yield torch.randn(256, width, generator=draws), torch.randint(3, (256,), generator=draws)

    surface = Surface(model, many, loss=nn.CrossEntropyLoss())
    surface.reset_statistics()
    found = measure(surface, jacobian=0)
    assert found.totals["backward_rate"] == pytest.approx(math.log(math.pi / (math.pi - 1)), rel=0.05)  # Yang 2019
    assert math.isnan(found.depth_scale_expected)


@pytest.mark.parametrize("pruned", [False, True])
def test_singular_values_are_those_of_the_dense_jacobian(pruned: bool) -> None:
    model = chain("tanh", 2, 6, 2.0)
    surface = surface_of(model, random_mask(model, 0.6) if pruned else None)
    x, _ = all_of()
    for row, matrix in zip(x[:4], jacobians(surface, 4), strict=True):
        dense = torch.func.jacrev(surface.model)(row.unsqueeze(0)).reshape(3, 6)
        torch.testing.assert_close(matrix, dense.detach().double(), rtol=1e-5, atol=1e-6)
    values = torch.stack([torch.linalg.svdvals(matrix) for matrix in jacobians(surface, 4)])
    totals = measure(surface, jacobian=4).totals
    assert totals["jacobian_largest"] == pytest.approx(values[:, 0].mean().item())
    assert totals["jacobian_smallest"] == pytest.approx(values[:, -1].mean().item())
    assert totals["jacobian_mean_square"] == pytest.approx(values.square().mean().item())


def test_planted_dead_and_saturated_units_are_counted() -> None:
    for activation, bias in (("relu", -1e3), ("tanh", 1e3), ("sigmoid", -1e3), ("leaky_relu", -1e3)):
        model = chain(activation, 1, 10, 1.0)
        with torch.no_grad():
            model[0].bias[:3] = bias  # type: ignore[operator]
        (row,) = (row for row in measure(surface_of(model, inputs=10)).layers if row["kind"] == "activation")
        assert row["dead"] == (0.3 if activation == "relu" else 0 if activation != "sigmoid" else 0.3), activation
        assert row["saturated"] == (0 if activation == "leaky_relu" else 0.3), activation


def test_an_activation_in_place_and_one_called_twice_are_measured_as_any_other() -> None:
    class Twice(nn.Module):
        def __init__(self, inplace: bool):
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.act = nn.ReLU(inplace=inplace)

        def forward(self, x: Tensor) -> Tensor:
            return self.three(self.act(self.two(self.act(self.one(x)))))

    plain, inplace = (measure(surface_of(Twice(value))) for value in (False, True))
    assert [row["layer"] for row in plain.layers] == ["one", "act", "two", "act 2", "three"]
    assert repr(plain.layers) == repr(inplace.layers)
    assert repr(plain.totals) == repr(inplace.totals)


def test_a_shortcut_ends_what_the_recursion_expects() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.one(x))
            return self.three(h + self.act(self.two(h)))

    rows = {row["layer"]: row["expected_mean_square"] for row in measure(surface_of(Residual())).layers}
    assert math.isfinite(rows["two"])  # type: ignore[arg-type]
    assert math.isnan(rows["three"])  # type: ignore[arg-type]


def test_convolutions_have_channels_as_units() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3)
    )
    with torch.no_grad():
        model[1].bias[:2] = -1e3  # type: ignore[operator]
    found = measure(surface_of(model, inputs=16))
    assert found.totals["dead"] == 0.25
    assert all(math.isfinite(float(row["gradient"])) for row in found.layers)


def test_hooks_are_gone_afterwards_and_the_model_is_as_it_was() -> None:
    model = chain("relu", 2, 6, 2.0).train()
    surface = surface_of(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(surface)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_diverged_network_keeps_its_nan() -> None:
    model = chain("relu", 3, 6, 2.0)
    with torch.no_grad():
        model[2].weight[0, 0] = float("nan")  # type: ignore[operator]
    found = measure(surface_of(model))
    assert math.isnan(float(found.layers[2]["mean_square"]))
    assert found.verdict == "explodes"
    assert math.isnan(found.totals["jacobian_largest"])


def subject(mask: Mask | None = None, poison: bool = False) -> Subject:
    def network() -> nn.Module:
        model = chain("relu", 2, 6, 2.0)
        return nn.Sequential(*list(model)[:1], nn.BatchNorm1d(6), *list(model)[1:])

    states = []
    for step, scale in ((0, 1.0), (10, 1.5), (20, 3.0)):
        weights = {
            name: value * scale if value.is_floating_point() else value.clone()
            for name, value in state_of(network()).items()
        }
        if mask is not None and poison:
            for name in mask:
                weights[name] = torch.where(mask[name], weights[name], torch.full_like(weights[name], float("nan")))
        states.append(State(f"dense at {step}it", "key", weights, mask, step))
    return Subject(
        states,
        0,
        network,
        network,
        nn.CrossEntropyLoss(),
        lambda part, count: batches()(part),
    )


def test_the_entry_has_a_row_for_each_state_and_layer_and_goes_on_after_a_kill() -> None:
    entry = registry.analyses["signals"]
    kept: list[dict[str, Tensor]] = []
    whole = entry.make(subject(), Memo(after=lambda memo: kept.append(dict(memo.parts))))
    assert set(whole.values) == set(entry.traits.units)
    assert len(whole.profile) == 3 * 5
    assert {row["step"] for row in whole.profile} == {0, 10, 20}
    assert len(kept) == 3
    for parts in kept:
        assert repr(entry.make(subject(), Memo(parts))) == repr(whole)


def test_pruned_weights_are_not_read() -> None:
    mask = random_mask(subject().network(), 0.5)
    entry = registry.analyses["signals"]
    clean, poisoned = (entry.make(subject(mask, poison), Memo()) for poison in (False, True))
    assert repr(clean) == repr(poisoned)
    assert math.isfinite(clean.values["jacobian_largest_last"])


def test_one_state_is_first_and_last() -> None:
    given = subject()
    one = Subject(given.states[:1], 0, given.network, given.initial, given.loss, given.examples)
    values = registry.analyses["signals"].make(one, Memo()).values
    assert values["dead_first"] == values["dead_last"]
