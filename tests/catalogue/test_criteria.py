"""Pruning criteria against their definitions: by hand, finite differences, explicit Hessians and sums of paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torchvision.ops import StochasticDepth

from lottery.network.build import effective, prunable
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Context
from lottery.registry import criteria
from tests.support.criteria import CROSS_ENTROPY, context, draw, score
from tests.support.draws import generator


def net() -> nn.Module:
    return draw(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))


def batch(n: int = 12, features: int = 4, classes: int = 3) -> tuple[Tensor, Tensor]:
    draws = generator(1)
    x = torch.randn(n, features, generator=draws, dtype=torch.float64)
    return x, torch.randint(0, classes, (n,), generator=draws)


FINAL = torch.tensor([[0.5, -2.0, 0.1, -0.3], [1.0, 0.2, -0.7, 3.0]])
INITIAL = torch.tensor([[-0.4, -1.0, 0.2, -0.9], [0.3, -0.1, -0.6, 2.0]])
SAME = torch.tensor([[0, 1, 1, 1], [1, 0, 1, 1]])


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("magnitude", {}, FINAL.abs()),
        ("magnitude", {"same_sign": True}, FINAL.abs() * SAME),
        ("small_final", {}, -FINAL.abs()),
        ("large_init", {}, INITIAL.abs()),
        ("small_init", {}, -INITIAL.abs()),
        ("magnitude_increase", {}, FINAL.abs() - INITIAL.abs()),
        ("magnitude_increase", {"same_sign": True}, (FINAL.abs() - INITIAL.abs()) * SAME),
        ("movement", {}, (FINAL - INITIAL).abs()),
    ],
)
def test_scores_of_zhou_are_their_formulas(name: str, args: Any, expected: Tensor) -> None:
    scores = criteria[name].make({"a.weight": FINAL}, Context(generator(), initial={"a.weight": INITIAL}), **args)
    assert torch.equal(scores["a.weight"], expected)


def test_scores_that_are_made_when_asked_for_are_those_of_the_weights_named() -> None:
    weights = {"a.weight": FINAL, "b.weight": INITIAL}
    scores = criteria["magnitude"].make(weights, Context(generator()))
    assert list(scores) == list(weights) and len(scores) == 2 and "c.weight" not in scores
    assert torch.equal(scores["b.weight"], INITIAL.abs())
    assert scores["a.weight"] is not scores["a.weight"]  # nobody holds them


def test_the_norm_of_a_filter_takes_whole_filters_with_the_smallest_sum_of_absolute_values() -> None:
    weight = torch.randn(6, 2, 3, 3, generator=generator(4))
    scores = criteria["filter_norm"].make({"conv.weight": weight}, Context(generator()))
    kept = keep_top(scores, Mask({"conv.weight": torch.ones_like(weight, dtype=torch.bool)}), {"conv.weight": 4 * 18})
    left = kept["conv.weight"].flatten(1)
    assert torch.equal(left.all(1), left.any(1))
    smallest = sorted(range(6), key=lambda i: sum(abs(float(value)) for value in weight[i].flatten()))[:2]
    assert [i for i in range(6) if not left[i].any()] == sorted(smallest)


@pytest.mark.parametrize(("name", "sign"), [("large_init_large_final", 1), ("small_init_small_final", -1)])
@pytest.mark.parametrize("pruned", [0, 30])
def test_both_large_or_both_small_keeps_a_quadrant_whose_edges_are_equal_quantiles(
    name: str, sign: int, pruned: int
) -> None:
    """As in the authors' code: |w_i| and |w_f| are cut at the same quantile, found so that the count is right."""
    draws = generator(3)
    final, initial = (torch.randn(10, 12, generator=draws, dtype=torch.float64) for _ in range(2))
    alive = torch.ones(120, dtype=torch.bool)
    alive[torch.randperm(120, generator=draws)[:pruned]] = False
    alive = alive.reshape(10, 12)
    given = Context(generator(), initial={"a": initial}, alive={"a": alive})
    scores = criteria[name].make({"a": final * alive}, given)
    mask = Mask({"a": alive})
    first, second = sign * final.abs()[alive], sign * initial.abs()[alive]
    reached = 0
    for cut in range(len(first)):
        quadrant = (first >= first.sort().values[cut]) & (second >= second.sort().values[cut])
        kept = keep_top(scores, mask, {"a": int(quadrant.sum())})["a"]
        assert torch.equal(kept[alive], quadrant)
        reached += 0 < int(quadrant.sum()) < len(first)
    assert reached > 40


