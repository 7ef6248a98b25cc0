"""Models: the sizes of the literature, gradients everywhere, and what inputs they take."""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import nn

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import build_model, on_device, prunable
from lottery.pruning.amounts import layer_rate
from lottery.pruning.mask import Mask
from lottery.values import Component

KAIMING = Component("kaiming_normal")


def build(name: str, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0, **args: Any) -> nn.Module:
    return build_model(Component(name, args), shape, 10, init=KAIMING, seed=seed)


def resnet_weights(n: int) -> int:
    """Closed form: the stem, 3 stages of 2n convolutions 3x3, two 1x1 shortcuts, the output."""
    stages = 9 * (2 * n * 16**2 + 16 * 32 + (2 * n - 1) * 32**2 + 32 * 64 + (2 * n - 1) * 64**2)
    return 9 * 3 * 16 + stages + 16 * 32 + 32 * 64 + 640


def vgg_weights(*channels: int) -> int:
    return sum(9 * a * b for a, b in zip((3, *channels), channels, strict=False)) + 5120


@pytest.mark.parametrize(
    ("name", "shape", "weights"),
    [
        ("lenet", (1, 28, 28), 266_200),
        ("conv2", (3, 32, 32), 4_300_992),
        ("conv4", (3, 32, 32), 2_425_024),
        ("conv6", (3, 32, 32), 2_261_184),
        ("lenet5", (1, 28, 28), 25 * (6 + 6 * 16) + 16 * 4 * 4 * 120 + 120 * 84 + 840),
        ("resnet20", (3, 32, 32), resnet_weights(3)),
        ("resnet32", (3, 32, 32), resnet_weights(5)),
        ("resnet44", (3, 32, 32), resnet_weights(7)),
        ("resnet56", (3, 32, 32), resnet_weights(9)),
        ("resnet110", (3, 32, 32), resnet_weights(18)),
        ("vgg11", (3, 32, 32), vgg_weights(64, 128, *[256] * 2, *[512] * 4)),
        ("vgg13", (3, 32, 32), vgg_weights(*[64] * 2, *[128] * 2, *[256] * 2, *[512] * 4)),
        ("vgg16", (3, 32, 32), vgg_weights(*[64] * 2, *[128] * 2, *[256] * 3, *[512] * 6)),
        ("vgg19", (3, 32, 32), vgg_weights(*[64] * 2, *[128] * 2, *[256] * 4, *[512] * 8)),
        ("mlp", (40,), 40 * 500 + 500 * 500 + 5000),
        ("deep_linear", (40,), 40 * 100 + 1000),
        ("plain", (3, 32, 32), resnet_weights(3) - 16 * 32 - 32 * 64),
        ("highway", (40,), 40 * 50 + 9 * 2 * 50 * 50 + 500),
        ("fixup_resnet56", (3, 32, 32), resnet_weights(9) - 16 * 32 - 32 * 64),
    ],
)
def test_the_number_of_prunable_weights_is_that_of_the_papers(name: str, shape: tuple[int, ...], weights: int) -> None:
    assert sum(p.numel() for p in prunable(build(name, shape)).values()) == weights


@pytest.mark.parametrize(
    ("name", "args", "parameters"),
    [  # as counted in public implementations: with biases and normalization
        ("resnet20", {"shortcut": "pad"}, 269_722),
        ("resnet32", {"shortcut": "pad"}, 464_154),
        ("resnet44", {"shortcut": "pad"}, 658_586),
        ("resnet56", {"shortcut": "pad"}, 853_018),
        ("resnet110", {"shortcut": "pad"}, 1_727_962),
        ("resnet20", {}, 272_474),
        ("lenet5", {}, 62_006),
        ("vgg16", {}, 14_728_266 - 4_224),  # theirs has a bias in each convolution too
        ("plain", {"depth": 56}, 853_018),
        ("densenet", {}, 1_019_722),
        ("densenet", {"depth": 100}, 6_979_642),
        ("densenet", {"depth": 100, "bottleneck": True, "compression": 0.5}, 769_162),
        ("fixup_resnet20", {}, 269_722 - 2 * 688 + 9 * 5 + 2),  # scalars for the normalization of 688 channels
    ],
)
def test_all_parameters_together_are_those_of_public_implementations(
    name: str, args: dict[str, Any], parameters: int
) -> None:
    assert sum(p.numel() for p in build(name, **args).parameters()) == parameters


