"""A compacted network computes what the masked one does, with no unit more than that takes."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery.errors import DamagedFile, LotteryError, UsageError
from lottery.files.tensors import decode, encode
from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.masking import masked
from lottery.pruning.scoring import Context
from lottery.registry import criteria
from lottery.structure.compact import Compacted, compact
from lottery.structure.compact_file import compact_bytes, load_compact
from lottery.structure.speed import speed_up
from lottery.values import Component

SMALL = {
    "lenet": (Component("lenet", {"widths": [12, 9]}), (1, 4, 4)),
    "batch normalized": (Component("lenet", {"widths": [12, 9], "norm": "batch"}), (16,)),
    "layer normalized": (Component("lenet", {"widths": [12, 9], "norm": "layer"}), (16,)),
    "spectral": (Component("lenet", {"widths": [12, 9], "norm": "spectral"}), (16,)),
    "weight normalized": (Component("lenet", {"widths": [12, 9], "norm": "weight"}), (16,)),
    "tanh": (Component("lenet", {"widths": [12, 9], "activation": "tanh"}), (16,)),
    "residual mlp": (Component("mlp", {"widths": [8, 8, 8], "residual": True}), (16,)),
    "deep linear": (Component("deep_linear", {"width": 8, "depth": 4, "norm": "batch"}), (16,)),
    "highway": (Component("highway", {"width": 8, "depth": 3}), (16,)),
    "conv2": (Component("conv2", {"width": 6, "hidden": 8}), (1, 6, 6)),
    "conv4": (Component("conv4", {"width": 5, "hidden": 8, "activation": "sigmoid"}), (1, 8, 8)),
    "conv6": (Component("conv6", {"width": 4, "hidden": 8, "norm": "batch"}), (1, 8, 8)),
    "vgg": (Component("vgg11", {"width": 4}), (3, 16, 16)),
    "resnet": (Component("resnet20", {"width": 4}), (3, 8, 8)),
    "plain": (Component("plain", {"width": 4, "depth": 8}), (3, 8, 8)),
    "fixup": (Component("fixup_resnet20", {"width": 3}), (3, 8, 8)),
    "densenet": (Component("densenet", {"depth": 10, "growth": 3, "bottleneck": True}), (3, 8, 8)),
}
Bits = dict[str, Tensor]


def network(name: str, seed: int = 0) -> tuple[nn.Module, Component, tuple[int, ...]]:
    """In float64, with biases and running statistics that are not those of initialization."""
    component, shape = SMALL[name]
    model = build_model(component, shape, 5, init=Component("torch"), seed=seed).double()
    return drawn_biases(model, seed), component, shape


def drawn_biases(model: nn.Module, seed: int = 0) -> nn.Module:
    draws = torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.dim() == 1 and "parametrizations" not in key:
            noise = torch.rand(value.shape, generator=draws, dtype=torch.float64)
            value.copy_(noise + 0.5 if key.endswith("var") else noise - 0.5)
    return model.eval()


def random_mask(model: nn.Module, density: float, seed: int = 0) -> Mask:
    draws = torch.Generator().manual_seed(seed)
    return Mask({name: torch.rand(w.shape, generator=draws) < density for name, w in prunable(model).items()})


def zeroed(model: nn.Module, mask: Mask) -> nn.Module:
    model.load_state_dict(mask.apply(model.state_dict()))
    return model


def inputs(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def negative_biases(model: nn.Module) -> None:
    """So that the rectifier makes each constant 0."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.detach().abs_().neg_()


def after(found: Compacted) -> dict[str, int]:
    return {row.layer: row.after for row in found.rows}