def test_snip_is_the_derivative_by_a_factor_on_each_weight() -> None:
    """|dL/dc| at c = 1 where each weight is multiplied by its own c (Lee et al. 2019, equation 5)."""
    x, y = batch()
    scores = score("snip", net, context(net, x, y), examples=8)
    network = net()
    for name, weight in prunable(network).items():
        for place in itertools.product(*map(range, weight.shape)):
            value, losses = float(weight[place].detach()), []
            for factor in (1 + 1e-6, 1 - 1e-6):
                with torch.no_grad():
                    weight[place] = factor * value
                    losses.append(CROSS_ENTROPY(network(x[:8]), y[:8]).item())
            with torch.no_grad():
                weight[place] = value
            assert float(scores[name][place]) == pytest.approx(abs(losses[0] - losses[1]) / 2e-6, abs=1e-8)


def test_gradient_times_weight_is_over_the_whole_training_set_however_it_is_cut() -> None:
    x, y = batch(13)
    network = net()
    CROSS_ENTROPY(network(x), y).backward()
    for parts in (1, 3, 13):
        scores = score("gradient_weight", net, context(net, x, y, parts))
        for name, weight in prunable(network).items():
            assert weight.grad is not None
            assert torch.allclose(scores[name], (weight * weight.grad).abs(), rtol=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_grasp_is_the_weight_times_the_explicit_hessian_times_the_gradient(masked: bool) -> None:
    """Over the weights alone, biases held, and under a mask over the surviving weights alone."""
    x, y = batch()
    plain = net()
    names = list(prunable(plain))
    alive = {name: torch.rand(w.shape, generator=generator(5)) > 0.3 for name, w in prunable(plain).items()}
    if not masked:
        alive = {name: torch.ones_like(bits) for name, bits in alive.items()}

    def build() -> nn.Module:
        network = net()
        with torch.no_grad():
            for name, weight in prunable(network).items():
                weight.mul_(alive[name])
        return network

    network = build()
    weights = [weight.detach() for weight in prunable(network).values()]
    sizes, bits = [w.numel() for w in weights], torch.cat([alive[name].flatten() for name in names])

    def loss(flat: Tensor) -> Tensor:
        parts = [p.view_as(w) for p, w in zip(flat.split(sizes), weights, strict=True)]
        outputs = torch.func.functional_call(network, dict(zip(names, parts, strict=True)), (x,))
        return CROSS_ENTROPY(outputs / 200, y)

    flat = torch.cat([w.flatten() for w in weights])
    hessian = torch.autograd.functional.hessian(loss, flat)[bits][:, bits]
    gradient = torch.autograd.functional.jacobian(loss, flat)[bits]
    expected = flat[bits] * (hessian @ gradient)
    scores = score("grasp", build, context(build, x, y, alive=alive if masked else {}))
    assert torch.allclose(torch.cat([scores[n].flatten() for n in names])[bits], expected, rtol=1e-9, atol=1e-18)
    assert float(expected.abs().max()) > 0


def test_grasp_keeps_the_weights_whose_removal_costs_most_of_the_gradients_norm() -> None:
    """-w Hg is half the first-order change of |g|^2 when the weight goes: high scores must be those that lower it."""
    x, y = batch()
    scores = score("grasp", net, context(net, x, y), temperature=1.0)

    def norm(network: nn.Module) -> float:
        slopes = torch.autograd.grad(CROSS_ENTROPY(network(x), y), list(prunable(network).values()))
        return float(sum((slope**2).sum() for slope in slopes))

    network, shrunk = net(), 1e-6
    for name, weight in prunable(network).items():
        for place in itertools.product(*map(range, weight.shape)):
            before, value = norm(network), float(weight[place].detach())
            with torch.no_grad():
                weight[place] = (1 - shrunk) * value
            change = (norm(network) - before) / shrunk
            with torch.no_grad():
                weight[place] = value
            assert float(scores[name][place]) == pytest.approx(-change / 2, rel=1e-3, abs=1e-8)


def linear_net() -> nn.Module:
    network = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False), nn.ReLU(), nn.Linear(2, 3, bias=False)
    )
    return draw(network, 7)


