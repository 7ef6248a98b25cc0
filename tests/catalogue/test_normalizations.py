"""Normalizations of activations and of weights, the latter under masks too."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import build_model, effective, evaluating, lent, prunable, set_weight, settle
from lottery.pruning.amounts import layer_rate
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.values import Component

NORMS = [entry.name for entry in registry.normalizations]
WEIGHT_NORMS = [entry.name for entry in registry.normalizations if entry.traits.weight]
KAIMING = Component("kaiming_normal")
IMAGES = (3, 8, 8)
LARGEST = 500_000  # weights of a model that is built and trained here
SMALL = [  # a list, for to find them takes a second, and each process that collects the tests would do it
    *("conv2", "conv4", "deep_linear", "fixup_resnet20", "fixup_resnet32", "highway"),
    *("lenet", "mlp", "plain", "resnet20", "resnet32"),
]


def test_the_small_models_are_all_that_take_these_images_and_have_few_weights() -> None:
    """The models with a normalization that take images of 8x8 and have at most LARGEST weights for them."""
    found = []
    for entry in registry.models:
        if "norm" in entry.schema.model_fields:
            try:
                with torch.device("meta"):
                    model = entry.make(IMAGES, 10)
            except UsageError:
                continue  # it takes larger images only
            if sum(weight.numel() for weight in prunable(model).values()) <= LARGEST:
                found.append(entry.name)
    assert found == SMALL


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SMALL)
def test_every_normalization_trains_a_step_in_every_model(name: str, norm: str) -> None:
    model = build_model(Component(name, {"norm": norm}), IMAGES, 10, init=KAIMING, seed=0)
    draws = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, *IMAGES, generator=draws), torch.randint(10, (8,), generator=draws)
    before = {key: weight.clone() for key, weight in effective(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nn.functional.cross_entropy(model(x), y).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    optimizer.step()
    after = effective(model)
    assert all(bool(torch.isfinite(after[key]).all()) and not torch.equal(after[key], before[key]) for key in before)
    assert bool(torch.isfinite(model.eval()(x)).all())


def switchable(spatial: bool = True) -> Any:
    """Five channels, with mixes, weight and bias that are not the initial ones."""
    module = registry.normalizations["switchable"].make(5, spatial).double()
    draws = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return module


def test_switchable_is_the_formula_of_the_paper() -> None:
    """Luo et al. 2019, eq. 3 to 5, by loops over examples and channels."""
    module, x = switchable(), torch.randn(4, 5, 3, 2, dtype=torch.float64) * 3 + 1
    a, b = (mix.detach().exp() / mix.detach().exp().sum() for mix in (module.mean_mix, module.var_mix))
    y = module(x)
    for n in range(4):
        for c in range(5):
            sets = (x[n, c], x[n], x[:, c])
            mean = sum(part * values.mean() for part, values in zip(a, sets, strict=True))
            var = sum(part * (values - values.mean()).square().mean() for part, values in zip(b, sets, strict=True))
            expected = module.weight[c] * (x[n, c] - mean) / (var + 1e-5).sqrt() + module.bias[c]
            torch.testing.assert_close(y[n, c], expected)


def test_switchable_without_positions_mixes_layer_and_batch_statistics() -> None:
    module, x = switchable(spatial=False), torch.randn(6, 5, dtype=torch.float64)
    a, b = module.mean_mix.softmax(0), module.var_mix.softmax(0)
    mean = a[0] * x.mean(1, keepdim=True) + a[1] * x.mean(0)
    var = b[0] * x.var(1, correction=0, keepdim=True) + b[1] * x.var(0, correction=0)
    torch.testing.assert_close(module(x), module.weight * (x - mean) / (var + 1e-5).sqrt() + module.bias)


@pytest.mark.parametrize(
    ("kind", "spatial", "other"),
    [
        (0, True, nn.InstanceNorm2d(5, affine=True)),
        (1, True, nn.GroupNorm(1, 5)),
        (2, True, nn.BatchNorm2d(5)),
        (0, False, nn.LayerNorm(5)),
        (1, False, nn.BatchNorm1d(5)),
    ],
    ids=["instance", "layer", "batch", "vectors-layer", "vectors-batch"],
)
def test_switchable_with_all_its_mix_on_one_kind_is_torchs_of_that_kind(kind: int, spatial: bool, other: Any) -> None:
    module, other = switchable(spatial), other.double()
    with torch.no_grad():
        for mix in (module.mean_mix, module.var_mix):
            mix.fill_(-1000)[kind] = 1000  # exp(-2000) is 0
        other.weight.copy_(module.weight)
        other.bias.copy_(module.bias)
    for training in (True, True, False):
        module.train(training)
        other.train(training)
        x = torch.randn((6, 5, 3, 4) if spatial else (6, 5), dtype=torch.float64) * 2 + 3
        torch.testing.assert_close(module(x), other(x), rtol=1e-10, atol=1e-10)
    if isinstance(other, nn.modules.batchnorm._BatchNorm):
        torch.testing.assert_close(module.running_mean, other.running_mean)
        torch.testing.assert_close(module.running_var, other.running_var)


def test_switchable_statistics_move_in_training_only_and_start_afresh_with_an_init() -> None:
    module, x = switchable(), torch.randn(4, 5, 3, 3, dtype=torch.float64) + 2
    module.eval()(x)
    assert not module.running_mean.any()
    module.train()(x)
    assert module.running_mean.all()
    registry.inits["kaiming_normal"].make(nn.Sequential(module), torch.Generator())
    fresh = registry.normalizations["switchable"].make(5, True).double().state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in module.state_dict().items())


def test_switchable_keeps_the_digits_of_a_small_spread_around_a_large_mean() -> None:
    module, x = registry.normalizations["switchable"].make(5, True), torch.randn(8, 5, 6, 6)
    torch.testing.assert_close(module(x + 1000), module(x), rtol=0, atol=2e-3)
    assert module(x.bfloat16()).dtype == torch.bfloat16


def perceptron(norm: str, widths: tuple[int, ...] = (6, 8, 7, 4)) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i in range(1, len(widths)):
        layers[f"fc{i}"] = nn.Linear(widths[i - 1], widths[i])
        layers[f"activation{i}"] = nn.Tanh()
    model = nn.Sequential(layers)
    for name in [name for name in layers if name.startswith("fc")]:
        registry.normalizations[norm].make(layers[name])
    return model.double()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 30) -> None:
    draws = torch.Generator().manual_seed(3)
    for _ in range(steps):
        x, y = torch.randn(16, 6, generator=draws, dtype=torch.float64), torch.randint(4, (16,), generator=draws)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def random_mask(model: nn.Module, density: float = 0.5) -> Mask:
    draws = torch.Generator().manual_seed(5)
    return Mask({name: torch.rand(w.shape, generator=draws) < density for name, w in prunable(model).items()})


@pytest.mark.parametrize(("norm", "theirs"), [("weight", weight_norm), ("spectral", spectral_norm)])
@pytest.mark.parametrize("layer", [nn.Linear(7, 5), nn.Conv2d(3, 5, 3)], ids=["linear", "conv"])
def test_a_weight_norm_of_weights_that_are_not_zero_is_torchs_to_the_bit(
    norm: str, theirs: Any, layer: nn.Module
) -> None:
    wrapped, plain = type(layer)(*SIZES[type(layer)]), type(layer)(*SIZES[type(layer)])
    plain.load_state_dict(wrapped.state_dict())
    torch.manual_seed(1)
    registry.normalizations[norm].make(wrapped)
    torch.manual_seed(1)
    theirs(plain)
    for _ in range(2):
        results: list[Any] = [module.weight for module in (wrapped, plain)]
        assert torch.equal(*results)
        for module, result in zip((wrapped, plain), results, strict=True):
            module.zero_grad()
            result.square().sin().sum().backward()
        ours, others = dict(wrapped.named_parameters()), dict(plain.named_parameters())
        assert list(ours) == list(others)  # the names that masks and recipes know
        assert all(torch.equal(ours[key].grad, others[key].grad) for key in ours if key != "bias")  # type: ignore[arg-type]


SIZES: dict[type[nn.Module], tuple[int, ...]] = {nn.Linear: (7, 5), nn.Conv2d: (3, 5, 3)}


@pytest.mark.parametrize("name", ["lenet", "conv2", "resnet20"])
@pytest.mark.parametrize(("norm", "parameter"), [("weight", "original1"), ("spectral", "original")])
def test_each_layer_is_normed_and_its_mask_and_rate_go_by_the_layers_name(name: str, norm: str, parameter: str) -> None:
    plain = build_model(Component(name), IMAGES, 10, init=KAIMING, seed=0)
    model = build_model(Component(name, {"norm": norm}), IMAGES, 10, init=KAIMING, seed=0)
    names = list(prunable(model))
    layers = [key.removesuffix(".weight") for key in prunable(plain)]
    assert names == [f"{layer}.parametrizations.weight.{parameter}" for layer in layers]
    assert all(prunable(model)[key] is model.get_parameter(key) for key in names)
    rates = {layers[0]: Fraction(1, 2), "output": Fraction(0)}
    assert [layer_rate(key, names, rates) for key in (names[0], names[1], names[-1])] == [Fraction(1, 2), 1, 0]


@pytest.mark.parametrize("norm", ["none", *WEIGHT_NORMS])
def test_effective_weights_are_those_of_evaluation_and_asking_for_them_changes_nothing(norm: str) -> None:
    model: Any = build_model(Component("conv2", {"norm": norm}), IMAGES, 10, init=KAIMING, seed=0)
    model.fc1.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights = effective(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.training and not model.fc1.training and model.fc2.training
    assert list(weights) == list(prunable(model)) and not any(weight.requires_grad for weight in weights.values())
    with evaluating(model):
        assert torch.equal(weights[next(iter(weights))], model.conv1.weight)


@pytest.mark.parametrize("norm", ["none", "weight", "spectral"])
def test_a_lent_network_is_made_of_the_states_own_tensors(norm: str) -> None:
    first, other = (perceptron(norm) if norm != "none" else nn.Sequential(nn.Linear(6, 4)) for _ in range(2))
    state = first.state_dict()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.5)
    network = lent(other, state)
    assert {name: value.data_ptr() for name, value in network.state_dict().items()} == {
        name: value.data_ptr() for name, value in state.items()
    }
    assert all(bool((parameter == 0.5).all()) for parameter in other.parameters())
    other.load_state_dict(state)
    here, there = effective(network), effective(other)
    assert list(here) == list(there) and all(torch.equal(here[name], there[name]) for name in there)


def test_a_seed_fixes_every_byte_of_a_spectral_norm_and_its_weights_have_norm_one() -> None:
    before = torch.get_rng_state()
    first, again = (
        build_model(
            Component("conv2", {"norm": "spectral", "width": 16}), IMAGES, 10, init=KAIMING, seed=1
        ).state_dict()
        for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    model = build_model(Component("conv2", {"norm": "spectral", "width": 16}), IMAGES, 10, init=KAIMING, seed=1)
    for weight in effective(model).values():  # the first estimate is already of the weights that the init drew
        assert 0.999 < torch.linalg.matrix_norm(weight.flatten(1), 2).item() < 1.1
    settle(model, 1000)
    for weight in effective(model).values():
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_settling_brings_the_norm_up_to_date_and_leaves_parameters_alone() -> None:
    model: Any = perceptron("spectral")
    set_weight(model.fc1, torch.randn(8, 6).double())
    parameters = [p.clone() for p in model.parameters()]
    settle(model, 500)
    assert torch.linalg.matrix_norm(effective(model)["fc1.parametrizations.weight.original"], 2).item() == (
        pytest.approx(1, abs=1e-9)
    )
    assert all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_the_norm_is_that_of_the_masked_weight_and_pruned_entries_are_zero(norm: str) -> None:
    torch.manual_seed(0)
    model = perceptron(norm)
    mask, optimizer = random_mask(model), sgd(model)
    with masked(model, mask, optimizer):
        for steps in (0, 1, 20):
            train(model, optimizer, steps)
            for name, weight in effective(model).items():
                bits, direction = mask[name], prunable(model)[name].detach()
                assert not weight[~bits].any() and not direction[~bits].any()
                if norm == "weight":
                    g = model.get_parameter(name.replace("original1", "original0")).detach()
                    lengths = direction.square().sum(1, keepdim=True).sqrt()
                    expected = torch.where(lengths > 0, g * direction / lengths, 0.0)
                else:
                    layer = model.get_submodule(name.partition(".")[0] + ".parametrizations.weight.0.normalize")
                    u, v = layer.get_buffer("_u"), layer.get_buffer("_v")
                    expected = direction / (u @ direction @ v)
                    # the estimate is a lower bound of the masked weight's norm, and close
                    assert 0.99 < torch.linalg.matrix_norm(weight, 2).item() < 1.2
                torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
@pytest.mark.parametrize("make", [sgd, lambda m: torch.optim.Adam(m.parameters(), lr=0.01)], ids=["sgd", "adam"])
def test_a_masked_normed_network_trains_as_the_physically_smaller_one(norm: str, make: Any) -> None:
    """Units whose weights are all pruned are removed from the small network."""
    torch.manual_seed(0)
    large = perceptron(norm)
    kept = [list(range(6)), [0, 2, 3, 5, 6], [1, 2, 4, 5], list(range(4))]
    small = perceptron(norm, tuple(len(units) for units in kept))
    bits = {}
    parts = {}  # of each tensor of the large network, what the small one has
    for depth, (name, weight) in enumerate(prunable(large).items()):
        rows, columns = torch.tensor(kept[depth + 1]), torch.tensor(kept[depth])
        bits[name] = torch.zeros_like(weight, dtype=torch.bool)
        bits[name][rows[:, None], columns] = True
        layer = name.partition(".")[0]
        for key in (key for key in large.state_dict() if key.startswith(f"{layer}.")):
            parts[key] = (columns,) if key.endswith("_v") else (rows[:, None], columns) if key == name else (rows,)
    small.load_state_dict({key: value[parts[key]] for key, value in large.state_dict().items()})
    settle(small)
    optimizer = make(large)
    with masked(large, Mask(bits), optimizer):
        train(large, optimizer)
    train(small, make(small))
    state = large.state_dict()
    for key, value in small.state_dict().items():
        torch.testing.assert_close(state[key][parts[key]], value, rtol=1e-9, atol=1e-11)
    weights = effective(large)
    for name, weight in effective(small).items():
        torch.testing.assert_close(weights[name][parts[name]], weight, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_a_row_or_layer_that_is_pruned_as_a_whole_stays_zero_without_nan(norm: str) -> None:
    torch.manual_seed(0)
    model = perceptron(norm)
    mask = random_mask(model)
    names = list(mask)
    bits = {name: mask[name] for name in names}
    bits[names[0]][2] = False
    bits[names[1]][:] = False
    optimizer = sgd(model)
    with masked(model, Mask(bits), optimizer):
        train(model, optimizer, 5)
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())  # type: ignore[arg-type]
    weights = effective(model)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    assert not weights[names[0]][2].any() and not weights[names[1]].any() and weights[names[2]].any()


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_a_normed_network_goes_on_from_its_state_dict_to_the_same_bytes(norm: str) -> None:
    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = perceptron(norm)
        return model, sgd(model)

    (model, optimizer), (other, resumed) = fresh(), fresh()
    train(model, optimizer, 3)
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # torch would share its tensors
    train(model, optimizer, 3)
    train(other, resumed, 3)
    state: dict[str, Tensor] = other.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