def check_outputs(model: nn.Module, mask: Mask, shape: tuple[int, ...], found: Compacted) -> None:
    with torch.no_grad():
        given, expected = found.model(inputs(shape)), zeroed(model, mask)(inputs(shape))
    assert torch.allclose(given, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("density", [0.5, 0.15, 0.05, 0.02, 0.0])
@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_those_of_the_masked_network(name: str, density: float) -> None:
    model, _, shape = network(name)
    mask = random_mask(model, density)
    found = compact(model, mask, shape)
    check_outputs(model, mask, shape, found)
    assert found.parameters[1] == sum(p.numel() for p in found.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", SMALL)
def test_outputs_are_those_of_the_masked_network_for_many_masks(name: str, seed: int) -> None:
    model, _, shape = network(name, seed)
    draws = torch.Generator().manual_seed(seed)
    bits = {}
    for layer, weight in prunable(model).items():  # each layer has a density of its own, whole units are missing
        density = float(torch.rand(1, generator=draws)) ** 2
        bits[layer] = torch.rand(weight.shape, generator=draws) < density
        bits[layer][torch.rand(len(weight), generator=draws) < 0.2] = False
        bits[layer][:, torch.rand(weight.shape[1], generator=draws) < 0.2] = False
    check_outputs(model, Mask(bits), shape, compact(model, Mask(bits), shape))


@pytest.mark.parametrize("name", ["lenet", "batch normalized", "conv2", "vgg", "plain"])
def test_a_layer_without_any_weight_leaves_the_outputs_that_biases_make(name: str) -> None:
    model, _, shape = network(name)
    for layer in list(prunable(model)):
        bits = dict(random_mask(model, 0.5))
        bits[layer][:] = False
        model, _, _ = network(name)
        check_outputs(model, Mask(bits), shape, compact(model, Mask(bits), shape))


@pytest.mark.parametrize("name", ["lenet", "conv2", "vgg", "resnet"])
def test_in_float32_the_outputs_differ_by_rounding_only(name: str) -> None:
    model, _, shape = network(name)
    mask = random_mask(model, 0.2)
    exact = zeroed(model, mask)(inputs(shape))
    found = compact(model.float(), mask, shape)
    assert next(found.model.parameters()).dtype == torch.float32
    assert torch.allclose(found.model(inputs(shape).float()).double(), exact, rtol=1e-4, atol=1e-5)


def test_running_statistics_of_a_training_under_the_mask_are_kept() -> None:
    model, _, shape = network("vgg")
    mask = random_mask(model, 0.05)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with masked(model.train(), mask, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs(shape)), torch.arange(6) % 5).backward()
            optimizer.step()
    found = compact(model, mask, shape)
    check_outputs(model.eval(), mask, shape, found)
    assert found.parameters[1] < found.parameters[0] / 2


def test_the_model_that_is_given_stays_as_it_was() -> None:
    model, _, shape = network("spectral")
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compact(model, random_mask(model, 0.05), shape)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("seed", range(8))
def test_of_a_perceptron_just_the_units_between_input_and_output_remain(seed: int) -> None:
    model, _, shape = network("lenet", seed)
    mask = random_mask(model, 0.03 * (seed + 1), seed)
    one, two, three = list[Any](mask[name].numpy() for name in mask)
    receives_1 = one.any(1)
    receives_2 = (two & receives_1).any(1)
    reaches_2 = three.any(0)
    reaches_1 = (two & reaches_2[:, None]).any(0)
    expected = {"fc1": int((receives_1 & reaches_1).sum()), "fc2": int((receives_2 & reaches_2).sum()), "output": 5}
    assert after(compact(model, mask, shape)) == {name: max(1, count) for name, count in expected.items()}


def working(model: nn.Module, mask: Mask, shape: tuple[int, ...]) -> dict[str, list[bool]]:
    """Which units of each layer matter: found by doubling each where it depends on the input, and looking.

    Weights and inputs are positive, biases 0, activations and normalizations left out: nothing cancels."""
    with torch.no_grad():
        for path, module in list(model.named_modules()):
            if isinstance(module, (nn.ReLU, nn.Sigmoid, nn.Tanh, nn.BatchNorm1d, nn.BatchNorm2d)):
                model.set_submodule(path, nn.Identity())
        for name, parameter in model.named_parameters():
            draws = torch.Generator().manual_seed(len(name))
            values = torch.rand(parameter.shape, generator=draws) + 0.5
            parameter.copy_(values if name in mask else torch.zeros_like(values))
        zeroed(model, mask)
        x = torch.ones(1, *shape, dtype=torch.float64)
        plain, found = model(x), dict[str, list[bool]]()
        for path in (name.removesuffix(".weight") for name in mask):
            layer, found[path] = model.get_submodule(path), []
            for unit in range(len(layer.weight)):  # type: ignore[arg-type]

                def push(layer: nn.Module, inputs: tuple[Tensor], output: Tensor, unit: int = unit) -> Tensor:
                    pushed = output.clone()
                    pushed[:, unit] *= 2
                    return pushed

                handle = layer.register_forward_hook(push)
                found[path].append(not torch.equal(model(x), plain))
                handle.remove()
        return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["lenet", "conv2", "conv4", "vgg"])