def test_synflow_is_the_sum_of_the_paths_through_each_weight() -> None:
    scores = score("synflow", linear_net, context(linear_net, torch.randn(1, 3, generator=generator()), torch.zeros(1)))
    layers = [weight.detach().abs() for weight in prunable(linear_net()).values()]
    expected = [torch.zeros_like(layer) for layer in layers]
    for a, b, c, d in itertools.product(range(3), range(4), range(2), range(3)):
        path = layers[0][b, a] * layers[1][c, b] * layers[2][d, c]
        for total, place in zip(expected, ((b, a), (c, b), (d, c)), strict=True):
            total[place] += path
    for found, total in zip(scores.values(), expected, strict=True):
        assert torch.allclose(found, total, rtol=1e-12)


def test_synflow_is_conserved_in_each_layer_and_each_hidden_unit() -> None:
    """Tanaka et al. 2020, theorems 1 and 2: what flows into a unit flows out, so layers have equal sums."""

    def deep() -> nn.Module:
        network = nn.Sequential(
            nn.Conv2d(2, 5, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(5, 4, 3, bias=False), nn.ReLU()
        )
        return draw(nn.Sequential(*network, nn.Flatten(), nn.Linear(16, 3, bias=False)), 8)

    scores = list(score("synflow", deep, context(deep, torch.zeros(1, 2, 4, 4), torch.zeros(1))).values())
    assert [float(s.sum()) for s in scores] == pytest.approx([float(scores[0].sum())] * 3, rel=1e-12)
    assert torch.allclose(scores[0].sum((1, 2, 3)), scores[1].sum((0, 2, 3)), rtol=1e-12)
    assert torch.allclose(scores[1].sum((1, 2, 3)), scores[2].view(3, 4, 4).sum((0, 2)), rtol=1e-12)


def test_synflow_stays_finite_where_float32_overflows() -> None:
    def deep() -> nn.Module:
        layers = [nn.Linear(30, 30, bias=False) for _ in range(40)]
        return draw(nn.Sequential(*layers), 9).float()

    scores = score("synflow", deep, context(deep, torch.zeros(1, 30), torch.zeros(1)))
    assert all(bool(torch.isfinite(s).all()) for s in scores.values())
    assert float(next(iter(scores.values())).max()) > torch.finfo(torch.float32).max


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm], ids=["weight", "spectral"])
@pytest.mark.parametrize("name", ["snip", "grasp", "synflow", "gradient_weight"])
def test_under_a_weight_normalization_the_normalized_weight_is_scored(name: str, norm: Any) -> None:
    def normed() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = nn.Sequential(norm(nn.Linear(4, 5)), nn.ReLU(), norm(nn.Linear(5, 3)))
            return draw(network, 3)

    def plain() -> Any:
        network: Any = net()
        network[1] = nn.ReLU()
        source = normed()
        with torch.no_grad():
            for place in (0, 2):
                network.get_submodule(str(place)).weight.copy_(source.get_submodule(str(place)).weight)
                network.get_submodule(str(place)).bias.copy_(source.get_submodule(str(place)).bias)
        return network

    x, y = batch()
    found, expected = (score(name, build, context(build, x, y)) for build in (normed, plain))
    assert list(found) == list(prunable(normed()))
    for one, other in zip(found.values(), expected.values(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-20)


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm], ids=["weight", "spectral"])
@pytest.mark.parametrize("name", ["snip", "synflow", "gradient_weight"])
def test_layers_that_are_left_alone_count_with_the_weight_they_compute_with(name: str, norm: Any) -> None:
    """A spectral norm of absolute weights is another one than that of the weights."""

    def normed() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return draw(nn.Sequential(norm(nn.Linear(4, 5)), nn.ReLU(), norm(nn.Linear(5, 3))), 3)

    x, y = batch()
    whole = score(name, normed, context(normed, x, y))
    for layer, weight in effective(normed()).items():
        alone = criteria[name].make({layer: weight}, context(normed, x, y))
        assert list(alone) == [layer] and torch.allclose(alone[layer], whole[layer], rtol=1e-9)


