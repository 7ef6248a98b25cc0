"""Classifiers of timm: made for the data at hand, pruned where a zero is a zero, refused where it is not."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

import pytest
import torch
from torch import nn

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import build_model, check_layers, prunable
from lottery.network.plain_weights import changed_weights
from lottery.network.suitability import check_plain
from lottery.values import Component

timm = pytest.importorskip("timm", reason="needs the extra `timm`")


def build(arch: str, shape: tuple[int, ...] = (3, 32, 32)) -> nn.Module:
    return build_model(Component("timm", {"arch": arch}), shape, 10, init=Component("torch"), seed=0)


@pytest.mark.parametrize(("arch", "shape"), [("resnet10t", (1, 28, 28)), ("test_vit", (3, 32, 32))])
def test_every_matrix_and_convolution_of_a_classifier_is_pruned_and_nothing_else(
    arch: str, shape: tuple[int, ...]
) -> None:
    model = build(arch, shape)
    check_plain("timm", model)
    layers = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    assert set(prunable(model)) == layers
    assert model(torch.randn(2, *shape)).shape == (2, 10)


def test_what_is_zero_in_the_weights_is_zero_in_what_the_network_computes() -> None:
    """A convolution with padding of its own reads its weight as it is; one that standardizes it does not."""
    plain, standardized = timm.layers.Conv2dSame(4, 6, 3, stride=2), timm.layers.ScaledStdConv2d(4, 6, 3)
    for layer, changed in ((plain, False), (standardized, True), (timm.layers.StdConv2d(4, 6, 3), True)):
        assert [name for name, _ in changed_weights(nn.Sequential(layer))] == ["0"] * changed
    alive = torch.zeros_like(standardized.weight, dtype=torch.bool)
    alive[:, 0] = True
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    for layer, reads in ((plain, False), (standardized, True)):
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape) * alive)
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
        assert bool(gradient[:, 1:].any()) is reads  # of inputs whose weights are all pruned


REFUSED = {
    ("test_nfnet", (3, 32, 32)): r"model: timm changes the weight of stem.conv1 \(ScaledStdConv2d\) and [0-9]+ more",
    ("resnet10x", (3, 32, 32)): "timm has no classifier 'resnet10x'; did you mean",
    ("resnet18.a1_in1k", (3, 32, 32)): "trained weights, which are not loaded: write resnet18",
    ("hf_hub:timm/resnet18", (3, 32, 32)): "timm has no classifier 'hf_hub:timm/resnet18'",
    ("resnet10t", (40,)): "takes images, the data has shape \\(40,\\)",
    ("test_vit", (3, 8, 8)): "test_vit does not take images of 8x8",
}


@pytest.mark.parametrize("given", REFUSED, ids=[arch for arch, _ in REFUSED])
def test_what_cannot_be_made_or_pruned_is_refused_in_a_line(given: tuple[str, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match=REFUSED[given]):
        check_plain("timm", build(*given))


def test_without_timm_the_way_to_install_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match='pip install "lottery\\[timm\\]"'):
        build("resnet10t")


def test_no_other_layer_of_the_catalogue_is_taken_for_one_that_changes_its_weight() -> None:
    models: dict[str, dict[str, Any]] = {"lenet": {"norm": "spectral"}, "resnet20": {"width": 2}}
    for name, args in {**models, "torchvision": {"arch": "shufflenet_v2_x0_5"}}.items():
        model = registry.models[name].make((3, 32, 32), 10, **args)
        assert list(changed_weights(model)) == []


def test_a_layer_without_a_weight_of_its_own_is_refused() -> None:
    layer: Any = nn.Linear(3, 2)
    del layer.weight
    layer.weight = torch.ones(2, 3)
    with pytest.raises(UsageError, match=r"model net: its layer 0 \(Linear\) has no weight of its own"):
        check_layers("net", nn.Sequential(layer))


def test_another_version_of_timm_gives_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for version in ("1.0.31", "1.0.31", "1.0.32.dev0", "2"):
        monkeypatch.setattr(metadata, "version", lambda name, version=version: version)
        found.append(registry.models.identity(Component("timm", {"arch": "resnet10t"}))["version"])
    assert found == [1_000_031, 1_000_031, 1_000_032, 2_000_000]
