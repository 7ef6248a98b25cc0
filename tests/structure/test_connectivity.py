"""Weights on paths and dead units, against a search of the graph written out unit by unit, and against gradients."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lottery import registry
from lottery.errors import UsageError
from lottery.network.build import prunable
from lottery.pruning.mask import Mask
from lottery.structure.chain import chain_paths, chain_steps, is_chain, makes_chain
from lottery.structure.connectivity import effective_mask, paths, units
from lottery.structure.multiply_adds import per_layer, per_layer_and_step
from lottery.values import Component

Node = tuple[object, ...]
Edge = tuple[Node, Node, tuple[str, tuple[int, ...]] | None]  # from, to, and the weight between, if any


def random_mask(network: nn.Module, density: float, seed: int) -> Mask:
    draws = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(w.shape, generator=draws) < density for n, w in prunable(network).items()})


def reachable(starts: Iterable[Node], edges: Iterable[tuple[Node, Node]]) -> set[Node]:
    """All that can be reached from the starts, themselves included."""
    following = defaultdict(list)
    for a, b in edges:
        following[a].append(b)
    seen, waiting = set(starts), list(starts)
    while waiting:
        for node in following[waiting.pop()]:
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    return seen


def check(network: nn.Module, mask: Mask, shape: tuple[int, ...], edges: list[Edge], inputs: int, outputs: int) -> None:
    """What `paths` finds is what a search finds; nodes are (layer, unit, ...), inputs ("in", i), outputs ("out", i)."""
    alive = [(a, b, w) for a, b, w in edges if w is None or bool(mask[w[0]][w[1]])]
    forward = reachable([("in", i) for i in range(inputs)], [(a, b) for a, b, _ in alive])
    backward = reachable([("out", i) for i in range(outputs)], [(b, a) for a, b, _ in alive])
    expected = {name: torch.zeros_like(bits) for name, bits in mask.items()}
    for a, b, weight in alive:
        if weight is not None and a in forward and b in backward:
            expected[weight[0]][weight[1]] = True
    found = paths(network, mask, shape)
    assert found.effective == Mask(expected)
    nodes = {node for a, b, _ in edges for node in (a, b)}
    for name, layer in found.units.items():
        for unit in range(len(layer.works)):
            own = [node for node in nodes if node[:2] == (name, unit)]
            own = own or [("out", unit)]  # the last layer's units are the outputs
            assert bool(layer.receives[unit]) == any(node in forward for node in own)
            assert bool(layer.reaches[unit]) == any(node in backward for node in own)
            assert bool(layer.works[unit]) == any(node in forward & backward for node in own)


def linear_edges(name: str, before: list[Node], after: list[Node]) -> list[Edge]:
    return [(a, b, (name, (i, j))) for (j, a), (i, b) in itertools.product(enumerate(before), enumerate(after))]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("residual", [False, True])
def test_in_a_perceptron_the_paths_are_those_of_a_search(residual: bool, seed: int) -> None:
    network = registry.models["mlp"].make((5,), 3, widths=(6, 6, 6), residual=residual)
    mask = random_mask(network, 0.12 + 0.04 * seed, seed)
    layers = [
        [("in", i) for i in range(5)],
        *([(f"fc{k}.weight", i) for i in range(6)] for k in (1, 2, 3)),
        [("out", i) for i in range(3)],
    ]
    sums: list[list[Node]] = [[*layer] for layer in layers]  # what the next layer sees, the shortcut's sum if there is
    edges: list[Edge] = []
    for k in (2, 3) if residual else ():
        sums[k] = [("sum", k, i) for i in range(6)]
        edges += [(a, b, None) for a, b in zip(layers[k], sums[k], strict=True)]
        edges += [(a, b, None) for a, b in zip(sums[k - 1], sums[k], strict=True)]
    for k, name in enumerate(mask):
        edges += linear_edges(name, sums[k], [*layers[k + 1]])
    check(network, mask, (5,), edges, inputs=5, outputs=3)


def conv_edges(name: str, n_in: int, n_out: int, size: int, before: str) -> list[Edge]:
    """A 3x3 convolution with padding on size x size positions; nodes (layer, channel, y, x)."""
    edges: list[Edge] = []
    for o, c, y, x, ky, kx in itertools.product(*map(range, (n_out, n_in, size, size, 3, 3))):
        if 0 <= y + ky - 1 < size and 0 <= x + kx - 1 < size:
            edges.append(((before, c, y + ky - 1, x + kx - 1), (name, o, y, x), (name, (o, c, ky, kx))))
    return edges


def pool_edges(before: str, after: str, channels: int, size: int) -> list[Edge]:
    return [
        ((before, c, y, x), (after, c, y // 2, x // 2), None)
        for c, y, x in itertools.product(range(channels), range(size), range(size))
    ]


@pytest.mark.parametrize("seed", range(6))
def test_in_a_convolutional_network_the_paths_are_those_of_a_search(seed: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 3, 3, padding=1),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    mask = random_mask(network, 0.1 + 0.05 * seed, seed)
    edges: list[Edge] = [(("in", i), ("image", 0, i // 4, i % 4), None) for i in range(16)]
    edges += conv_edges("0.weight", 1, 3, 4, "image") + pool_edges("0.weight", "pool1", 3, 4)
    edges += conv_edges("4.weight", 3, 4, 2, "pool1") + pool_edges("4.weight", "pool2", 4, 2)
    edges += conv_edges("7.weight", 4, 3, 1, "pool2")
    edges += linear_edges("10.weight", [("7.weight", c, 0, 0) for c in range(3)], [("out", i) for i in range(2)])
    check(network, mask, (1, 4, 4), edges, inputs=16, outputs=2)


SMALL: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "lenet": ((6,), {"widths": (7, 5)}),
    "mlp": ((6,), {"widths": (7, 7, 7), "residual": True}),
    "deep_linear": ((6,), {"width": 6, "depth": 4}),
    "highway": ((6,), {"width": 6, "depth": 4}),
    "conv2": ((1, 6, 6), {"width": 3, "hidden": 6}),
    "conv4": ((1, 8, 8), {"width": 3, "hidden": 6}),
    "conv6": ((1, 8, 8), {"width": 2, "hidden": 6}),
    "lenet5": ((1, 16, 16), {"channels": (2, 2), "widths": (5, 4)}),
    "vgg11": ((1, 16, 16), {"width": 2}),
    "resnet20": ((1, 8, 8), {"width": 2}),
    "resnet32": ((1, 8, 8), {"width": 2, "shortcut": "pad"}),
    "plain": ((1, 8, 8), {"width": 2, "depth": 8}),
    "fixup_resnet20": ((1, 8, 8), {"width": 2}),
    "densenet": ((1, 8, 8), {"depth": 7, "growth": 2}),
}


def gradients(network: nn.Module, mask: Mask, shape: tuple[int, ...], seed: int) -> dict[str, Tensor]:
    """How much each weight matters, summed over inputs, in a network without biases whose weights are random."""
    draws = torch.Generator().manual_seed(seed)
    network = network.double().eval()
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d):  # a maximum has a gradient only where it is taken
            network.set_submodule(path, nn.AvgPool2d(2))
    for name, parameter in network.named_parameters():
        if name in mask:
            drawn = torch.randn(parameter.shape, generator=draws, dtype=torch.float64) * mask[name]
            parameter.data = drawn / max(1.0, float(drawn.flatten(1).norm(dim=1).mean()))
        else:
            parameter.data.fill_(0.7 if parameter.dim() and name.endswith("scale") else 0.0)
    total = {name: torch.zeros(mask[name].shape, dtype=torch.float64) for name in mask}
    for _ in range(24):
        x = torch.randn(1, *shape, generator=draws, dtype=torch.float64)
        network.zero_grad()
        out = network(x)
        (out * torch.randn(out.shape, generator=draws, dtype=torch.float64)).sum().backward()
        for name, parameter in network.named_parameters():
            if name in total and parameter.grad is not None:
                total[name] += parameter.grad.abs()
    return total


@pytest.mark.parametrize("name", SMALL)
def test_the_weights_on_paths_are_those_with_a_gradient_where_nothing_but_the_input_enters(name: str) -> None:
    shape, args = SMALL[name]
    plain = {} if name == "deep_linear" else {"norm": "none", "activation": "tanh"}
    told_apart = 0
    for seed, density in enumerate((0.3, 0.5, 0.8)):
        network = registry.models[name].make(shape, 3, **args, **plain)
        mask = random_mask(network, density, seed)
        found = effective_mask(network, mask, shape)
        slopes = gradients(network, mask, shape, seed)
        matter = Mask({layer: (slope > 0) & mask[layer] for layer, slope in slopes.items()})
        gated = Mask({layer: bits for layer, bits in found.items() if "gate" in layer})
        if gated:  # a gate may stand between two numbers that are 0 here and would not be with biases
            found, matter = (m.of(layer for layer in m if layer not in gated) for m in (found, matter))
        assert dict(found.alive()) == matter.alive() and bool(found == matter)
        told_apart += 0 < found.density < mask.density
    assert told_apart


def test_the_networks_of_the_catalogue_are_connected_as_they_are_built() -> None:
    for entry in registry.models:
        if entry.name in ("torchvision", "timm") or any(
            size in entry.name for size in ("44", "56", "110", "13", "16", "19")
        ):
            continue  # as those with fewer layers
        network = entry.make((2, 16, 16), 3, **SMALL.get(entry.name, ((), {"width": 2}))[1])
        mask = Mask.dense(prunable(network))
        found = paths(network, mask, (2, 16, 16))
        assert sum(layer.dead for layer in found.units.values()) == 0
        border = [n for n in mask if found.effective.alive()[n] < mask.alive()[n]]
        assert all(mask[n].dim() == 4 for n in border)
        if entry.name in ("resnet20", "plain", "densenet", "lenet", "highway"):  # feature maps of two pixels or more
            assert found.effective == mask


@pytest.mark.parametrize("norm", ["none", "batch", "group", "instance", "layer", "switchable", "weight", "spectral"])
def test_a_normalization_does_not_make_a_path(norm: str) -> None:
    """Even one whose statistics are of all channels."""
    network = registry.models["conv2"].make((1, 8, 8), 3, width=4, hidden=5, norm=norm)
    alive = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in prunable(network).items()}
    first, second = list(alive)[:2]
    alive[first][1] = False  # the second channel has no input
    mask = Mask(alive)
    found = paths(network, mask, (1, 8, 8))
    assert found.units[first].receives.tolist() == [True, False, True, True]
    assert found.units[first].reaches.all()
    lost = {name: mask.alive()[name] - count for name, count in found.effective.alive().items()}
    assert {name: count for name, count in lost.items() if count} == {second: 4 * 9}


def residual(shortcut: str, **pruned: Any) -> tuple[nn.Module, Mask]:
    network = registry.models["resnet20"].make((1, 8, 8), 3, width=2, shortcut=shortcut)
    alive = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in prunable(network).items()}
    for name, rows in pruned.items():
        alive[name.replace("__", ".") + ".weight"][rows] = False
    return network, Mask(alive)


def test_a_block_without_its_first_convolution_is_left_by_the_shortcut() -> None:
    network, mask = residual("conv", blocks__1__conv1=slice(None))
    found = paths(network, mask, (1, 8, 8))
    idle = "blocks.1.conv1.weight", "blocks.1.conv2.weight"
    assert found.effective == Mask({n: bits & (n not in idle) for n, bits in mask.items()})
    for name in idle:
        assert not found.units[name].receives.any() and found.units[name].reaches.all()
    assert sum(layer.dead for layer in found.units.values()) == 4


def test_channels_that_a_padded_shortcut_does_not_feed_are_dead_with_their_convolution() -> None:
    """The first block of the second stage goes from 2 to 4 channels: the shortcut feeds the first two."""
    every = slice(None)
    pruned = {f"blocks__{block}__conv2": every for block in (3, 4, 5)}  # the whole second stage
    network, mask = residual("pad", **pruned)
    found = paths(network, mask, (1, 8, 8))
    fed = torch.tensor([True, True, False, False])
    first = found.effective["blocks.6.conv1.weight"]  # of the third stage
    assert torch.equal(first, fed[None, :, None, None].expand_as(first))
    network, mask = residual("conv", **pruned)
    assert bool(effective_mask(network, mask, (1, 8, 8))["blocks.6.conv1.weight"].all())


def test_what_leads_nowhere_does_not_reach() -> None:
    network = registry.models["lenet"].make((4,), 2, widths=(3, 3))
    alive = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in prunable(network).items()}
    alive["output.weight"][:, 0] = False
    found = units(network, Mask(alive), (4,))
    receives, reaches = found["fc2.weight"]
    assert receives.all() and reaches.tolist() == [False, True, True]
    assert found["fc1.weight"][1].all()


def test_a_severed_network_has_no_path_at_all() -> None:
    network = registry.models["resnet20"].make((1, 8, 8), 3, width=2)
    alive = {name: torch.ones(w.shape, dtype=torch.bool) for name, w in prunable(network).items()}
    alive["output.weight"][:] = False
    found = paths(network, Mask(alive), (1, 8, 8))
    assert found.effective.density == 0
    assert not any(layer.works.any() for layer in found.units.values())
    for name, layer in found.units.items():  # the units of the last layer are the output itself
        last = name == "output.weight"
        assert bool(layer.receives.all()) is not last and bool(layer.reaches.all()) is last
        assert bool(layer.receives.any()) is not last and bool(layer.reaches.any()) is last


def test_depth_neither_overflows_nor_fades() -> None:
    network = nn.Sequential(*(nn.Linear(40, 40) for _ in range(300)))
    mask = Mask.dense(prunable(network))
    assert effective_mask(network, mask, (40,)) == mask
    narrow = Mask({n: torch.eye(40, dtype=torch.bool) for n in mask})
    assert effective_mask(network, narrow, (40,)) == narrow


def test_the_network_stays_as_it_was() -> None:
    network = registry.models["resnet20"].make((1, 8, 8), 3, width=2, norm="weight").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        paths(network, random_mask(network, 0.5, 0), (1, 8, 8))
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


class Strange(nn.Module):
    """Operations that are in no list, writing in place, and a weight that two layers share."""

    def __init__(self, mix: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(3, 3) for _ in range(3))
        self.b.weight = self.a.weight
        self.mix = mix

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.a(x), inplace=True)
        y.add_(1.0)
        z = torch.zeros_like(y)
        z = z + 0.5
        y = torch.cumprod(y, 1) if self.mix else torch.cat([y[:, :1], z[:, 1:]], 1)
        out: Tensor = self.c(self.b(y))
        return out


def test_constants_carry_nothing_and_what_is_not_known_mixes_everything() -> None:
    alive = {name: torch.eye(3, dtype=torch.bool) for name in ("a.weight", "c.weight")}
    for mix in (False, True):
        found = effective_mask(Strange(mix), Mask(alive), (3,))
        kept = 3 if mix else 1
        assert found.alive() == {"a.weight": kept, "c.weight": kept}


def test_writing_what_depends_on_the_input_into_a_constant_is_refused() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            out = torch.zeros(1, 4, dtype=x.dtype)
            out[:, :3] = self.a(x)
            return out

    with pytest.raises(UsageError, match="__setitem__"):
        effective_mask(Writes(), Mask.dense(prunable(Writes())), (3,))


@pytest.mark.parametrize("arch", ["squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvision_networks_are_connected(arch: str) -> None:
    """Through depthwise convolutions, squeeze and excitation, shuffled channels and pools that round up."""
    network = registry.models["torchvision"].make((3, 64, 64), 10, arch=arch)
    mask = Mask.dense(prunable(network))
    found = paths(network, mask, (3, 64, 64))
    assert sum(layer.dead for layer in found.units.values()) == 0
    assert found.effective.density > 0.95  # kernels of 5x5 on two pixels have a border


@pytest.mark.parametrize("norm", ["weight", "spectral"])
def test_a_network_with_normalized_weights_computes_as_before(norm: str) -> None:
    network = registry.models["lenet"].make((6,), 3, widths=(5,), norm=norm).eval()
    x = torch.ones(1, 6)
    expected = network(x)
    paths(network, random_mask(network, 0.5, 0), (6,))
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("density", [0.05, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_of_a_chain_of_layers_the_bits_of_the_mask_tell_what_a_pass_through_the_network_tells(
    density: float, norm: str
) -> None:
    network = registry.models["lenet"].make((1, 3, 4), 5, widths=(9, 7), norm=norm)
    for seed in range(4):
        mask = random_mask(network, density, seed)
        found, passed = chain_paths(mask), paths(network, mask, (1, 3, 4))
        assert is_chain(mask.shapes())
        assert {name: layer.effective for name, layer in found.items()} == passed.effective.alive()
        assert {name: (layer.units, layer.dead) for name, layer in found.items()} == {
            name: (len(layer.works), layer.dead) for name, layer in passed.units.items()
        }


@pytest.mark.parametrize("model", ["lenet", "mlp"])
@pytest.mark.parametrize("norm", ["none", "batch", "weight", "spectral"])
def test_of_a_chain_of_layers_the_sizes_tell_the_multiply_adds_that_a_pass_tells(model: str, norm: str) -> None:
    network = registry.models[model].make((1, 3, 4), 5, widths=(9, 7), norm=norm)
    sizes = {name: weight.numel() for name, weight in prunable(network).items()}
    assert makes_chain(Component(model, {"widths": (9, 7), "norm": norm}))
    assert per_layer(network, (1, 3, 4)) == sizes
    assert per_layer_and_step(network, (1, 3, 4)) == chain_steps(sizes)


def test_layers_that_cannot_follow_on_each_other_are_no_chain() -> None:
    assert not is_chain({"one": (4, 3), "two": (2, 5)})
    assert not is_chain({"one": (4, 3, 1, 1)})
