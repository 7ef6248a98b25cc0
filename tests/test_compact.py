"""A compacted network computes what the masked one does, with no unit more than that takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from lottery.build import build_model, prunable
from lottery.compact import compact, load_compact, speed_up, written
from lottery.errors import LotteryError, UsageError
from lottery.exports import plain_state, prune_form
from lottery.mask import Mask
from lottery.spec import Component
from lottery.tensors import decode

SMALL = {
    "lenet": (Component("lenet", {"widths": [12, 9]}), (1, 4, 4)),
    "batch normalized": (Component("lenet", {"widths": [12, 9], "norm": "batch"}), (16,)),
    "tanh": (Component("lenet", {"widths": [12, 9], "activation": "tanh"}), (16,)),
    "residual mlp": (Component("mlp", {"widths": [8, 8, 8], "residual": True}), (16,)),
    "conv2": (Component("conv2"), (1, 8, 8)),
    "resnet": (Component("resnet20"), (3, 8, 8)),
    "vgg": (Component("vgg11"), (3, 32, 32)),
}


def network(name: str, seed: int = 0) -> tuple[nn.Module, Component, tuple[int, ...]]:
    """In float64, with biases and running statistics that are not those of initialization."""
    component, shape = SMALL[name]
    model = build_model(component, shape, 10, init=Component("torch"), seed=seed).double()
    draws = torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dim() == 1:
            noise = torch.rand(value.shape, generator=draws, dtype=torch.float64)
            value.copy_(noise + 0.5 if key.endswith("var") else noise - 0.5)
    return model.eval(), component, shape


def random_mask(model: nn.Module, density: float, seed: int = 0) -> Mask:
    draws = torch.Generator().manual_seed(seed)
    return Mask({name: torch.rand(w.shape, generator=draws) < density for name, w in prunable(model).items()})


def masked(model: nn.Module, mask: Mask) -> nn.Module:
    model.load_state_dict(mask.apply(model.state_dict()))
    return model


def inputs(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_layer(layers: list[tuple[str, int, int]]) -> Mapping[str, int]:
    return {path: after for path, _, after in layers}


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02, 0.0])
@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_those_of_the_masked_network(name: str, density: float) -> None:
    model, _, shape = network(name)
    mask = random_mask(model, density)
    found = compact(model, mask, shape)
    x = inputs(shape)
    expected = masked(model, mask)(x)
    assert torch.allclose(found.model(x), expected, rtol=1e-9, atol=1e-11)
    assert found.parameters[1] == sum(p.numel() for p in found.model.parameters()) <= found.parameters[0]


def test_the_model_that_is_given_stays_as_it_was() -> None:
    model, _, shape = network("lenet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compact(model, random_mask(model, 0.05), shape)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", range(8))
def test_of_a_perceptron_just_the_units_between_input_and_output_remain(seed: int) -> None:
    model, _, shape = network("lenet", seed)
    mask = random_mask(model, 0.1, seed)
    one, two, three = (mask[name].numpy() for name in mask)
    receives_1 = one.any(1)
    receives_2 = (two & receives_1).any(1)
    reaches_2 = three.any(0)
    reaches_1 = (two & reaches_2[:, None]).any(0)
    expected = {"fc1": int((receives_1 & reaches_1).sum()), "fc2": int((receives_2 & reaches_2).sum()), "output": 10}
    found = compact(model, mask, shape)
    assert by_layer(found.layers) == {name: max(1, count) for name, count in expected.items()}


def test_a_unit_without_inputs_moves_into_the_biases_behind_it() -> None:
    model, _, shape = network("lenet")
    mask = Mask.dense(prunable(model))
    bits = {name: mask[name] for name in mask}
    bits["fc1.weight"][3] = False
    found = compact(model, Mask(bits), shape)
    assert by_layer(found.layers) == {"fc1": 11, "fc2": 9, "output": 10}
    x = inputs(shape)
    assert torch.allclose(found.model(x), masked(model, Mask(bits))(x), rtol=1e-9, atol=1e-11)


def test_before_a_padded_convolution_a_constant_other_than_zero_stays() -> None:
    model, _, shape = network("conv2")
    bits = dict(Mask.dense(prunable(model)))
    bits["conv1.weight"][:2] = False
    bias = dict(model.named_parameters())["conv1.bias"]
    with torch.no_grad():
        bias[0], bias[1] = 0.7, -0.7  # after the rectifier: 0.7 everywhere but at the border, and 0
    found = compact(model, Mask(bits), shape)
    assert by_layer(found.layers)["conv1"] == len(bias) - 1
    x = inputs(shape)
    assert torch.allclose(found.model(x), masked(model, Mask(bits))(x), rtol=1e-9, atol=1e-11)


def test_in_a_residual_network_only_channels_inside_the_blocks_are_removed() -> None:
    model, _, shape = network("resnet")
    found = compact(model, random_mask(model, 0.01), shape)
    removed = {path for path, before, after in found.layers if after < before}
    assert removed and all(path.endswith("conv1") for path in removed)


def test_a_network_that_cannot_be_followed_is_refused_in_one_line() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(x)
            return out if out.sum() > 0 else -out

    with pytest.raises(UsageError, match=r"^Strange: torch.fx cannot follow its code: .*; export another form$"):
        compact(Strange(), Mask({"fc.weight": torch.ones(2, 4, dtype=torch.bool)}), (4,))


@pytest.mark.parametrize("name", ["lenet", "batch normalized", "conv2", "resnet"])
def test_a_file_gives_the_compact_network_back(name: str, tmp_path: Path) -> None:
    model, component, shape = network(name)
    model = model.float()
    found = compact(model, random_mask(model, 0.03), shape)
    (tmp_path / "net").write_bytes(written(found.model, component, shape, 10))
    x = inputs(shape).float()
    read = load_compact(tmp_path / "net")
    assert all(torch.equal(value, found.model.state_dict()[key]) for key, value in read.state_dict().items())
    assert torch.allclose(read(x), found.model(x), rtol=1e-5, atol=1e-6)


def test_what_is_no_compact_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        load_compact(tmp_path / "net")
    (tmp_path / "net").write_bytes(b"no tensors")
    with pytest.raises(LotteryError):
        load_compact(tmp_path / "net")


def test_a_network_of_a_tenth_of_the_units_is_faster() -> None:
    model = build_model(Component("lenet", {"widths": [1000, 1000]}), (784,), 10, init=Component("torch"), seed=0)
    bits = dict(Mask.dense(prunable(model)))
    bits["fc1.weight"][100:] = False
    bits["fc2.weight"][100:] = False
    found = compact(model, Mask(bits), (784,))
    assert by_layer(found.layers) == {"fc1": 100, "fc2": 100, "output": 10}
    assert speed_up(model, found.model, (784,), turns=7).ratio > 2


def test_the_plain_form_has_zeros_and_loads_into_the_model() -> None:
    model, _, shape = network("conv2")
    mask = random_mask(model, 0.3)
    state = plain_state(model, mask)
    assert all(np.array_equal(state[name].numpy() != 0, mask[name].numpy()) for name in mask)
    fresh, _, _ = network("conv2", seed=1)
    fresh.load_state_dict(state)
    assert torch.equal(fresh(inputs(shape)), masked(model, mask)(inputs(shape)))


def test_the_form_of_torch_prune_computes_the_same_and_can_be_made_permanent() -> None:
    model, _, shape = network("conv2")
    mask = random_mask(model, 0.3)
    held = prune_form(model, mask)
    assert prune.is_pruned(held) and not prune.is_pruned(model)  # type: ignore[no-untyped-call]
    expected = plain_state(model, mask)
    assert torch.equal(held(inputs(shape)), masked(model, mask)(inputs(shape)))
    for name in mask:
        prune.remove(held.get_submodule(name.removesuffix(".weight")), "weight")  # type: ignore[no-untyped-call]
    assert all(torch.equal(value, expected[name]) for name, value in held.state_dict().items())


def test_a_compact_file_holds_tensors_and_names_its_model(tmp_path: Path) -> None:
    model, component, shape = network("lenet")
    _, head = decode(written(compact(model, random_mask(model, 0.1), shape).model, component, shape, 10))
    assert head["format"] == "lottery compact network" and '"lenet"' in head["about"]