def test_as_many_units_remain_as_matter_when_each_is_tried(name: str, seed: int) -> None:
    model, _, shape = network(name, seed)
    mask = random_mask(model, (0.03, 0.08, 0.2)[seed], seed)
    rows = compact(model, mask, shape).rows
    expected = {path: sum(units) for path, units in working(model, mask, shape).items()}
    for i, row in enumerate(rows[:-1]):
        assert row.after - row.dead == expected[row.layer]
        if row.kind == rows[i + 1].kind == "conv":  # constants may stay for the sake of the border
            continue
        assert row.after == max(1, expected[row.layer])
    assert rows[-1].after == rows[-1].before and rows[-1].dead == 5 - expected["output"]


@pytest.mark.parametrize("seed", range(4))
def test_without_constants_other_than_zero_no_dead_channel_remains(seed: int) -> None:
    model, _, shape = network("conv2", seed)
    negative_biases(model)
    mask = random_mask(model, 0.04 * (seed + 1), seed)
    found = compact(model, mask, shape)
    expected = working(model, mask, shape)
    assert after(found) == {path: max(1, sum(units)) if path != "output" else 5 for path, units in expected.items()}


def test_a_unit_without_inputs_moves_into_the_biases_behind_it() -> None:
    model, _, shape = network("lenet")
    bits = dict(Mask.dense(prunable(model)))
    bits["fc1.weight"][3] = False
    parameters = dict(model.named_parameters())
    constant = parameters["fc1.bias"][3].detach().fill_(0.4).clone()
    expected = parameters["fc2.bias"] + constant * parameters["fc2.weight"][:, 3]
    found = compact(model, Mask(bits), shape)
    assert after(found) == {"fc1": 11, "fc2": 9, "output": 5}
    assert torch.allclose(dict(found.model.named_parameters())["fc2.bias"], expected, rtol=1e-12)