def small(entry_name: str) -> tuple[tuple[int, ...], dict[str, Any]]:
    """An input and keys that keep the model small."""
    shapes = {"lenet": (1, 8, 8), "mlp": (40,), "deep_linear": (40,), "highway": (40,), "torchvision": (3, 32, 32)}
    if entry_name == "timm":
        pytest.importorskip("timm", reason="needs the extra `timm`")
    args: dict[str, dict[str, Any]] = {
        "torchvision": {"arch": "resnet18"},
        "timm": {"arch": "resnet10t"},
        "resnet110": {"width": 2},
        "fixup_resnet110": {"width": 2},
        "densenet": {"depth": 10, "bottleneck": True, "compression": 0.5},
    }
    return shapes.get(entry_name, (3, 16, 16)), args.get(entry_name, {})


@pytest.mark.parametrize("name", [entry.name for entry in registry.models])
def test_every_weight_of_every_model_receives_a_gradient(name: str) -> None:
    shape, args = small(name)
    model = build(name, shape, **args)
    model(torch.randn(4, *shape)).square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert model(torch.randn(3, *shape)).shape == (3, 10)


@pytest.mark.parametrize("norm", [entry.name for entry in registry.normalizations])
@pytest.mark.parametrize(
    "name",
    [
        "lenet",
        "mlp",
        "conv2",
        "lenet5",
        "resnet20",
        "vgg11",
        "deep_linear",
        "highway",
        "plain",
        "densenet",
        "fixup_resnet20",
    ],
)
def test_every_normalization_fits_every_family_and_none_is_pruned(name: str, norm: str) -> None:
    shape, args = small(name)
    shape = (3, 32, 32) if name in ("vgg11", "lenet5") else shape
    model = build(name, shape, norm=norm, **args)
    model(torch.randn(4, *shape)).square().sum().backward()
    assert all("norm" not in layer and "after" not in layer for layer in prunable(model))


@pytest.mark.parametrize("name", ["lenet", "highway", "conv2", "lenet5", "vgg11", "plain", "resnet20", "densenet"])
def test_the_activation_of_a_recipe_is_the_only_one_in_the_network(name: str) -> None:
    shape, args = (3, 16, 16), small(name)[1]
    kinds = {type(m) for m in build(name, shape, activation="softplus", **args).modules()}
    assert nn.Softplus in kinds and nn.ReLU not in kinds


