"""Running statistics of networks that are measured with a mask alone, against torch's own average and by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from lottery import registry
from lottery.catalogue.branches._learned import Bernoulli, learn_masks
from lottery.errors import UsageError
from lottery.files.tensors import decode
from lottery.plan.expand import plan
from lottery.plan.jobs import Job
from lottery.plan.keys import branch_identity
from lottery.pruning.mask import Mask
from lottery.pruning.scoring import Weights
from lottery.recipe.entry_rules import keeps_statistics
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import READINGS
from lottery.recipe.schema import Recipe
from lottery.results.record import Record, records
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.training import running_statistics as recalibration
from lottery.training.objective import Batch, without_a_last_one_alone
from lottery.training.running_statistics import check_recalibration, recalibrate, running_statistics
from lottery.training.trainer import Diverged, Training
from lottery.values import Component
from tests.support.levels import EVERYWHERE, FakeLevel, branch
from tests.support.micro import micro_text
from tests.support.restarts import contents, run_until_stopped

TEXT = micro_text(
    "data.limit=330",
    "model={name: lenet, widths: [24, 12], norm: batch}",
    "train.optimizer.lr=5e-3",
    "train.length=24it",
    "train.evaluate_every=8it",
    "prune.levels=1",
    "rewind=4it",
    "branches=["
    "supermask, "
    "{name: supermask, weights: constant, as: signs}, "
    "{name: edge_popup, optimizer: {name: momentum, lr: 1.0}}, "
    "{name: learned_supermask, optimizer: {name: momentum, lr: 50.0}}]",
)


MASKS = "branches=[supermask, edge_popup, learned_supermask]"


def study(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "masks.yaml", overrides)


def context_of(folder: Path, *overrides: str) -> RunContext:
    return prepare(Request(study(*overrides), folder, folder, device="cpu", deterministic=True, checkpoint_seconds=0))


def run(context: RunContext) -> dict[str, Record]:
    list(work(context))
    return {
        r.job.branch.label if r.job.branch else r.job.kind: r for r in records(context.plan, context.store).values()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, dict[str, Record]]:
    context = context_of(tmp_path_factory.mktemp("masks"))
    return context, run(context)


def convolutional(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *more, nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3, momentum=None)
    )


def parts(sizes: list[int]) -> list[Batch]:
    draws = torch.Generator().manual_seed(1)
    x, y = 2 + 3 * torch.randn(sum(sizes), 2, 8, 8, generator=draws), torch.zeros(sum(sizes))
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def effective_weight(model: nn.Module, path: str) -> Tensor:
    layer: Any = model.get_submodule(path)
    weight: Tensor = layer.weight
    return weight.detach().clone()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_statistics_are_torchs_cumulative_average_to_the_bit_whatever_they_were() -> None:
    model: Any = convolutional()
    other = convolutional()
    model[1].running_var.fill_(torch.nan)
    model[1].num_batches_tracked.fill_(77)
    for _ in range(2):  # the second time from the statistics of the first
        recalibrate(model, parts([8, 8, 5]))
        update_bn(parts([8, 8, 5]), other)
        assert same(state(model), state(other))
    assert model.training and (model[1].momentum, model[-1].momentum) == (0.1, None)


def test_a_last_batch_of_one_example_joins_the_one_before() -> None:
    model, other = convolutional(), convolutional()
    recalibrate(model, parts([8, 8, 1]))
    update_bn(parts([8, 9]), other)
    assert same(state(model), state(other))


def test_all_but_the_normalizations_evaluates_and_no_global_generator_is_drawn_from() -> None:
    """Dropout, drawn masks and power iterations would each change the statistics, or draw."""
    model: Any = convolutional(nn.Dropout(0.5), nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1)))
    learn_masks(model[:1], lambda name, weight: Bernoulli(torch.full(weight.shape, 0.4)))
    model[2].eval()
    plain: Any = convolutional(nn.Identity(), nn.Conv2d(4, 4, 1))
    for layer, other in ((0, 0), (4, 4), (5, 5)):
        model.eval()
        with torch.no_grad():
            plain[other].weight.copy_(model[layer].weight)
            plain[other].bias.copy_(model[layer].bias)
    model.train()
    model[2].eval()
    before, modes, draws = state(model), [module.training for module in model.modules()], torch.get_rng_state()
    recalibrate(model, parts([8, 8]))
    update_bn(parts([8, 8]), plain)
    after = state(model)
    assert torch.equal(torch.get_rng_state(), draws)
    assert [module.training for module in model.modules()] == modes
    for name, value in state(plain).items():
        if "running" in name:
            torch.testing.assert_close(after[name], value)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        f"{layer}.{name}" for layer in (1, 6) for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_a_network_without_running_statistics_is_left_alone_and_no_batch_is_made() -> None:
    def never() -> Iterator[Batch]:
        raise AssertionError("asked for a batch")
        yield

    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False))
    before = state(model)
    recalibrate(model, never())
    assert same(state(model), before) and model.training


@pytest.mark.parametrize(
    "layer", [registry.normalizations["switchable"].make(2, True), nn.InstanceNorm2d(2, track_running_stats=True)]
)
def test_layers_that_update_bn_passes_over_are_averaged_too(layer: Any) -> None:
    """Of whole maps: the mean over batches of the mean of each channel, and of its unbiased variance."""
    batches = parts([6, 4])
    recalibrate(layer, batches)
    means = [x.mean((0, 2, 3)) for x, _ in batches]
    torch.testing.assert_close(layer.running_mean, sum(means) / 2)
    over = (0, 2, 3) if not isinstance(layer, nn.InstanceNorm2d) else (2, 3)
    variances = [x.var(over) if len(over) == 3 else x.var(over).mean(0) for x, _ in batches]
    torch.testing.assert_close(layer.running_var, sum(variances) / 2)
    assert layer.momentum == 0.1


def test_a_pass_that_breaks_off_leaves_modes_and_momenta_as_they_were() -> None:
    def broken() -> Iterator[Batch]:
        yield from parts([4, 4, 4])
        raise KeyError("no more")

    model = convolutional().eval()
    with pytest.raises(KeyError):
        recalibrate(model, broken())
    assert (model[1].momentum, model[-1].momentum) == (0.1, None)
    assert not any(module.training for module in model.modules())


def test_a_layer_that_averages_in_a_way_of_its_own_is_refused_by_name() -> None:
    layer = nn.Module()
    layer.register_buffer("running_mean", torch.zeros(3))
    with pytest.raises(UsageError, match=r"model: 0 \(Module\) keeps running statistics and has no `momentum`"):
        check_recalibration(nn.Sequential(layer))


# Which keys change, as identities know without torch.


@pytest.mark.parametrize("entry", list(registry.normalizations), ids=lambda entry: entry.name)
def test_the_trait_of_a_normalization_says_whether_it_keeps_running_statistics(entry: Any) -> None:
    if entry.traits.weight:
        entry.make(model := nn.Linear(3, 3))
        kept = running_statistics(model)
    else:
        kept = [value for spatial in (False, True) for value in running_statistics(entry.make(32, spatial))]
    assert entry.traits.running == bool(kept)


def test_a_model_that_does_not_say_its_normalization_may_keep_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    assert keeps_statistics(Component("resnet20")) and keeps_statistics(Component("lenet", {"norm": "batch"}))
    assert not keeps_statistics(Component("lenet")) and not keeps_statistics(Component("resnet20", {"norm": "layer"}))
    assert keeps_statistics(Component("torchvision", {"arch": "vgg11"}))

    def outside(input_shape: tuple[int, ...], classes: int, *, norm: str = "none") -> nn.Module:
        """It may have normalizations beside the one it is asked for."""
        return nn.Linear(1, 1)

    registry.models._load()
    monkeypatch.setattr(registry.models, "_entries", dict(registry.models._entries))
    registry.models.register("outside", source="-")(outside)
    assert keeps_statistics(Component("outside"))


class TrainedLevel(FakeLevel):
    """Its dense network has not moved."""

    @property
    def dense(self) -> Weights:
        return self.rewound.weights


def test_controls_with_untrained_weights_and_no_others_have_the_trait() -> None:
    level = TrainedLevel(other=FakeLevel(seed=1))
    given = {"retrain": {"optimizer": "sgd"}, "other_data": {"dataset": "digits"}}
    for entry in EVERYWHERE:
        args: dict[str, Any] = {key: Component(value) for key, value in given.get(entry.name, {}).items()}
        start = branch(entry.name, level, **args)
        assert entry.traits.mask_alone == (start.spec.untrained or start.mold is not None), entry.name


def test_the_key_of_a_mask_alone_changes_where_there_are_statistics_and_nowhere_else() -> None:
    supermask, plain = Component("supermask"), {"name": "supermask", "version": 1}
    assert branch_identity(supermask, study("model.norm=none", MASKS), {}, None) == plain
    assert branch_identity(supermask, study(), {}, None) == {**plain, "statistics": "recalibrated"}
    assert branch_identity(Component("reinit"), study(), {}, None) == {"name": "reinit", "version": 1}
    for norm in ("none", "layer", "group", "instance", "spectral", "weight"):
        assert not any("statistics" in str(job.identity) for job in plan(study(f"model.norm={norm}", MASKS), "0" * 64))
    masks = [job for job in plan(study(), "0" * 64) if job.identity.get("branch", {}).get("statistics")]
    marked = [job.branch.label for job in masks if job.branch is not None]
    assert marked == ["supermask", "signs", "edge_popup", "learned_supermask"]


# What is measured, recomputed by hand: weights put together, `update_bn`, evaluation.


def evaluated(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    with torch.no_grad():
        scores = model.eval()(x)
    return float(functional.cross_entropy(scores, y)), float((scores.argmax(1) == y).sum()) / len(y)


def by_hand(context: RunContext, weights: dict[str, Tensor]) -> dict[str, float]:
    """Loss and accuracy of a network with statistics of its own."""
    model = context.networks.blank()
    model.load_state_dict(weights)
    x, y = (torch.cat(values) for values in zip(*context.data(0).evaluation("train"), strict=True))
    assert len(x) == 330
    update_bn(list(zip(x.split(50), y.split(50), strict=True)), model)
    found: dict[str, float] = {}
    for part in ("validation", "test"):
        x, y = (torch.cat(values) for values in zip(*context.data(0).evaluation(part), strict=True))
        found[f"{part}_loss"], found[f"{part}_accuracy"] = evaluated(model, x, y)
    return found


def ticket_weights(context: RunContext, found: dict[str, Record], job: Job) -> dict[str, Tensor]:
    """The ticket at the rewind point, read from the store."""
    assert job.point is not None
    point = context.store.read_tensors(job.point, "state.safetensors")
    mask = Mask.unpack(*decode(context.store.read(found["ticket"].job.key, "mask.safetensors")))
    weights = {name.removeprefix("model/"): value for name, value in point.items() if name.startswith("model/")}
    return {name: value * mask[name] if name in mask else value for name, value in weights.items()}


def assert_measured(row: dict[str, Any], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert row[name] == (value if name.endswith("accuracy") else pytest.approx(value, rel=1e-5))


def test_a_supermask_is_measured_with_statistics_of_its_own(finished: Any) -> None:
    context, found = finished
    job, metrics = found["supermask"].job, found["supermask"].metrics
    weights = ticket_weights(context, found, job)
    expected = by_hand(context, weights)
    for when in READINGS:
        assert_measured(metrics[when], expected)
    assert_measured(metrics["curve"][0], {n: v for n, v in expected.items() if n.startswith("validation")})
    stale = context.networks.blank()
    stale.load_state_dict(weights)
    x, y = next(context.data(0).evaluation("test"))
    assert evaluated(stale, x, y)[1] != expected["test_accuracy"]  # the test can fail


@pytest.mark.parametrize("name", ["edge_popup", "learned_supermask"])
def test_learned_masks_are_measured_with_statistics_of_the_evaluated_network(finished: Any, name: str) -> None:
    context, found = finished
    job, metrics = found[name].job, found[name].metrics
    training = training_of(context, job)
    seen: dict[int, dict[str, Tensor]] = {0: effective(training)}
    for _ in training.steps():
        seen[training.step] = effective(training)
    assert training.metrics() == {key: metrics[key] for key in (*READINGS, "curve")}
    for row in [*metrics["curve"], *(metrics[reading] for reading in READINGS)]:
        expected = by_hand(context, seen[row["step"]])
        assert_measured(row, {name: value for name, value in expected.items() if name in row})
    stale = context.networks.blank()
    stale.load_state_dict(seen[23])  # the last step before which nothing was measured
    x, y = next(context.data(0).evaluation("test"))
    assert evaluated(stale, x, y)[1] != by_hand(context, seen[23])["test_accuracy"]  # the test can fail


def effective(training: Training) -> dict[str, Tensor]:
    """The network as it is evaluated, with plain weights; its statistics are those averaged in training."""
    training.model.eval()
    plain = {}
    for name, value in training.model.state_dict().items():
        path, parametrized, rest = name.partition(".parametrizations.weight.")
        if not parametrized:
            plain[name] = value.clone()
        elif rest == "original":
            plain[f"{path}.weight"] = effective_weight(training.model, path)
    training.model.train()
    return plain


def test_recalibration_leaves_the_training_of_a_mask_as_it_was_to_the_bit(finished: Any) -> None:
    context, found = finished
    ends = []
    for recalibrated in (True, False):
        training = training_of(context, found["learned_supermask"].job)
        if not recalibrated:
            training.before_measuring = lambda: None
        list(training.steps())
        ends.append({name: value for name, value in state(training.model).items() if name.endswith("scores")})
    assert len(ends[0]) == 3 and same(*ends)


def test_a_study_of_masks_alone_stopped_anywhere_continues_to_the_same_bytes(finished: Any, tmp_path: Path) -> None:
    context, _ = finished
    request = Request(study(), tmp_path, tmp_path, device="cpu", deterministic=True, checkpoint_seconds=0)
    for steps in (53, 8, 11):  # the second and third sessions end where something is measured, and between
        run_until_stopped(request, steps)
    list(work(prepare(request)))
    assert contents(tmp_path) == contents(context.store.root)


def test_controls_that_train_their_weights_are_not_recalibrated(finished: Any) -> None:
    context, found = finished
    for kind in ("dense", "ticket"):
        training = training_of(context, found[kind].job)
        before = state(training.model)
        training.before_measuring()
        assert same(state(training.model), before)


def test_statistics_of_its_own_need_no_validation_split(tmp_path: Path) -> None:
    context = context_of(tmp_path, "data.validation=0", "branches=[supermask]")
    found = run(context)
    job, metrics = found["supermask"].job, found["supermask"].metrics
    expected = by_hand_without_validation(context, ticket_weights(context, found, job))
    assert metrics["end"]["test_accuracy"] == expected and metrics["early_stop"] is None


def by_hand_without_validation(context: RunContext, weights: dict[str, Tensor]) -> float:
    model = context.networks.blank()
    model.load_state_dict(weights)
    update_bn([x for x, _ in context.data(0).evaluation("train", 50)], model)
    x, y = next(context.data(0).evaluation("test"))
    return evaluated(model, x, y)[1]


def test_steps_of_one_example_are_recalibrated_in_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps of more than one position can be trained one example at a time; the statistics of a joined odd one too."""
    overrides = ("model={name: conv2, width: 4, hidden: 8, norm: batch}", "train.batch_size=1", "data.limit=5")
    context = context_of(tmp_path, *overrides, "branches=[supermask]")
    sizes: list[list[int]] = []
    original = without_a_last_one_alone

    def joined(batches: Iterator[Batch]) -> Iterator[Batch]:
        sizes.append([])
        for x, y in original(batches):
            sizes[-1].append(len(x))
            yield x, y

    monkeypatch.setattr(recalibration, "without_a_last_one_alone", joined)
    run(context)
    assert sizes == [[2, 3], [2, 3]]  # before the validation and before the test split