def two_constants(padding: int) -> tuple[nn.Sequential, Bits]:
    """Channels 0 and 1 of four receive nothing and give 0.7 and 0.2 at all positions, to a convolution."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=padding))
        model = model.append(nn.Flatten()).append(nn.Linear(3 * (3 + 2 * padding) ** 2, 2)).double()
    bits = dict(Mask.dense(prunable(model)))
    bits["0.weight"][:2] = False
    bias = model[0].bias
    assert isinstance(bias, Tensor)
    bias.detach()[:2] = torch.tensor([0.7, 0.2])
    return model, bits


def test_before_a_padded_convolution_one_constant_stays_for_all() -> None:
    model, bits = two_constants(padding=1)
    found = compact(model, Mask(bits), (1, 5, 5))
    assert [(row.after, row.dead) for row in found.rows] == [(3, 1), (3, 0), (2, 0)]
    check_outputs(model, Mask(bits), (1, 5, 5), found)


def test_before_a_padded_convolution_biases_cannot_stand_for_a_constant() -> None:
    model, bits = two_constants(padding=1)
    expected = zeroed(model, Mask(bits))(inputs((1, 5, 5)))
    layer = model[2]
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    with torch.no_grad():
        layer.bias += (layer.weight[:, :2].sum((2, 3)) * torch.tensor([0.7, 0.2])).sum(1)
        layer.weight[:, :2] = 0
    assert (model(inputs((1, 5, 5))) - expected).abs().max() > 1e-3


def test_before_a_convolution_without_padding_constants_move_into_the_biases() -> None:
    model, bits = two_constants(padding=0)
    found = compact(model, Mask(bits), (1, 5, 5))
    assert [(row.after, row.dead) for row in found.rows] == [(2, 0), (3, 0), (2, 0)]
    check_outputs(model, Mask(bits), (1, 5, 5), found)


def test_kernels_that_see_no_border_let_constants_go_in_spite_of_padding() -> None:
    model, bits = two_constants(padding=1)
    centre = torch.zeros(3, 3, dtype=torch.bool)
    centre[1, 1] = True
    bits["2.weight"][:, :2] = centre
    found = compact(model, Mask(bits), (1, 5, 5))
    assert [(row.after, row.dead) for row in found.rows] == [(2, 0), (3, 0), (2, 0)]
    check_outputs(model, Mask(bits), (1, 5, 5), found)


def test_where_a_map_is_one_pixel_the_border_of_a_kernel_reads_nothing() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4, 2))
    model = model.double()
    bits = dict(Mask.dense(prunable(model)))
    bits["2.weight"][:, 1, 1, 1] = False  # of channel 1, all but the pixel that is there
    found = compact(model, Mask(bits), (2, 1, 1))
    assert after(found) == {"0": 2, "2": 4, "4": 2}
    check_outputs(model, Mask(bits), (2, 1, 1), found)


@pytest.mark.parametrize("seed", range(4))
def test_the_stream_of_a_residual_perceptron_loses_what_is_dead_in_all_that_is_added(seed: int) -> None:
    model, _, shape = network("residual mlp", seed)
    mask = random_mask(model, 0.04 * (seed + 1), seed)
    rows = compact(model, mask, shape).rows[:3]
    units = working(model, mask, shape)
    stream = max(1, sum(map(any, zip(units["fc1"], units["fc2"], units["fc3"], strict=True))))
    assert [row.after for row in rows] == [stream] * 3
    assert [row.after - row.dead for row in rows] == [sum(units[row.layer]) for row in rows]


def test_in_a_residual_network_channels_go_inside_the_blocks_and_alike_along_the_stream() -> None:
    model, _, shape = network("resnet")
    for name, value in model.state_dict().items():  # what receives nothing is -mean / std + bias < 0, rectified
        if name.endswith(("bias", "running_mean")):
            value.abs_()
            value.mul_(-1 if name.endswith("bias") else 1)
    mask = random_mask(model, 0.02)
    widths = after(compact(model, mask, shape))
    units = working(model, mask, shape)
    for path in widths:
        if path.endswith("conv1"):
            assert widths[path] == max(1, sum(units[path]))
    for stage, first in enumerate(("conv", "blocks.3.shortcut.conv", "blocks.6.shortcut.conv")):
        writers = [first, *(f"blocks.{3 * stage + i}.conv2" for i in range(3))]
        assert len({widths[path] for path in writers}) == 1
        assert widths[first] >= sum(map(any, zip(*(units[path] for path in writers), strict=True)))
    assert sum(widths.values()) < sum(map(len, units.values())) / 2


@pytest.mark.parametrize(
    ("component", "pruned"),
    [
        (Component("vgg11", {"width": 4}), "conv*"),
        (Component("resnet20", {"width": 8}), "blocks.*.conv1.weight"),
        (Component("resnet20", {"width": 8, "shortcut": "pad"}), "blocks.*.conv1.weight"),
    ],
)
def test_filters_that_are_pruned_whole_leave_half_the_channels_and_one_for_their_constants(
    component: Component, pruned: str
) -> None:
    shape = (3, 16, 16)
    model = drawn_biases(build_model(component, shape, 5, init=Component("torch"), seed=0).double())
    weights = {name: weight.detach() for name, weight in prunable(model).items()}
    chosen = {name: weight for name, weight in weights.items() if fnmatch(name, pruned)}
    scores = criteria["filter_norm"].make(chosen, Context(torch.Generator()))
    half = {name: weight.numel() // 2 for name, weight in chosen.items()}
    mask = keep_top(scores, Mask.dense(weights), half)
    found = compact(model, mask, shape)
    widths = {row.layer: (row.before, row.after) for row in found.rows if f"{row.layer}.weight" in chosen}
    assert len(widths) == len(chosen)
    assert all(now in (before // 2, before // 2 + 1) for before, now in widths.values()), widths
    x = inputs(shape)
    torch.testing.assert_close(found.model(x), zeroed(model, mask)(x), rtol=0, atol=1e-9)


def test_where_units_are_normalized_together_dead_ones_stay_and_are_told() -> None:
    model, _, shape = network("layer normalized")
    bits = dict(Mask.dense(prunable(model)))
    bits["fc1.weight"][:4] = False
    found = compact(model, Mask(bits), shape)
    assert found.rows[0] == ("fc1", "linear", 12, 12, 4)


def test_a_weight_that_two_layers_share_is_pruned_in_both() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    model[2].weight = model[0].weight
    bits = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in prunable(model).items()}
    assert list(bits) == ["0.weight", "4.weight"]
    bits["0.weight"][1] = False
    found = compact(model, Mask(bits), (4,))
    with torch.no_grad():
        model[0].weight[1] = 0
    assert torch.allclose(found.model(inputs((4,))), model(inputs((4,))), rtol=1e-12)
    assert after(found)["0"] == 3


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


def test_a_network_that_would_come_out_wrong_is_refused() -> None:
    model, _, shape = network("lenet")
    model.get_submodule("after1").register_forward_hook(lambda module, inputs, output: output.flip(1))
    bits = dict(Mask.dense(prunable(model)))
    bits["fc1.weight"][:3] = False
    with pytest.raises(UsageError, match=r"^Perceptron: made compact, its outputs are others; export another form$"):
        compact(model, Mask(bits), shape)


def test_a_mask_of_another_model_is_refused() -> None:
    model, _, shape = network("lenet")
    with pytest.raises(UsageError, match=r"the mask has fc9.weight of shape \(2, 4\), the model has not"):
        compact(model, Mask({"fc9.weight": torch.ones(2, 4, dtype=torch.bool)}), shape)


@pytest.mark.parametrize("name", ["lenet", "deep linear", "weight normalized", "conv2", "resnet"])
def test_a_file_gives_the_compact_network_back(name: str, tmp_path: Path) -> None:
    model, component, shape = network(name)
    model = model.float()
    found = compact(model, random_mask(model, 0.1), shape)
    (tmp_path / "net").write_bytes(compact_bytes(found.model, component, shape, 5))
    read = load_compact(tmp_path / "net")
    state = found.model.state_dict()
    assert list(read.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in read.state_dict().items())
    assert torch.equal(read(inputs(shape).float()), found.model(inputs(shape).float()))
    assert str(read) == str(found.model)


def test_what_is_no_compact_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        load_compact(tmp_path / "net")
    (tmp_path / "net").write_bytes(b"no tensors")
    with pytest.raises(LotteryError):
        load_compact(tmp_path / "net")
    (tmp_path / "net").write_bytes(encode({"weight": torch.zeros(2)}))
    with pytest.raises(UsageError, match="holds no compact network of version 1"):
        load_compact(tmp_path / "net")


@pytest.mark.parametrize("broken", ["missing", "narrower", "flat"])
def test_a_file_whose_tensors_do_not_fit_together_is_damaged(broken: str, tmp_path: Path) -> None:
    model, component, shape = network("lenet")
    tensors, head = decode(compact_bytes(compact(model, random_mask(model, 0.5), shape).model, component, shape, 5))
    tensors["fc1.weight"] = {"narrower": tensors["fc1.weight"][:3], "flat": tensors["fc1.bias"]}.get(
        broken, tensors["fc1.weight"]
    )
    if broken == "missing":
        del tensors["fc2.bias"]
    (tmp_path / "net").write_bytes(encode(tensors, head))
    with pytest.raises(DamagedFile, match="its tensors are not those of the network that it names"):
        load_compact(tmp_path / "net")


def test_a_compact_file_names_its_model() -> None:
    model, component, shape = network("lenet")
    _, head = decode(compact_bytes(compact(model, random_mask(model, 0.1), shape).model, component, shape, 5))
    assert head["format"] == "lottery compact network" and '"lenet"' in head["about"]


def test_a_network_of_a_tenth_of_the_units_is_faster() -> None:
    model = build_model(Component("lenet", {"widths": [1000, 1000]}), (784,), 10, init=Component("torch"), seed=0)
    bits = dict(Mask.dense(prunable(model)))
    bits["fc1.weight"][100:] = False
    bits["fc2.weight"][100:] = False
    found = compact(model, Mask(bits), (784,))
    assert after(found) == {"fc1": 100, "fc2": 100, "output": 10}
    assert speed_up(model, found.model, (784,), turns=7).ratio > 2
