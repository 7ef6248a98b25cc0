"""Branches against their definitions: masks, signs, counts, and masks that are learned while weights stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.catalogue.branches._learned import Bernoulli, EdgePopup
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Weights
from lottery.pruning.start import Start
from lottery.registry import Entry
from lottery.values import Component
from tests.support.draws import generator
from tests.support.levels import EVERYWHERE, SPEC, STATE, FakeLevel, branch


def biases(weights: Weights) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.endswith("bias")}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_same_sign_has_the_sizes_of_a_fresh_draw_and_the_signs_of_the_original() -> None:
    level = FakeLevel()
    start, drawn = branch("same_sign", level), level.fresh(generator(7))
    assert start.mask == level.mask
    for name in level.mask:
        assert torch.equal(start.weights[name].abs(), drawn[name].abs())
        assert torch.equal(start.weights[name].sign(), level.rewound.weights[name].sign())
        assert not torch.equal(start.weights[name], drawn[name])
    assert same(biases(start.weights), biases(drawn))
    assert (start.spec.first, start.optimizer_state) == (0, None)


@pytest.mark.parametrize("magnitude", [1.0, 2.5])
def test_constant_has_one_size_a_layer_and_the_signs_of_the_original(magnitude: float) -> None:
    level = FakeLevel()
    start, original = branch("constant", level, magnitude=magnitude), level.rewound.weights
    for name in level.mask:
        spread = math.sqrt(float(((original[name] - original[name].mean()) ** 2).mean()))
        assert start.weights[name].abs().unique().tolist() == pytest.approx([magnitude * spread], rel=1e-5)
        assert torch.equal(start.weights[name].sign(), original[name].sign())
    assert same(biases(start.weights), biases(original))
    assert (start.mask == level.mask, start.spec.first, start.optimizer_state) == (True, 0, None)


def test_noise_moves_the_survivors_alone_and_trains_on_from_the_rewind_point() -> None:
    level = FakeLevel(density=0.6, model=Component("lenet", {"widths": (200, 100)}))
    start, original = branch("noise", level, scale=0.5), level.rewound.weights
    assert (start.spec, start.optimizer_state, start.mask == level.mask) == (SPEC, STATE, True)
    for name, bits in level.mask.items():
        moved = (start.weights[name] - original[name]) / original[name].std()
        assert not moved[~bits].any() and moved[bits].all()
        count = int(bits.sum())
        assert abs(float(moved[bits].mean())) < 5 * 0.5 / count**0.5
        assert float(moved[bits].std()) == pytest.approx(0.5, rel=5 / (2 * count) ** 0.5)
    assert same(biases(start.weights), biases(original))
    assert not same(branch("noise", level, seed=8).weights, branch("noise", level).weights)


def test_transplant_takes_the_mask_of_another_seed_and_keeps_the_weights() -> None:
    level = FakeLevel(seed=0, other=FakeLevel(seed=1))
    start = branch("transplant", level)
    assert start.mask == FakeLevel(seed=1).mask and start.mask != level.mask
    assert same(start.weights, level.rewound.weights)
    assert registry.branches["transplant"].traits.partner is True


def test_other_data_is_the_ticket_with_a_fresh_optimizer() -> None:
    level = FakeLevel()
    start = branch("other_data", level, dataset=Component("digits"))
    assert (start.dataset, start.optimizer_state, start.mask == level.mask) == (Component("digits"), None, True)
    assert same(start.weights, level.rewound.weights)


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.7, 1.0])
def test_a_small_dense_network_has_the_size_nearest_to_the_tickets(
    density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against every width that there is: lenet with widths (20 f, 10 f), rounded."""

    def scaled(args: Mapping[str, Any], factor: float) -> dict[str, Any]:
        return {**args, "widths": tuple(max(1, round(factor * width)) for width in args["widths"])}

    lenet = registry.models["lenet"]
    entry = Entry("lenet", lenet.make, lenet.source, lenet.version, replace(lenet.traits, scaled=scaled))
    monkeypatch.setitem(registry.models._entries, "lenet", entry)
    level = FakeLevel(density=density, model=Component("lenet", {"widths": (20, 10), "activation": "tanh"}))
    start = branch("small_dense", level)

    def size(first: int, second: int) -> int:
        return 10 * first + first + first * second + second + 4 * second + 4

    wanted = size(20, 10) - (10 * 20 + 20 * 10 + 10 * 4) + sum(level.mask.alive().values())
    options = {(max(1, round(20 * f / 4096)), max(1, round(10 * f / 4096))) for f in range(4097)}
    best = min(options, key=lambda widths: (abs(size(*widths) - wanted), size(*widths)))
    assert start.model is not None
    assert (start.model.args["widths"], start.model.args["activation"]) == (best, "tanh")
    assert sum(value.numel() for value in start.weights.values()) == size(*best)
    assert start.mask.density == 1 and list(start.mask.sizes().values()) == [
        10 * best[0],
        best[0] * best[1],
        4 * best[1],
    ]
    assert (start.spec.first, start.optimizer_state) == (0, None)
    assert same(branch("small_dense", level).weights, start.weights)
    assert not same(branch("small_dense", level, seed=8).weights, start.weights)