# Statistics that are not finite.


@pytest.mark.parametrize("validation", [0, 200])
@pytest.mark.parametrize("control", ["supermask, weights: constant", "constant"])
def test_statistics_that_overflow_are_a_divergence_even_where_losses_are_finite(
    tmp_path: Path, control: str, validation: int
) -> None:
    """An infinite variance normalizes to 0: the network is constant, its loss finite. Only with the statistics of the
    rewind point, before the first step, is the loss not finite."""
    branches = f"branches=[{{name: {control}, magnitude: 1e+25}}]"
    found = run(context_of(tmp_path, branches, f"data.validation={validation}"))
    (job,) = [record.job for record in found.values() if record.job.branch]
    record = next(record for record in found.values() if record.job is job)
    assert record.diverged == (4 if "supermask" in control else 0 if validation else 8)
    assert {found[kind].diverged for kind in ("dense", "ticket")} == {None}


@pytest.mark.parametrize("validation", [0, 200])
def test_statistics_that_leave_the_finite_between_evaluations_are_seen_before_anything_is_kept(
    tmp_path: Path, validation: int
) -> None:
    context = context_of(tmp_path, f"data.validation={validation}", "rewind=3it")
    job = next(job for job in context.plan if job.kind == "rewind")
    training = training_of(context, job)
    steps = training.steps()
    next(steps)
    training.statistics[-1][0] = torch.inf
    with pytest.raises(Diverged) as caught:
        list(steps)
    assert caught.value.step == 3


def test_an_untrained_network_whose_outputs_overflow_is_diverged_without_a_validation_split(tmp_path: Path) -> None:
    branches = "branches=[{name: supermask, weights: constant, magnitude: 1e+25}]"
    for validation in (0, 200):
        overrides = (branches, f"data.validation={validation}", "model.norm=none")
        assert run(context_of(tmp_path / str(validation), *overrides))["supermask"].diverged == 4