@pytest.mark.parametrize("activation", [entry.name for entry in registry.activations])
def test_every_activation_is_the_function_it_is_named_after(activation: str) -> None:
    closed = {
        "relu": lambda x: max(0.0, x),
        "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
        "tanh": math.tanh,
        "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
        "softplus": lambda x: math.log1p(math.exp(x)),
        "elu": lambda x: x if x > 0 else math.expm1(x),
        "silu": lambda x: x / (1 + math.exp(-x)),
        "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    }[activation]
    points = [-2.5, -0.3, 0.0, 0.7, 3.0]
    values = registry.activations[activation].make()(torch.tensor(points, dtype=torch.float64))
    assert values.tolist() == pytest.approx([closed(x) for x in points], abs=1e-12)


def test_the_residual_perceptron_is_that_of_mnist_1d() -> None:
    model = build("mlp", (40,), residual=True, widths=(30, 30))
    x = torch.randn(5, 40)
    w = model.state_dict()
    h = torch.relu(x @ w["fc1.weight"].T + w["fc1.bias"])
    h = h + torch.relu(h @ w["fc2.weight"].T + w["fc2.bias"])
    torch.testing.assert_close(model(x), h @ w["output.weight"].T + w["output.bias"])


def test_a_residual_block_whose_shape_stays_adds_its_input() -> None:
    model = build("resnet20", (3, 8, 8), shortcut="pad").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("blocks") and "norm2.weight" in name:
                parameter.zero_()  # every block is the identity now, but for subsampling and new zero channels
    x = torch.randn(2, 3, 8, 8)
    stem = torch.relu(model.norm(model.conv(x)))  # type: ignore[operator]
    expected = torch.cat([stem[:, :, ::4, ::4].mean((2, 3)), torch.zeros(2, 48)], 1)
    torch.testing.assert_close(model(x), expected @ model.output.weight.T + model.output.bias)  # type: ignore[union-attr, operator]


@torch.no_grad()
def perturbed(model: nn.Module) -> nn.Module:
    """The model with all parameters moved at random, in evaluation mode: no bias is zero, no multiplier one."""
    draws = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    return model.eval()


@torch.no_grad()
def test_a_deep_linear_network_is_the_product_of_its_matrices() -> None:
    model = build("deep_linear", (2, 4), depth=4, width=7)
    assert list(model.state_dict()) == ["fc1.weight", "fc2.weight", "fc3.weight", "output.weight"]
    first, second, third, last = (weight.double() for weight in model.parameters())
    outputs = model.double()(torch.eye(8, dtype=torch.float64).view(8, 2, 4))
    torch.testing.assert_close(outputs, (last @ third @ second @ first).T)


@torch.no_grad()
def test_a_plain_network_is_the_resnet_without_its_shortcuts() -> None:
    model, resnet = perturbed(build("plain", (3, 8, 8))), build("resnet20", (3, 8, 8), shortcut="pad").eval()
    resnet.load_state_dict(model.state_dict())
    x = images = torch.randn(2, 3, 8, 8)
    layers: Any = resnet
    x = torch.relu(layers.norm(layers.conv(x)))
    for block in layers.blocks:
        x = torch.relu(block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(x))))))
    torch.testing.assert_close(model(images), layers.output(x.mean((2, 3))))


@torch.no_grad()
def test_a_highway_layer_mixes_what_it_computes_and_what_it_carries() -> None:
    model = perturbed(build("highway", (5,), width=4, depth=3, gate_bias=-1.5, activation="tanh"))
    w, x = model.state_dict(), torch.randn(6, 5)
    h = torch.tanh(x @ w["fc1.weight"].T + w["fc1.bias"])
    for i in (2, 3):
        gate = 1 / (1 + torch.exp(1.5 - (h @ w[f"gate{i}.weight"].T + w[f"gate{i}.bias"])))
        h = gate * torch.tanh(h @ w[f"fc{i}.weight"].T + w[f"fc{i}.bias"]) + (1 - gate) * h
    torch.testing.assert_close(model(x), h @ w["output.weight"].T + w["output.bias"])


def test_a_highway_carries_at_first_whatever_the_init_makes_of_biases() -> None:
    gates = [name for name in prunable(build("highway", (5,))) if name.startswith("gate")]
    assert gates == [f"gate{i}.weight" for i in range(2, 11)]
    for entry in ("kaiming_normal", "naive", "orthogonal"):
        model = build_model(Component("highway", {"gate_bias": -20.0}), (5,), 3, init=Component(entry), seed=0)
        layers: Any = model
        x = torch.rand(4, 5)
        torch.testing.assert_close(model(x), layers.output(layers.after1(layers.fc1(x))))


