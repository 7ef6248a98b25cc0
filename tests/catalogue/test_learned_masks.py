"""Learned masks: whose density is that of the mask, several draws evaluated in turn, and weights that are rescaled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lottery import registry
from lottery.catalogue.branches._learned import Bernoulli, EdgePopup, drawn, learn_masks, masks
from lottery.errors import RecipeError
from lottery.network.build import prunable
from lottery.plan.expand import plan
from lottery.plan.jobs import Job
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.record import Record, records
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.seed import generator
from lottery.training.trainer import Training
from lottery.values import Component
from tests.support.levels import FakeLevel, branch
from tests.support.micro import micro_text
from tests.support.restarts import contents, run_until_stopped
from tests.support.studies import view_of

TEXT = micro_text(
    "data={name: mnist1d, samples: 600, validation: 100}",
    "model.widths=[20, 10]",
    "train.optimizer.lr=5e-3",
    "train.length=24it",
    "train.evaluate_every=8it",
    "prune={fraction: 0.6, levels: 1}",
    "branches=["
    "{name: learned_supermask, as: one, optimizer: {name: momentum, lr: 50}}, "
    "{name: learned_supermask, as: three, draws: 3, optimizer: {name: momentum, lr: 50}}, "
    "{name: learned_supermask, as: rescaled, draws: 3, rescale: true, optimizer: {name: momentum, lr: 50}}]",
)


def study(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "learned.yaml", overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, dict[str, Record]]:
    folder = tmp_path_factory.mktemp("learned")
    context = prepare(Request(study(), folder, folder, device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context, records(context.plan, context.store)


def job_of(context: RunContext, label: str) -> Job:
    return next(job for job in context.plan if job.branch is not None and job.branch.label == label)


def trained_again(context: RunContext, label: str) -> Training:
    training = training_of(context, job_of(context, label))
    with masked(training.model, Mask({}), training.optimizer):
        list(training.steps())
    return training


def trained_model(context: RunContext, label: str) -> Any:
    return training_of(context, job_of(context, label)).model


def parametrization(layer: nn.Module) -> Any:
    return layer.get_submodule("parametrizations.weight.0")


def masks_by_hand(context: RunContext, model: nn.Module, draws: int) -> list[dict[str, Tensor]]:
    """For each draw a uniform number for each weight, in the order of the layers; kept where it is below the
    probability."""
    draw = generator(0, "branch/learned_supermask/1", 0)
    layers = ("fc1", "fc2", "output")
    scores = {name: parametrization(model.get_submodule(name)).scores.detach() for name in layers}
    return [
        {name: scores[name].sigmoid() > torch.rand(scores[name].shape, generator=draw) for name in layers}
        for _ in range(draws)
    ]


@pytest.mark.parametrize(("label", "draws"), [("one", 1), ("three", 3), ("rescaled", 3)])
@torch.no_grad()
def test_what_is_told_is_the_mean_over_networks_made_by_hand_of_each_draw(
    finished: Any, label: str, draws: int
) -> None:
    context, found = finished
    with torch.enable_grad():
        training = trained_again(context, label)
    by_hand = masks_by_hand(context, training.model, draws)
    metrics = found[job_of(context, label).key].metrics
    accuracies, losses = [], []
    x, y = next(context.data(0).evaluation("test"))
    for each in by_hand:
        network = context.networks.network(0).eval()
        for name, bits in each.items():
            weight = network.get_submodule(name).weight
            weight.mul_(bits)
            if label == "rescaled":
                weight.mul_(bits.numel() / int(bits.sum()))
        outputs = network(x)
        accuracies.append((outputs.argmax(1) == y).double().mean().item())
        losses.append(functional.cross_entropy(outputs, y).item())
    assert len(set(losses)) == draws
    assert metrics["end"]["test_accuracy"] == pytest.approx(sum(accuracies) / draws, abs=1e-12)
    assert metrics["end"]["test_loss"] == pytest.approx(sum(losses) / draws, rel=1e-5)
    kept = {name: sum(int(each[name].sum()) for each in by_hand) / draws for name in by_hand[0]}
    assert metrics["alive"] == {f"{name}.weight": pytest.approx(count) for name, count in kept.items()}
    assert metrics["density"] == pytest.approx(sum(kept.values()) / sum(metrics["sizes"].values()))


def test_the_first_of_several_draws_is_the_one_of_a_single_draw(finished: Any) -> None:
    context, _ = finished
    one, three = (trained_model(context, label) for label in ("one", "three"))
    assert torch.equal(parametrization(one.output).threshold, parametrization(three.output).threshold)
    assert one.state_dict().keys() == three.state_dict().keys()


def test_the_network_is_that_of_the_first_draw_again_after_an_evaluation(finished: Any) -> None:
    context, _ = finished
    model = trained_model(context, "three")
    first, seen = parametrization(model.fc1).threshold.clone(), []
    for _ in drawn(model):
        seen.append(parametrization(model.fc1).threshold.clone())
    assert torch.equal(torch.stack(seen), parametrization(model.fc1).thresholds)
    assert torch.equal(parametrization(model.fc1).threshold, first)


def test_masks_of_several_draws_stopped_anywhere_continue_to_the_same_bytes(finished: Any, tmp_path: Path) -> None:
    context, _ = finished
    request = Request(study(), tmp_path, tmp_path, device="cpu", deterministic=True, checkpoint_seconds=0)
    for steps in (85, 23):
        run_until_stopped(request, steps)
    list(work(prepare(request)))
    assert contents(tmp_path) == contents(context.store.root)


def test_rescaling_is_size_over_count_in_training_and_in_evaluation_and_passes_the_gradient_through_it() -> None:
    draws = torch.Generator().manual_seed(1)
    weight, upstream = (torch.randn(6, 7, generator=draws) for _ in range(2))
    masking = Bernoulli(torch.rand(6, 7, generator=draws), rescale=True)
    with torch.no_grad():
        masking.scores.copy_(torch.randn(6, 7, generator=draws))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        out = masking(weight)
    bits = (out != 0).double()
    size, count, c = bits.numel(), bits.sum(), upstream.double() * weight.double()
    assert torch.allclose(out.double(), size / count * weight.double() * bits)
    (out * upstream).sum().backward()
    p = masking.scores.detach().double().sigmoid()
    by_hand = (size / count * c - size / count**2 * (c * bits).sum()) * p * (1 - p)  # of the quotient, bit by bit
    assert masking.scores.grad is not None
    assert torch.allclose(masking.scores.grad.double(), by_hand, rtol=1e-4, atol=1e-6)
    kept = (p > masking.threshold).double()
    assert torch.allclose(masking.eval()(weight).double(), size / kept.sum() * weight.double() * kept)


def test_a_layer_that_keeps_nothing_is_zero_under_rescaling() -> None:
    masking = Bernoulli(torch.ones(3, 4), rescale=True).eval()
    assert torch.equal(masking(torch.ones(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("init", ["delta_orthogonal", "glorot_normal"])
def test_the_density_of_a_learned_mask_counts_kept_weights_that_are_zero(init: str) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3))
    registry.inits[init].make(model, torch.Generator().manual_seed(0))
    assert bool((prunable(model)["0.weight"] == 0).any()) == (init == "delta_orthogonal")
    counts = {"0.weight": 50, "2.weight": 100}
    learn_masks(model, lambda name, weight: EdgePopup(torch.randn(weight.shape), counts[name]))
    (found,) = masks(model)
    assert found.alive() == counts and found.sizes() == {"0.weight": 72, "2.weight": 432}
    learned = nn.Sequential(nn.Conv2d(2, 4, 3))
    registry.inits[init].make(learned, torch.Generator().manual_seed(0))
    learn_masks(learned, lambda name, weight: Bernoulli(torch.full(weight.shape, 0.4)))
    (whole,) = masks(learned)  # each weight has the probability 1/2, above 0.4
    assert whole.density == 1 and whole.collapsed() == []


@pytest.mark.parametrize(
    ("init", "told"), [("delta_orthogonal", True), ("orthogonal", False), ("glorot_normal", False)]
)
def test_only_results_whose_density_was_another_have_a_new_key(init: str, told: bool) -> None:
    some = "branches=[learned_supermask, edge_popup, supermask]"
    found = {
        job.branch.name: job.identity["branch"].get("density")
        for job in plan(study(some, f"init={init}"), "data")
        if job.branch is not None
    }
    here = "of the mask" if init == "delta_orthogonal" else None
    assert found == {"learned_supermask": here, "edge_popup": here, "supermask": None}


def test_inits_that_leave_weights_at_zero_say_so() -> None:
    """Fixup and delta-orthogonal are the only ones of the catalogue."""
    assert {entry.name for entry in registry.inits if entry.traits.zeros} == {"fixup", "delta_orthogonal"}
    for entry in registry.inits:
        if entry.traits.batch or entry.traits.zeros or entry.name == "planted":  # whose network is that of its data
            continue
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 5))
        entry.make(model, torch.Generator().manual_seed(0))
        assert all(bool((weight != 0).all()) for weight in prunable(model).values()), entry.name


def test_a_mask_that_is_rounded_is_one_mask_and_several_draws_of_it_are_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        study("branches=[{name: learned_supermask, evaluate: rounded, draws: 10}]")
    (problem,) = caught.value.problems
    assert "branches.0.draws: evaluate: rounded knows one mask" in problem


@pytest.mark.parametrize("norm", ["weight", "spectral"])
@pytest.mark.parametrize("args", ["scaled: true", "weights: kaiming_constant"])
def test_scaled_weights_are_refused_under_a_norm_of_weights(norm: str, args: str) -> None:
    with pytest.raises(RecipeError) as caught:
        study(f"branches=[{{name: edge_popup, {args}}}]", f"model.norm={norm}")
    assert f"no meaning under the norm {norm}" in caught.value.problems[0]


@pytest.mark.parametrize("weights", ["rewound", "kaiming_constant"])
def test_scaled_weights_of_edge_popup_are_divided_by_the_root_of_the_layers_density(weights: str) -> None:
    level = FakeLevel(density=0.3)
    plain, scaled = (branch("edge_popup", level, weights=weights, scaled=on).weights for on in (False, True))
    alive, sizes = level.mask.alive(), level.mask.sizes()
    for name in level.mask:
        original, k = level.rewound.weights[name], alive[name] / sizes[name]
        if weights == "kaiming_constant":
            expected = original.sign() * (2 / original.shape[1]) ** 0.5
            assert torch.allclose(plain[name], expected)
        else:
            assert torch.equal(plain[name], original)
        assert torch.allclose(scaled[name], plain[name] / k**0.5)
    others = [name for name in plain if name not in level.mask]
    assert others and all(torch.equal(scaled[name], plain[name]) for name in others)


def test_random_signs_are_the_sizes_of_constant_with_signs_of_their_own() -> None:
    level = FakeLevel(model=Component("lenet", {"widths": (200, 100)}))
    free, kept = (branch(name, level, magnitude=2.0) for name in ("random_signs", "constant"))
    assert free.mask == level.mask and (free.spec.first, free.optimizer_state) == (0, None)
    for name in level.mask:
        assert torch.equal(free.weights[name].abs(), kept.weights[name].abs())
        same = (free.weights[name] == kept.weights[name]).sum().item()
        size = free.weights[name].numel()
        assert abs(same - size / 2) < 5 * (size / 4) ** 0.5


def test_the_table_tells_the_mean_of_the_draws(finished: Any) -> None:
    context, found = finished
    (row,) = view_of("means", context.plan, found)
    for label in ("one", "three", "rescaled"):
        assert row[label] == found[job_of(context, label).key].at("best_accuracy")["test_accuracy"]
