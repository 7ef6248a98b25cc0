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
from lottery.build import build_model, prunable
from lottery.errors import UsageError
from lottery.mask import Mask
from lottery.spec import Component
from lottery.trunk import layer_rate

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
        ("vgg16", {}, 14_728_266 - 4_224),  # theirs has a bias in each convolution too
    ],
)
def test_all_parameters_together_are_those_of_public_implementations(
    name: str, args: dict[str, Any], parameters: int
) -> None:
    assert sum(p.numel() for p in build(name, **args).parameters()) == parameters


def small(entry_name: str) -> tuple[tuple[int, ...], dict[str, Any]]:
    """An input and keys that keep the model small."""
    shapes = {"lenet": (1, 8, 8), "mlp": (40,), "torchvision": (3, 32, 32)}
    args = {"torchvision": {"arch": "resnet18"}, "resnet110": {"width": 2}}
    return shapes.get(entry_name, (3, 16, 16)), args.get(entry_name, {})


@pytest.mark.parametrize("name", [entry.name for entry in registry.models])
def test_every_weight_of_every_model_receives_a_gradient(name: str) -> None:
    shape, args = small(name)
    model = build(name, shape, **args)
    model(torch.randn(4, *shape)).square().sum().backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert model(torch.randn(3, *shape)).shape == (3, 10)


@pytest.mark.parametrize("norm", [entry.name for entry in registry.normalizations])
@pytest.mark.parametrize("name", ["lenet", "mlp", "conv2", "resnet20", "vgg11"])
def test_every_normalization_fits_every_family_and_none_is_pruned(name: str, norm: str) -> None:
    shape, args = small(name)
    shape = (3, 32, 32) if name == "vgg11" else shape
    model = build(name, shape, norm=norm, **args)
    model(torch.randn(4, *shape)).square().sum().backward()
    assert all("norm" not in layer and "after" not in layer for layer in prunable(model))


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


@pytest.mark.parametrize("name", ["lenet", "mlp", "vgg11"])
def test_dropout_acts_in_training_only_and_leaves_weights_and_names_alone(name: str) -> None:
    shape, _ = small(name)
    plain, dropped = build(name, shape), build(name, shape, dropout=0.5)
    weights, same = dropped.state_dict(), plain.state_dict()
    assert list(weights) == list(same) and all(torch.equal(weights[key], same[key]) for key in same)
    x = torch.randn(4, *shape)
    assert not torch.equal(dropped(x), dropped(x))
    assert torch.equal(dropped.eval()(x), build(name, shape).eval()(x)) or name == "vgg11"
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