@torch.no_grad()
@pytest.mark.parametrize("bottleneck", [False, True])
def test_a_dense_layer_sees_all_channels_before_it_and_adds_its_own(bottleneck: bool) -> None:
    model: Any = perturbed(build("densenet", (3, 8, 8), depth=10, growth=5, bottleneck=bottleneck, compression=0.5))
    first = 10 if bottleneck else 16
    x = torch.randn(2, first, 8, 8)
    layer = model.block1.layer1
    y = layer.conv1(torch.relu(layer.norm1(x)))
    if bottleneck:
        assert y.shape[1] == 20
        y = layer.conv2(torch.relu(layer.norm2(y)))
    torch.testing.assert_close(layer(x), torch.cat([x, y], 1))
    blocks = [model.block1, model.block2, model.block3]
    per_block = 1 if bottleneck else 2
    inputs = [block.layer1.norm1.num_features for block in blocks]
    expected = [first]
    for _ in range(2):
        expected.append((expected[-1] + 5 * per_block) // 2)  # half of what the block before gives
    assert ([len(block) for block in blocks], inputs) == ([per_block] * 3, expected)
    features = nn.Sequential(*list(model)[:-3])  # all but average, flatten and output
    assert features(torch.randn(1, 3, 8, 8)).shape == (1, expected[-1] + 5 * per_block, 2, 2)


@torch.no_grad()
def test_a_fixup_block_has_its_scalars_where_the_paper_puts_them() -> None:
    model: Any = perturbed(build("fixup_resnet20", (3, 8, 8)))
    conv = nn.functional.conv2d
    x = torch.relu(conv(images := torch.randn(2, 3, 8, 8), model.conv.weight, padding=1) + model.bias1)
    for i, block in enumerate(model.blocks):
        stride = 2 if i in (3, 6) else 1
        a, b = block.branch
        y = torch.relu(conv(x + block.bias1a, a.weight, stride=stride, padding=1) + block.bias1b)
        y = conv(y + block.bias2a, b.weight, padding=1) * block.scale + block.bias2b
        if stride == 2:
            kept = nn.functional.avg_pool2d(x + block.bias1a, 1, 2)
            x = torch.cat([kept, torch.zeros_like(kept)], 1)
        x = torch.relu(x + y)
    torch.testing.assert_close(model(images), model.output(x.mean((2, 3)) + model.bias2))


@torch.no_grad()
def test_under_the_fixup_init_every_block_starts_as_its_shortcut_and_outputs_are_zero() -> None:
    model: Any = build_model(Component("fixup_resnet32"), (3, 8, 8), 10, init=Component("fixup"), seed=0)
    x = torch.rand(2, 16, 8, 8)
    assert torch.equal(model.blocks[0](x), x)
    assert not model(torch.randn(2, 3, 8, 8)).any()
    assert {float(value) for name, value in model.named_parameters() if name.endswith("scale")} == {1.0}


SCALABLE = [entry.name for entry in registry.models if entry.name not in ("torchvision", "timm")]


def scaled(name: str, factor: float, **given: Any) -> dict[str, Any]:
    """The arguments of the model with its widths times the factor, as a recipe may give them."""
    entry = registry.models[name]
    assert entry.traits.scaled is not None
    args = entry.traits.scaled({**entry.defaults, **given}, factor)
    assert entry.check(args) == (args, [])
    return args


def size(name: str, args: dict[str, Any]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in registry.models[name].make((3, 32, 32), 10, **args).parameters())


@pytest.mark.parametrize("name", SCALABLE)
def test_every_model_but_those_of_other_libraries_becomes_smaller_with_the_factor(name: str) -> None:
    assert scaled(name, 1.0) == registry.models[name].defaults
    sizes = [size(name, scaled(name, factor)) for factor in (0.0, 0.25, 0.5, 1.0)]
    assert sizes == sorted(set(sizes)) and sizes[-1] == size(name, {})


def test_a_factor_scales_all_widths_alike() -> None:
    assert scaled("lenet", 0.1, widths=(300, 104, 3))["widths"] == (30, 10, 1)
    shapes = [tuple(p.shape[:2]) for p in prunable(build("conv4", **scaled("conv4", 0.25))).values()]
    assert shapes == [(16, 3), (16, 16), (32, 16), (32, 32), (64, 2048), (64, 64), (10, 64)]
    shapes = [tuple(p.shape[:2]) for p in prunable(build("vgg11", width=8)).values()]
    assert shapes == [(8, 3), (16, 8), (32, 16), (32, 32), (64, 32), (64, 64), (64, 64), (64, 64), (10, 64)]


def test_widths_are_any_and_layers_have_the_names_that_recipes_use() -> None:
    names = list(prunable(build("lenet", (1, 8, 8), widths=(7, 6, 5))))
    assert names == ["fc1.weight", "fc2.weight", "fc3.weight", "output.weight"]
    assert list(prunable(build("conv4"))) == [
        f"{n}.weight" for n in ("conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "output")
    ]


def test_the_last_layer_of_a_torchvision_model_is_its_output() -> None:
    names = list(prunable(build("torchvision", arch="resnet18")))
    assert layer_rate(names[-1], names, {"output": Fraction(0)}) == 0
    assert layer_rate(names[0], names, {"output": Fraction(0)}) == 1


@pytest.mark.parametrize("name", ["lenet", "mlp", "vgg11", "densenet"])
def test_dropout_acts_in_training_only_and_leaves_weights_and_names_alone(name: str) -> None:
    shape, _ = small(name)
    plain, dropped = build(name, shape), build(name, shape, dropout=0.5)
    weights, same = dropped.state_dict(), plain.state_dict()
    assert list(weights) == list(same) and all(torch.equal(weights[key], same[key]) for key in same)
    x = torch.randn(4, *shape)
    assert not torch.equal(dropped(x), dropped(x))
    assert torch.equal(dropped.eval()(x), build(name, shape).eval()(x)) or name in ("vgg11", "densenet")
    assert torch.equal(dropped(x), dropped(x))


def test_a_layer_replaced_from_outside_is_the_one_that_is_used() -> None:
    model = build("lenet", (4,), widths=(3,))
    model.fc1 = nn.Linear(4, 3)
    nn.init.constant_(model.fc1.weight, math.nan)
    assert bool(model(torch.ones(2, 4)).isnan().all())


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_convolution_has_a_bias_only_where_no_normalization_follows(norm: str) -> None:
    for name in ("conv2", "resnet20", "vgg11"):
        convolutions = [m for m in build(name, norm=norm).modules() if isinstance(m, nn.Conv2d)]
        assert {m.bias is not None for m in convolutions} == {norm == "none"}


def test_a_misspelt_normalization_or_activation_is_found_before_any_model_is_built() -> None:
    _, problems = registry.models.check(Component("resnet20", {"norm": "bach", "activation": "rellu"}))
    assert [(where, message.partition(" (")[0]) for where, message in problems] == [
        (("norm",), "no normalization 'bach'; did you mean 'batch'?"),
        (("activation",), "no activation 'rellu'; did you mean 'relu'?"),
    ]


def test_a_plain_network_has_the_depths_of_resnets() -> None:
    _, problems = registry.models.check(Component("plain", {"depth": 21}))
    assert problems == [(("depth",), "depth is 6n + 2: 8, 14, 20, 26, ..., not 21")]


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_classifiers_with_auxiliary_outputs_give_one_and_no_warning(
    arch: str, recwarn: pytest.WarningsRecorder
) -> None:
    model = build("torchvision", (3, 75, 75), arch=arch)
    assert not any("aux" in name.lower() for name in model.state_dict())
    assert model(torch.randn(2, 3, 75, 75)).shape == (2, 10)
    assert [str(w.message) for w in recwarn] == []


def test_a_torchvision_that_cannot_be_imported_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match="install the two together"):
        build("torchvision", arch="resnet18")


def test_an_init_that_leaves_a_weight_not_finite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.init, "xavier_normal_", lambda weight, generator: weight.data.fill_(math.inf))
    with pytest.raises(UsageError, match=r"init glorot_normal: fc1.weight of lenet is not finite"):
        build_model(Component("lenet"), (4,), 10, init=Component("glorot_normal"), seed=0)


