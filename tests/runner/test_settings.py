"""When weights are pruned and how much of which layer, batches in parts, settings that do not go together."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lottery.errors import UsageError
from lottery.files.tensors import decode
from lottery.plan.expand import plan
from lottery.plan.jobs import Job
from lottery.pruning.amounts import Pruning
from lottery.pruning.gradual import Gradual
from lottery.pruning.layer_densities import erk
from lottery.pruning.mask import Mask
from lottery.results.record import records
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.training.objective import Objective
from tests.support.restarts import contents, run_until_stopped
from tests.support.settings import LAYERS, context_of, problems, study, tickets


def mask_of(context: RunContext, job: Job) -> Mask:
    return Mask.unpack(*decode(context.store.read(job.key, "mask.safetensors")))


def done(context: RunContext) -> RunContext:
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context


def test_pruning_at_initialization_scores_the_weights_of_the_rewind_point(tmp_path: Path) -> None:
    """The masks are the magnitudes of the initialization, at the densities that two prunings one after another give."""
    context = done(context_of(tmp_path, "prune.when=init"))
    initial = context.networks.network(0).state_dict()
    for level, job in enumerate(tickets(context), start=1):
        mask = mask_of(context, job)
        for layer, size in LAYERS.items():
            keep = size // 2**level
            expected = torch.zeros(size, dtype=torch.bool)
            expected[initial[f"{layer}.weight"].abs().flatten().topk(keep).indices] = True
            assert torch.equal(mask[f"{layer}.weight"].flatten(), expected)


def test_levels_at_initialization_stand_alone_and_need_no_trained_ticket(tmp_path: Path) -> None:
    jobs = plan(study("prune.when=init"), "0" * 64)
    dense, (first, second) = next(j for j in jobs if j.kind == "dense"), [j for j in jobs if j.kind == "ticket"]
    assert first.parent == second.parent == dense.key
    assert first.key != second.key


def test_a_ticket_found_at_initialization_trains_from_there(tmp_path: Path) -> None:
    context = done(context_of(tmp_path, "prune.when=init", "prune.criterion=snip", "prune.scope=global"))
    (job, _) = tickets(context)
    start = starting_point(context, job)
    for name, value in context.networks.network(0).state_dict().items():
        assert torch.equal(start.weights[name], value)


def test_pruning_in_the_course_of_training_follows_the_cubic_schedule() -> None:
    """Zhu & Gupta 2017, equation 1: s_t = s_f (1 - (1 - (t - t_0)/(n dt))^3), per layer and over all of them."""
    sizes = {"a": 1000, "b": 400}
    weights = {name: torch.randn(size, generator=torch.Generator().manual_seed(1)) for name, size in sizes.items()}

    def magnitude(state: Any, names: Any) -> dict[str, torch.Tensor]:
        return {name: state[name].abs() for name in names}

    for target in ({"a": 200, "b": 100}, 300):
        gradual = Gradual(10, 50, 8, target, ["a", "b"], lambda step: magnitude)
        mask = Mask.dense(weights)
        steps = [step for step in range(100) if gradual.due(step)]
        assert steps == [18, 26, 34, 42, 50]
        for step in steps:
            mask = gradual.mask(step, weights, mask)
            pruned = 1 - (1 - (step - 10) / 40) ** 3
            if isinstance(target, dict):
                wanted = {n: sizes[n] - (sizes[n] - target[n]) * pruned for n in sizes}
                assert all(abs(mask.alive()[n] - wanted[n]) <= 0.5 for n in sizes)
            else:
                assert abs(sum(mask.alive().values()) - (1400 - 1100 * pruned)) <= 0.5
        assert mask.alive() == target or sum(mask.alive().values()) == target


def test_a_network_pruned_in_training_ends_at_its_density_and_its_pruned_weights_are_zero(tmp_path: Path) -> None:
    during = "prune.during={start: 4it, end: 20it, every: 4it}"
    context = done(context_of(tmp_path, "prune.when=training", during))
    for level, job in enumerate(tickets(context), start=1):
        mask = mask_of(context, job)
        assert mask.alive() == {f"{layer}.weight": size // 2**level for layer, size in LAYERS.items()}
        packed = context.store.read_tensors(job.key, "weights.safetensors")
        assert {name: len(packed[name]) for name in mask} == mask.alive()


def test_the_early_stop_step_of_a_network_pruned_in_training_is_one_of_its_final_density(tmp_path: Path) -> None:
    during = "prune.during={start: 0it, end: 30it, every: 7it}"
    context = done(context_of(tmp_path, "prune.when=training", during, "train.optimizer.lr=0.1"))
    for job in tickets(context):
        assert context.store.read_json(job.key, "metrics.json")["early_stop"]["step"] == 30


def test_pruning_in_training_stopped_anywhere_continues_to_the_same_bytes(tmp_path: Path) -> None:
    settings = ("prune.when=training", "prune.during={start: 2it, end: 20it, every: 3it}", "prune.criterion=random")
    whole = done(context_of(tmp_path / "whole", *settings))
    request = Request(
        study(*settings), tmp_path, tmp_path / "parts", device="cpu", deterministic=True, checkpoint_seconds=0
    )
    for steps in (41, 12, 20):  # in the first ticket's pruning, again, and in the second's
        run_until_stopped(request, steps)
    done(prepare(request))
    assert contents(tmp_path / "parts") == contents(whole.store.root)


def test_in_rounds_the_scores_are_computed_anew_of_what_survives(tmp_path: Path) -> None:
    """SynFlow in one round prunes whole layers away where 100 do not (Tanaka et al. 2020, figure 1)."""
    alone = ("prune.when=init", "prune.criterion=synflow", "prune.scope=global", "prune.one_shot=[0.02]")
    cuts = [override for override in alone if "one_shot" not in override]
    once = "prune={one_shot: [0.02]}"
    masks = {}
    for rounds in (1, 100):
        recipe = study(once, *cuts, f"prune.rounds={rounds}")
        context = prepare(Request(recipe, tmp_path, tmp_path, device="cpu", deterministic=True))
        (job,) = tickets(context)
        for event in work(context):
            if event.key == job.key:
                assert event.kind in ("start", "progress", "done"), event
        masks[rounds] = mask_of(context, job)
    kept = round(0.02 * sum(LAYERS.values()))
    assert sum(masks[1].alive().values()) == sum(masks[100].alive().values()) == kept
    assert masks[1] != masks[100]
    assert not masks[100].collapsed()


def test_the_criterions_own_number_of_rounds_counts_where_the_recipe_names_none() -> None:
    settings = ("prune.when=init", "prune.criterion=synflow")
    default, hundred = (plan(study(*settings, *more), "0" * 64).jobs for more in ((), ("prune.rounds=100",)))
    one = plan(study(*settings, "prune.rounds=1"), "0" * 64).jobs
    assert set(default) == set(hundred) != set(one)


def test_erk_keeps_the_overall_density_and_the_formulas_share_of_each_layer(tmp_path: Path) -> None:
    context = done(context_of(tmp_path, "prune.scope=erk"))
    total = sum(LAYERS.values())
    shapes = {"fc1.weight": (24, 64), "fc2.weight": (12, 24), "output.weight": (10, 12)}
    for level, job in enumerate(tickets(context), start=1):
        alive = mask_of(context, job).alive()
        assert sum(alive.values()) == total // 2**level
        for name, density in erk(shapes, Fraction(total // 2**level, total)).items():
            assert abs(alive[name] - float(density) * LAYERS[name.removesuffix(".weight")]) <= 1


def test_given_densities_are_reached_layer_by_layer_at_the_last_level(tmp_path: Path) -> None:
    recipe = study("prune={densities: {fc1: 0.25, 'fc*': 0.5}, levels: 2}")
    context = done(prepare(Request(recipe, tmp_path, tmp_path, device="cpu")))
    first, last = (mask_of(context, job).alive() for job in tickets(context))
    assert last == {"fc1.weight": 384, "fc2.weight": 144, "output.weight": 120}
    assert first == {"fc1.weight": 768, "fc2.weight": 204, "output.weight": 120}  # half; sqrt(1/2) of 288 is 203.6


def test_a_density_for_a_layer_the_model_lacks_is_refused() -> None:
    pruning = Pruning("layer", Fraction(0), {}, densities={"conv9": Fraction(1, 2)})
    with pytest.raises(UsageError, match=r"prune.densities: no layer 'conv9'; the model has fc1"):
        pruning.check(Mask.dense({"fc1.weight": torch.ones(3)}))


def test_a_batch_in_parts_gives_the_gradient_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    model = nn.Linear(5, 3).double()
    x, y = torch.randn(17, 5, dtype=torch.float64), torch.randint(3, (17,))
    gradients = []
    for accumulate in (1, 4, 17):
        objective = Objective(
            model, nn.CrossEntropyLoss(), lambda: iter([]), steps_per_epoch=1, accumulate=accumulate, clip=0.3
        )
        objective.x, objective.y = x, y
        loss = objective.closure()
        gradients.append([loss, *(p.grad for p in model.parameters())])
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_the_whole_gradient_is_the_mean_over_all_examples_and_leaves_running_statistics_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    x, y = torch.randn(30, 5, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def parts() -> Iterator[Any]:
        return zip(x.split(10), y.split(10), strict=True)

    objective = Objective(model, nn.MSELoss(), parts, steps_per_epoch=3)
    loss = objective.whole()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = torch.stack([nn.functional.mse_loss(model(a), b) for a, b in parts()]).sum() / 3
    torch.testing.assert_close(loss, expected.detach())
    grads = torch.autograd.grad(expected, list(model.parameters()))
    for p, g in zip(model.parameters(), grads, strict=True):
        torch.testing.assert_close(p.grad, g)


def test_gd_takes_the_whole_training_set_at_each_step(tmp_path: Path) -> None:
    context = context_of(tmp_path, "train.optimizer={name: gd, lr: 0.1}", "train.batch_size=all")
    job = next(job for job in context.plan if job.kind == "dense")
    training = training_of(context, job)
    before = [p.detach().clone() for p in training.model.parameters()]
    assert training.timeline.batch_size == context.data(0).train_size == 1437 - 200
    steps: Any = training.steps()
    next(steps)
    steps.close()
    reference = context.networks.network(0)
    x, y = (torch.cat(parts) for parts in zip(*context.data(0).evaluation("train"), strict=True))
    grads = torch.autograd.grad(nn.functional.cross_entropy(reference(x), y), list(reference.parameters()))
    for p, start, g in zip(training.model.parameters(), before, grads, strict=True):
        torch.testing.assert_close(p.detach(), start - 0.1 * g, rtol=1e-5, atol=1e-7)


def test_an_optimizers_own_batch_size_is_part_of_its_keys_only() -> None:
    both = "train.optimizer=[{name: adam, lr: 3e-3}, {name: gd, lr: 0.1, batch_size: all}]"
    jobs = plan(study(both), "0" * 64)
    alone = {job.key for job in plan(study(), "0" * 64)}
    assert {job.key for job in jobs if job.optimizer.name == "adam"} == alone


def refusal(text: str) -> str:
    """The text after the place."""
    return text.split(": ", 1)[1]


def test_settings_an_optimizer_cannot_work_with_are_refused_at_their_line() -> None:
    assert problems("train.optimizer={name: gd, lr: 0.1}")[0].startswith(
        "settings.yaml:9:3: train.batch_size: gd cannot work with this"
    )
    assert problems("train.optimizer={name: gd, lr: 0.1, batch_size: 10}")[0].startswith(
        "--set train.optimizer={name: gd, lr: 0.1, batch_size: 10}: train.optimizer.batch_size: gd cannot work with"
    )
    assert (
        "train.precision: lbfgs cannot work with this"
        in problems("train.optimizer={name: lbfgs, lr: 1}", "train.precision=bf16")[0]
    )
    assert (
        "train.accumulate: sam cannot work with this"
        in problems("train.optimizer={name: sam, lr: 0.1, optimizer: momentum}", "train.accumulate=2")[0]
    )
    assert problems("train.optimizer={name: muon, lr: 0.1}") == [
        "--set train.optimizer={name: muon, lr: 0.1}: train.optimizer: muon needs the key 'optimizer'"
    ]


def test_settings_of_pruning_that_contradict_each_other_are_refused() -> None:
    assert [refusal(each) for each in problems("prune.when=training")] == [
        "prune: when: training needs `during: {start: ..., end: ..., every: ...}`"
    ]
    assert (
        "prune.during.end: 5it is not after the start, 10it"
        in problems("prune.when=training", "prune.during={start: 10it, end: 5it, every: 1it}")[0]
    )
    assert "during is for `when: training`" in problems("prune.during={start: 1it, end: 5it, every: 1it}")[0]
    assert "no trained network is there" in problems("prune.when=init", "rewind={to: init, mode: lr}")[0]
    assert "densities exclude fraction" in problems("prune.densities={fc1: 0.1}")[0]
    assert "with scope erk a rate is 0" in problems("prune.scope=erk", "prune.rates={output: 0.5}")[0]


def test_an_optimizer_that_cannot_work_inside_another_is_refused_where_it_is_named() -> None:
    sam = "train.optimizer={name: sam, lr: 0.1, optimizer: %s}"
    assert problems(sam % "{name: lbfgs}")[0].endswith(
        "train.optimizer.optimizer: lbfgs evaluates the loss itself and cannot work inside sam"
    )
    assert problems(sam % "{name: momentum, lr: 0.1}")[0].endswith(
        "train.optimizer.optimizer.lr: is sam's to have, not that of momentum inside it"
    )
    assert problems(sam % "{name: momentum, batch_size: 8}")[0].endswith(
        "train.optimizer.optimizer.batch_size: is sam's to have, not that of momentum inside it"
    )


def test_what_a_package_is_needed_for_says_so_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "curvlinops" else find(name))
    (problem,) = problems("train.optimizer={name: kfac, lr: 0.1}")
    assert problem.endswith(
        "train.optimizer: kfac needs curvlinops, not installed here: pip install 'lottery[curvature]'"
    )


def test_a_batch_smaller_than_its_parts_and_batch_normalization_still_train(tmp_path: Path) -> None:
    for limit in (1002, 1005):  # last batches of 2 and of 5 examples
        context = context_of(
            tmp_path / str(limit),
            "train.accumulate=4",
            "model.norm=batch",
            "train.batch_size=50",
            f"data.limit={limit}",
        )
        done(context)


def test_a_last_batch_of_one_example_is_refused_where_batch_normalization_meets_it(tmp_path: Path) -> None:
    settings = ("model.norm=batch", "train.batch_size=50", "data.limit=1001")
    with pytest.raises(UsageError, match="the last of the batches of 50 would be one of 1001 examples alone"):
        context_of(tmp_path, *settings)
    context_of(tmp_path, "model.norm=layer", *settings[1:])


def test_pruning_in_training_that_ends_before_the_rewind_point_is_refused(tmp_path: Path) -> None:
    during = "prune.during={start: 0it, end: 8it, every: 2it}"
    with pytest.raises(UsageError, match=r"prune\.during: from step 0, or the rewind point, to 8 is no stretch"):
        context_of(tmp_path, "prune.when=training", during, "rewind=10it")


def test_the_optimizers_of_controls_are_checked_like_those_of_the_training() -> None:
    def control(optimizer: str) -> str:
        return f"branches=[{{name: retrain, optimizer: {optimizer}}}]"

    assert "branches.0.optimizer: gd cannot work with this" in problems(control("{name: gd, lr: 0.1}"))[0]
    assert "train.clip: lbfgs cannot work with this" in problems(control("lbfgs"), "train.clip=1.0")[0]
    assert (
        "branches.0.optimizer.rates: rates are for train.optimizer"
        in problems(control("{name: sgd, lr: 0.1, rates: [0.1, 1]}"))[0]
    )


def test_a_control_of_full_batches_is_held_to_the_rewind_point_in_its_own_steps(tmp_path: Path) -> None:
    control = "branches=[{name: retrain, optimizer: {name: gd, lr: 0.1, batch_size: all}}]"
    with pytest.raises(UsageError, match=r"rewind: 5it is not before the end of training at step 2 \(gd\)"):
        context_of(tmp_path, control, "train.length=2ep", "rewind=5it")


def test_a_control_that_transfer_makes_too_is_refused() -> None:
    optimizers = "train.optimizer=[{name: sgd, lr: 0.1}, {name: momentum, lr: 0.1}]"
    same = "branches=[{name: retrain, optimizer: {name: momentum, lr: 0.1, momentum: 0.9}}]"
    assert problems(optimizers, same, "transfer=all")[0].endswith(
        "branches.0: transfer retrains with this optimizer already; leave the branch out"
    )


@pytest.mark.parametrize("norm", ["weight", "spectral"])
def test_weights_of_one_size_are_refused_under_a_norm_of_weights(norm: str) -> None:
    assert (
        f"branches.0: weights of one size have no meaning under the norm {norm}"
        in problems(f"model.norm={norm}", "branches=[constant]")[0]
    )


def test_full_batches_on_other_data_are_all_of_that_data(tmp_path: Path) -> None:
    data = "data={name: mnist1d, samples: 600, validation: 100}"
    control = "branches=[{name: other_data, dataset: {name: mnist1d, samples: 1000, seed: 7}}]"
    recipe = study(data, "train.optimizer={name: gd, lr: 0.1, batch_size: all}", control)
    context = done(prepare(Request(recipe, tmp_path, tmp_path, device="cpu")))
    training = training_of(context, next(job for job in context.plan if job.kind == "branch"))
    assert (context.data(0).train_size, training.timeline.batch_size) == (380, 700)


def test_a_network_that_diverges_before_its_first_rewind_point_is_a_diverged_row(tmp_path: Path) -> None:
    from tests.support.studies import view_of

    context = context_of(tmp_path, "rewind=[5it, 10it]", "train.optimizer={name: sgd, lr: 1e30}")
    list(work(context))
    table = view_of("means", context.plan, records(context.plan, context.store))
    assert [row["dense_diverged"] is not None for row in table] == [True, True]


def test_labels_of_optimizers_with_others_inside_are_readable() -> None:
    from lottery.analysis.labels import optimizer_labels

    sams = "train.optimizer=[{name: sam, lr: 0.1, optimizer: momentum}, {name: sam, lr: 0.1, optimizer: {name: adam}}]"
    assert optimizer_labels(study(sams).train.optimizer) == ["sam(optimizer=momentum)", "sam(optimizer=adam)"]


def test_a_batch_size_of_nothing_is_none_given() -> None:
    assert study("train.optimizer={name: adam, lr: 3e-3, batch_size: null}") == study()


def test_bf16_on_a_processor_without_it_says_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for capability, told in (("AVX2", 1), ("AVX512", 0)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        caplog.clear()
        context_of(tmp_path, "train.precision=bf16")
        assert [record.getMessage().startswith("train.precision: this processor") for record in caplog.records] == (
            [True] * told
        )
    caplog.clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    context_of(tmp_path)
    assert not caplog.records


@pytest.mark.parametrize(("norm", "fine"), [("batch", True), ("group", True), ("none", False), ("spectral", False)])
def test_norms_are_drawn_only_where_the_model_has_some(norm: str, fine: bool) -> None:
    overrides = ("init={name: kaiming_normal, norms: uniform}", f"model.norm={norm}")
    if fine:
        assert study(*overrides).init.args == {"norms": "uniform"}
    else:
        assert f"init.norms: with norm: {norm} the model has no normalization" in problems(*overrides)[0]