def test_a_supermask_is_the_ticket_without_a_step() -> None:
    level = FakeLevel()
    start = branch("supermask", level)
    assert start.spec.untrained and start.mask == level.mask and start.optimizer_state is None
    assert same(start.weights, level.rewound.weights)
    assert same(branch("supermask", level, weights="constant").weights, branch("constant", level).weights)


def toy(start: Start, level: FakeLevel) -> tuple[nn.Module, Tensor, Tensor]:
    """The molded network and a problem of four classes that a larger network of fixed weights has made."""
    model = level.network(level.model, generator(99))
    model.load_state_dict(dict(start.weights))
    assert start.mold is not None
    start.mold(model)
    x = torch.randn(256, 10, generator=generator(5))
    return model, x, (x[:, :4] + 0.5 * x[:, 4:8]).argmax(1)


def layers(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def alive(model: nn.Module) -> list[int]:
    return [int((layer.weight != 0).sum()) for layer in layers(model)]


def train(model: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float) -> tuple[float, float]:
    """Loss in evaluation mode before and after, by momentum over all parameters and with weight decay."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(2):
        model.eval()
        losses.append(nn.functional.cross_entropy(model(x), y).item())
        model.train()
        for _ in range(steps if len(losses) == 1 else 0):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.eval()
    return losses[0], losses[1]


WIDE = Component("lenet", {"widths": (64, 32)})


@pytest.mark.parametrize(("name", "lr"), [("edge_popup", 0.5), ("learned_supermask", 30.0)])
@pytest.mark.parametrize("weights", ["rewound", "constant"])
def test_a_learned_mask_trains_and_leaves_the_weights_as_they_are_to_the_bit(
    name: str, lr: float, weights: str
) -> None:
    level = FakeLevel(density=0.4, model=WIDE)
    start = branch(name, level, weights=weights)
    model, x, y = toy(start, level)
    trained = [key for key, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(key.endswith(".scores") for key in trained) and len(trained) == len(level.mask)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the masks of training are drawn as dropout is
        before, after = train(model, x, y, 150, lr)
    assert after < 0.6 * before
    for layer, key in zip(list[Any](layers(model)), level.mask, strict=True):
        assert torch.equal(layer.parametrizations.weight.original, start.weights[key])
        assert torch.equal(layer.bias, start.weights[key.replace("weight", "bias")])
        values = set(layer.weight.detach().flatten().tolist()) - {0.0}
        assert values <= set(start.weights[key].flatten().tolist())
    assert start.mask.density == 1 and start.optimizer_state is None and start.spec.first == 0


def test_edge_popup_has_the_tickets_count_in_each_layer_before_and_after_training() -> None:
    level = FakeLevel(density=0.4, model=WIDE)
    model, x, y = toy(branch("edge_popup", level), level)
    counts = list(level.mask.alive().values())
    masks = [layer.weight != 0 for layer in layers(model)]
    assert alive(model) == counts
    train(model, x, y, 20, 0.5)
    assert alive(model) == counts
    assert any(not torch.equal(a, layer.weight != 0) for a, layer in zip(masks, layers(model), strict=True))
    assert alive(model.train()) == counts


def test_the_gradient_of_edge_popup_is_that_of_the_authors_straight_through_function() -> None:
    class Subnet(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, scores: Tensor, kept: int) -> Tensor:
            out = torch.zeros(scores.numel())
            out[scores.flatten().sort().indices[-kept:]] = 1
            return out.view_as(scores)

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
            return g, None

    weight, scores, x = (torch.randn(5, 6, generator=generator(seed)) for seed in range(3))
    ours, theirs = EdgePopup(scores.clone(), 11), scores.clone().requires_grad_()
    one, other = (x @ w.T for w in (ours(weight), weight * Subnet.apply(theirs.abs(), 11)))
    assert torch.allclose(one, other, atol=1e-6)
    (one**2).sum().backward()
    (other**2).sum().backward()
    assert ours.scores.grad is not None and theirs.grad is not None
    assert torch.allclose(ours.scores.grad, theirs.grad, rtol=1e-5)


def test_a_bernoulli_mask_is_drawn_in_training_and_passes_the_gradient_to_its_probability() -> None:
    weight = torch.randn(40, 50, generator=generator(1))
    masking = Bernoulli(torch.rand(40, 50, generator=generator(2)))
    with torch.no_grad():
        masking.scores.fill_(math.log(0.3 / 0.7))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first, second = masking(weight), masking(weight)
    for mask in (first, second):
        assert abs(int((mask != 0).sum()) - 600) < 5 * (2000 * 0.3 * 0.7) ** 0.5
    assert not torch.equal(first, second)
    upstream = torch.randn(40, 50, generator=generator(4))
    (first * upstream).sum().backward()
    assert masking.scores.grad is not None
    assert torch.allclose(masking.scores.grad, upstream * weight * 0.3 * 0.7, rtol=1e-4)
    masking.eval()
    expected = weight * (masking.threshold < 0.3)
    assert torch.equal(masking(weight), expected) and torch.equal(masking(weight), expected)


def test_a_rounded_supermask_keeps_what_is_more_likely_there_than_not() -> None:
    level = FakeLevel()
    model, _, _ = toy(branch("learned_supermask", level, evaluate="rounded"), level)
    layer: Any = layers(model.eval())[0]
    with torch.no_grad():
        scores = layer.parametrizations.weight[0].scores
        scores.copy_(torch.randn(scores.shape, generator=generator(3)))
    assert torch.equal(layer.weight != 0, scores > 0)


def test_a_sampled_supermask_keeps_half_of_the_weights_at_first_and_one_draw_throughout() -> None:
    level = FakeLevel(model=WIDE)
    start = branch("learned_supermask", level)
    first, second = (toy(start, level)[0].eval() for _ in range(2))
    assert alive(first) == alive(second)
    total = sum(level.mask.sizes().values())
    assert abs(sum(alive(first)) - total / 2) < 5 * (total / 4) ** 0.5
    assert alive(first) != alive(toy(branch("learned_supermask", level, seed=8), level)[0].eval())


@pytest.mark.parametrize("name", ["edge_popup", "learned_supermask"])
def test_a_molded_network_goes_on_from_its_state(name: str) -> None:
    level = FakeLevel()
    model, x, y = toy(branch(name, level), level)
    with torch.random.fork_rng(devices=[]):
        train(model, x, y, 3, 1.0)
    again, _, _ = toy(branch(name, level), level)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(x), model.eval()(x))


@pytest.mark.parametrize("name", ["edge_popup", "learned_supermask"])
def test_masks_are_learned_with_another_optimizer_where_one_is_given(name: str) -> None:
    other = Component("sgd", {"lr": 50.0})
    assert branch(name, FakeLevel(), optimizer=other).spec.optimizer == other
    assert branch(name, FakeLevel()).spec.optimizer == SPEC.optimizer


@pytest.mark.parametrize("norm", ["weight", "spectral", "batch"])
@pytest.mark.parametrize("name", ["edge_popup", "learned_supermask"])
def test_masks_are_learned_under_each_kind_of_normalization(name: str, norm: str) -> None:
    level = FakeLevel(model=Component("lenet", {"widths": (16, 8), "norm": norm}))
    model, x, y = toy(branch(name, level), level)
    frozen = {key: value.clone() for key, value in model.named_parameters() if not key.endswith("scores")}
    assert all(not value.requires_grad for key, value in model.named_parameters() if key in frozen)
    with torch.random.fork_rng(devices=[]):
        train(model, x, y, 5, 1.0)
    now = dict(model.named_parameters())
    assert all(torch.equal(now[key], value) for key, value in frozen.items())
    if name == "edge_popup":
        assert alive(model) == list(level.mask.alive().values())


def test_branches_change_nothing_of_the_level_they_leave() -> None:
    level = FakeLevel(other=FakeLevel(seed=1))
    before = level.rewound
    needed = {"retrain": {"optimizer": SPEC.optimizer}, "other_data": {"dataset": Component("digits")}}
    for entry in EVERYWHERE:
        if entry.name not in ("one_shot", "small_dense"):
            state = torch.get_rng_state()
            branch(entry.name, level, **dict[str, Any](needed.get(entry.name, {})))
            assert torch.equal(torch.get_rng_state(), state), entry.name
    assert same(before.weights, level.rewound.weights)


@dataclass
class MovedLevel(FakeLevel):
    """A level whose networks are those of another one with their hidden units in another order."""

    orders: tuple[Tensor, Tensor] = (torch.arange(16).flip(0), torch.randperm(8, generator=generator(3)))

    def moved(self, tensors: Weights) -> Weights:
        first, second = self.orders
        rows, columns = {"fc1": first, "fc2": second}, {"fc2": first, "output": second}
        found = {}
        for name, value in tensors.items():
            layer = name.split(".")[0]
            value = value[rows[layer]] if layer in rows else value
            found[name] = value[:, columns[layer]] if layer in columns and value.dim() == 2 else value
        return found

    @property
    def dense(self) -> Weights:
        return self.moved(super().dense)

    @property
    def mask(self) -> Mask:
        return Mask(self.moved(dict(super().mask)))


def test_an_aligned_mask_is_the_partners_with_its_units_where_one_has_them() -> None:
    level = FakeLevel(other=MovedLevel())
    assert level.partner.mask != level.mask
    start = branch("aligned", level)
    assert start.mask == level.mask
    assert same(start.weights, level.rewound.weights) and start.optimizer_state == STATE
    assert branch("transplant", level).mask == level.partner.mask


def test_an_aligned_mask_of_a_strange_network_keeps_its_counts_and_goes_with_the_mode() -> None:
    level = FakeLevel(other=FakeLevel(seed=1), mode="lr")
    start = branch("aligned", level)
    theirs = level.partner.mask
    assert start.mask.alive() == theirs.alive() and start.mask != theirs
    assert same(start.weights, level.dense) and start.optimizer_state is None
    assert same(branch("aligned", level, weights="rewound").weights, level.rewound.weights)


def test_trained_signs_are_those_the_ticket_ends_with_on_sizes_of_a_fresh_draw() -> None:
    level = FakeLevel()
    start, drawn = branch("trained_signs", level), level.fresh(generator(7))
    assert start.mask == level.mask and start.spec.first == 0 and start.optimizer_state is None
    for name, bits in level.mask.items():
        assert start.weights[name].abs().equal(drawn[name].abs())
        assert (start.weights[name].sign() == level.dense[name].sign())[bits].all()
    assert not all(start.weights[n].sign().equal(level.rewound.weights[n].sign()) for n in level.mask)
    assert start.weights["fc1.bias"].equal(drawn["fc1.bias"])