def test_a_tied_weight_counts_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    assert list(prunable(model)) == ["0.weight"]


@pytest.mark.parametrize(
    ("name", "shape", "args", "message"),
    [
        ("conv2", (40,), {}, r"images of at least 2x2, the data has shape \(40,\)"),
        ("vgg11", (3, 8, 8), {}, "at least 16x16"),
        ("torchvision", (1, 28, 28), {"arch": "resnet18"}, "3 channels"),
        ("torchvision", (3, 32, 32), {"arch": "resnet81"}, "did you mean 'resnet18'"),
        ("torchvision", (3, 32, 32), {"arch": "alexnet"}, "alexnet does not take images of 32x32"),
        ("torchvision", (3, 32, 32), {"arch": "vit_b_32"}, "vit_b_32 does not take images of 32x32 .*Expected 224"),
        ("conv6", (3, 8, 7), {}, "at least 8x8"),
        ("resnet20", (3, 3, 8), {}, "at least 4x4"),
        ("resnet20", (3, 4, 4), {"norm": "instance"}, "at least 8x8"),
        ("vgg11", (3, 16, 16), {"norm": "instance"}, "at least 32x32"),
        ("mlp", (40,), {"residual": True, "widths": (3, 4)}, "one width"),
        ("plain", (3, 3, 3), {}, "at least 4x4"),
        ("fixup_resnet20", (40,), {}, "images of at least 4x4"),
        ("densenet", (3, 8, 3), {}, "at least 4x4"),
        ("densenet", (3, 8, 8), {"depth": 41}, r"depth 3n \+ 4: 7, 10, 13, ..., not 41"),
        ("densenet", (3, 8, 8), {"depth": 7, "bottleneck": True}, r"6n \+ 4 with bottleneck: 10, 16, 22, ..., not 7"),
    ],
)
def test_what_a_model_cannot_take_is_said(
    name: str, shape: tuple[int, ...], args: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        build(name, shape, **args)


def test_a_seed_fixes_every_byte_and_nothing_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, again, other = build("resnet20", seed=1), build("resnet20", seed=1), build("resnet20", seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.conv.weight, other.conv.weight)  # type: ignore[union-attr, arg-type]


def test_a_mask_fits_every_model() -> None:
    mask = Mask.dense(prunable(build("conv2", (3, 8, 8))))
    assert mask.density == 1


@pytest.mark.parametrize(
    ("name", "args"),
    [("lenet", {"norm": "spectral"}), ("resnet20", {"width": 2}), ("torchvision", {"arch": "squeezenet1_1"})],
)
def test_a_network_without_values_is_the_same_network_once_it_has_a_state(name: str, args: dict[str, Any]) -> None:
    if name == "torchvision":
        pytest.importorskip("torchvision", exc_type=ImportError)
    whole, x = build(name, **args).eval(), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    whole.get_parameter(next(iter(prunable(whole)))).requires_grad_(False)
    hollow = on_device(whole, "meta")
    assert all(value.is_meta for value in hollow.state_dict().values())
    copy = on_device(hollow, "cpu")
    copy.load_state_dict(whole.state_dict())
    assert copy(x).equal(whole(x))
    found, expected = ({n: p.requires_grad for n, p in m.named_parameters()} for m in (copy, whole))
    assert found == expected and not all(expected.values())


def test_weights_that_are_tied_stay_so_in_a_network_without_values() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    copy: Any = on_device(on_device(tied, "meta"), "cpu")
    assert copy[1].weight is copy[0].weight and list(prunable(copy)) == ["0.weight"]