class Drawing(nn.Module):
    """Draws in training mode by modules and by functions of torch, and normalizes by batches."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 5)
        self.drop, self.depth, self.output = nn.Dropout(0.5), StochasticDepth(0.5, "row"), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.fc1(x)))
        x = x + self.depth(functional.dropout(self.fc2(self.drop(x)), 0.5, self.training))
        logits: Tensor = self.output(x)
        return logits


def drawing() -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # its constructors draw
        network: Any = draw(Drawing(), 4)
    network.norm.running_mean.fill_(0.5)
    return network


@pytest.mark.parametrize("name", ["snip", "grasp", "gradient_weight", "synflow"])
def test_scores_are_those_of_no_draw_and_leave_the_global_generator_alone(name: str) -> None:
    x, y = batch()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(score(name, drawing, context(drawing, x, y, parts=1)))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_snip_is_scored_with_running_statistics_and_grasp_with_those_of_the_batch() -> None:
    """As the authors of each do."""
    x, y = batch()

    def settled() -> nn.Module:
        network: Any = drawing()
        features = network.fc1(x).detach()
        network.norm.running_mean.copy_(features.mean(0))
        network.norm.running_var.copy_(features.var(0, correction=0))
        return network

    def scores(name: str, build: Callable[[], nn.Module]) -> Tensor:
        return score(name, build, context(build, x, y, parts=1), **({"examples": 12} if name == "snip" else {}))[
            "output.weight"
        ]

    assert torch.equal(scores("grasp", settled), scores("grasp", drawing))  # whatever the running ones are
    assert not torch.allclose(scores("snip", settled), scores("snip", drawing), rtol=0.1)
    network: Any = settled()
    CROSS_ENTROPY(network(x), y).backward()
    assert torch.allclose(scores("snip", settled), (network.output.weight * network.output.weight.grad).abs())


def test_a_weight_that_the_network_does_not_use_scores_zero() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.used(x)
            return logits

    x, y = batch()
    for name in ("snip", "grasp", "gradient_weight", "synflow"):
        scores = score(name, lambda: draw(Idle()), context(lambda: draw(Idle()), x, y))
        assert int(scores["idle.weight"].count_nonzero()) == 0 < int(scores["used.weight"].count_nonzero())


SCORED = [entry.name for entry in criteria]


@pytest.mark.parametrize("name", SCORED)
def test_a_criterion_scores_each_weight_finitely_and_changes_nothing_it_is_given(name: str) -> None:
    x, y = batch()
    network = net()
    weights = effective(network)
    kept = {key: weight.clone() for key, weight in network.state_dict().items()}
    initial = {key: torch.randn(w.shape, generator=generator(6), dtype=torch.float64) for key, w in weights.items()}
    scores = criteria[name].make(weights, context(lambda: net(), x, y, initial=initial))
    assert {key: value.shape for key, value in scores.items()} == {key: value.shape for key, value in weights.items()}
    assert all(bool(torch.isfinite(value).all()) and not value.requires_grad for value in scores.values())
    assert all(torch.equal(network.state_dict()[key], value) for key, value in kept.items())


def test_criteria_of_the_initialization_rank_over_all_layers_and_the_others_in_each() -> None:
    """Lee et al. 2019, Wang et al. 2020 and Tanaka et al. 2020 take the highest scores of the whole network."""
    ranked = {name for name in SCORED if criteria[name].traits.scope == "global"}
    assert ranked == {"snip", "grasp", "synflow"}


def test_synflow_asks_for_a_hundred_rounds_and_the_others_for_one() -> None:
    assert {name: criteria[name].traits.rounds for name in SCORED} == {
        name: 100 if name == "synflow" else 1 for name in SCORED
    }


@pytest.mark.parametrize("name", [name for name in SCORED if criteria[name].traits.dataless])
def test_a_dataless_criterion_scores_without_a_network_or_examples(name: str) -> None:
    weights = {"a": torch.tensor([[0.5, -2.0], [1.0, -0.25]])}
    scores = criteria[name].make(weights, Context(generator(), initial={"a": weights["a"].flip(0)}))
    assert scores["a"].shape == (2, 2)


def test_criteria_that_look_at_data_or_paths_are_not_dataless() -> None:
    assert {name for name in SCORED if not criteria[name].traits.dataless} == {
        "snip",
        "grasp",
        "gradient_weight",
        "synflow",
    }
