"""What tickets cost: multiply-adds against hand counts and torch's own counter, a study counted by hand, equal cost."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lottery import registry
from lottery.analysis.costs import rows
from lottery.analysis.rows import Row
from lottery.errors import DataError, RecipeError
from lottery.plan.expand import plan
from lottery.plan.jobs import Job
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.record import Record
from lottery.results.study import Study, study
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.estimate import _steps, estimate, missing_jobs
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.step_times import OtherJobs
from lottery.store.store import Store
from lottery.structure.multiply_adds import passes, per_layer, per_layer_and_step
from lottery.training.engine import DenseEngine
from lottery.values import Component
from tests.support.brought import MODELS, SHAPE, build
from tests.support.entries import OPTIMIZERS, arguments, make
from tests.support.entries import Study as Problem
from tests.support.micro import micro_text
from tests.support.studies import everything

TEXT = micro_text(
    "data={name: mnist1d, samples: 500, validation: 100}",
    "model.widths=[20, 10]",
    "train.optimizer.lr=5e-3",
    "train.schedule={name: cosine, warmup: 4it}",
    "train.batch_size=40",
    "train.length=20it",
    "train.evaluate_every=6it",
    "rewind=[init, 3it]",
    "seeds=2",
    "branches=[longer_dense]",
)
# 400 training examples: 300 trained on in 7 batches of 40 and one of 20; 100 each for validation and test
FORWARD = 40 * 20 + 20 * 10 + 10 * 10
ALIVE = [FORWARD, 400 + 100 + 50, 200 + 50 + 25]  # halves of each layer
STEP = [3 * alive - first for alive, first in zip(ALIVE, (800, 400, 200), strict=True)]  # no gradient of the images
SEEN = {3: 120, 20: 2 * 300 + 4 * 40}  # examples in so many steps


def recipe(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "costs.yaml", overrides)


def run(folder: Path, *overrides: str) -> RunContext:
    context = prepare(Request(recipe(*overrides), folder, folder, device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context


def costs(folder: Path, *overrides: str) -> list[Row]:
    return rows(study(recipe(*overrides), store=folder, data=folder))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return run(tmp_path_factory.mktemp("costs"))


@pytest.fixture(scope="module")
def table(finished: RunContext) -> list[Row]:
    return costs(finished.store.root)


def counted(name: str, shape: tuple[int, ...], **args: Any) -> dict[str, int]:
    return per_layer(registry.models[name].make(shape, 10, **args), shape)


def test_lenet_takes_a_multiply_add_for_each_of_its_weights() -> None:
    assert counted("lenet", (1, 28, 28)) == {
        "fc1.weight": 784 * 300,
        "fc2.weight": 300 * 100,
        "output.weight": 100 * 10,
    }
    assert sum(counted("lenet", (1, 28, 28)).values()) == 266_200


def test_conv2_takes_one_for_each_weight_and_position() -> None:
    """3x3 kernels on 32x32 positions; one pooling by 2 leaves 64 maps of 16x16."""
    assert counted("conv2", (3, 32, 32)) == {
        "conv1.weight": 3 * 64 * 9 * 32 * 32,
        "conv2.weight": 64 * 64 * 9 * 32 * 32,
        "fc1.weight": 64 * 16 * 16 * 256,
        "fc2.weight": 256 * 256,
        "output.weight": 256 * 10,
    }


@pytest.mark.parametrize(
    ("layer", "shape", "count"),
    [
        (nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), (6, 8, 8), 4 * 4 * 4 * 3 * 9),  # 4x4 positions, 3 maps each
        (nn.Conv1d(4, 4, 5, groups=4), (4, 12), 8 * 4 * 5),  # depthwise
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 27 * 3 * 2 * 8),
        (nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (6, 5, 5), 25 * 6 * 2 * 9),  # each input, 2 maps and 9 places
        (nn.Linear(5, 3), (7, 5), 7 * 5 * 3),
    ],
)
def test_each_kind_of_layer_is_counted_as_by_hand_and_as_by_torch(
    layer: nn.Module, shape: tuple[int, ...], count: int
) -> None:
    assert per_layer(layer, shape) == {"weight": count}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, *shape))
    assert counter.get_total_flops() == 2 * count


def test_a_tied_weight_counts_each_time_it_is_used() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert per_layer(model, (3,)) == {"0.weight": 18}


SMALL: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    **dict.fromkeys(("lenet", "mlp", "deep_linear", "highway"), ((40,), {})),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), ((3, 16, 16), {"width": 8})),
    "lenet5": ((3, 16, 16), {"channels": (2, 3), "widths": (5, 4)}),
    "torchvision": ((3, 32, 32), {"arch": "mobilenet_v3_small"}),
    "timm": ((3, 32, 32), {"arch": "resnet10t"}),
    "densenet": ((3, 8, 8), {"depth": 16, "bottleneck": True, "compression": 0.5}),
}


def flops_of_a_step(model: nn.Module, shape: tuple[int, ...]) -> int:
    """What torch counts of the forward and the backward pass of one example, two for a multiply-add."""
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape)).sum().backward()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", [entry.name for entry in registry.models])
def test_every_model_takes_as_many_as_torch_counts(name: str) -> None:
    shape, args = SMALL.get(name, ((3, 8, 8), {"width": 4}))
    model = registry.models[name].make(shape, 10, **args).eval()
    counts = per_layer(model, shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *shape))
    assert 2 * sum(counts.values()) == counter.get_total_flops()
    steps = per_layer_and_step(model, shape)
    if name != "torchvision":  # its grouped convolutions, whose backward pass torch counts as if they had one group
        assert 2 * sum(steps.values()) == flops_of_a_step(model, shape)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    for name, count in counts.items():
        assert count and count % sizes[name] == 0 and steps[name] in (2 * count, 3 * count)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "own"])  # its bilinear layer torch does not count
def test_a_step_of_recurrent_attending_tied_and_word_models_takes_as_many_as_torch_counts(name: str) -> None:
    model = build(name).eval()
    assert 2 * sum(per_layer_and_step(model, SHAPE).values()) == flops_of_a_step(model, SHAPE)


def test_a_step_of_torchvisions_resnet_takes_as_many_as_torch_counts() -> None:
    model, shape = registry.models["torchvision"].make((3, 32, 32), 10, arch="resnet18").eval(), (3, 32, 32)
    assert 2 * sum(per_layer_and_step(model, shape).values()) == flops_of_a_step(model, shape)


def test_a_step_of_lenet_takes_two_forward_passes_of_its_first_layer_and_three_of_the_others() -> None:
    steps = per_layer_and_step(registry.models["lenet"].make((1, 28, 28), 10), (1, 28, 28))
    assert steps == {"fc1.weight": 2 * 235_200, "fc2.weight": 3 * 30_000, "output.weight": 3 * 1_000}
    assert 3 * 266_200 / sum(steps.values()) == pytest.approx(1.417, abs=5e-4)  # what it was taken for


class Shortcut(nn.Module):
    """Two layers read the input, one of them through what has no parameters."""

    def __init__(self, normalized: bool):
        super().__init__()
        self.norm = nn.BatchNorm2d(3) if normalized else nn.Identity()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut, self.output = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        made = self.b(torch.relu(self.a(x))) + self.shortcut(torch.relu(x))
        out: torch.Tensor = self.output(made.mean((2, 3)))
        return out


@pytest.mark.parametrize("normalized", [False, True])
def test_every_layer_that_reads_the_input_is_spared_a_gradient_and_none_behind_parameters(normalized: bool) -> None:
    model, first = Shortcut(normalized).eval(), 3 if normalized else 2
    steps = per_layer_and_step(model, (3, 6, 6))
    assert steps == {
        "a.weight": first * 36 * 4 * 27,
        "b.weight": 3 * 36 * 4 * 36,
        "shortcut.weight": first * 36 * 4 * 3,
        "output.weight": 3 * 20,
    }
    assert 2 * sum(steps.values()) == flops_of_a_step(model, (3, 6, 6))


def test_a_model_counts_the_same_in_training_mode_and_stays_in_it() -> None:
    model = registry.models["lenet"].make((40,), 10, norm="batch", dropout=0.5).train()
    counts = per_layer(model, (40,))
    assert all(module.training for module in model.modules())
    assert counts == per_layer(model.eval(), (40,))


def test_a_study_costs_what_is_counted_by_hand(table: list[Row]) -> None:
    assert [(row["rewind"], row["level"], row["n"]) for row in table] == [
        (None, 0, 2),
        ("init", 1, 2),
        ("init", 2, 2),
        ("3it", 1, 2),
        ("3it", 2, 2),
    ]
    for row in table:
        level, shared = row["level"], 3 if row["rewind"] == "3it" else 0
        examples = SEEN[20] - SEEN.get(shared, 0)  # of each ticket
        assert row["density"] == ALIVE[level] / FORWARD
        assert row["trainings"] == 1 + level and type(row["trainings"]) is type(row["steps"]) is int
        assert row["steps"] == 20 + level * (20 - shared)
        assert row["madds_dense"] == STEP[0] * (SEEN[20] + level * examples)
        assert row["madds_sparse"] == STEP[0] * SEEN[20] + examples * sum(STEP[1 : level + 1])
        assert (row["example_madds_dense"], row["example_madds_sparse"]) == (FORWARD, ALIVE[level])
        assert row["total_trainings"] == 2 * row["trainings"] and row["total_steps"] == 2 * row["steps"]
        assert row["total_madds_dense"] == 2 * row["madds_dense"]
        assert row["total_madds_sparse"] == 2 * row["madds_sparse"]
        assert row["note"] == ""


def test_evaluations_are_counted_by_the_rows_of_the_curves_and_the_readings_of_the_test_set(
    finished: RunContext, table: list[Row]
) -> None:
    """Steps 0, 6, 12, 18, 20 of a dense network, and 3, 6, 12, 18, 20 of a ticket; tests at one to three steps."""
    expected: dict[tuple[str | None, int], float] = {}
    for job in finished.plan:
        if job.kind in ("dense", "ticket"):
            metrics = finished.store.read_json(job.key, "metrics.json")
            examples = 5 * 100 + 100 * len({20, metrics["early_stop"]["step"], metrics["best_accuracy"]["step"]})
            place = (label(job), job.level)
            expected[place] = expected.get(place, 0.0) + FORWARD * examples / 2
    for row in table:
        trunk = [(row["rewind"], level) for level in range(1, row["level"] + 1)]
        assert row["evaluation_madds"] == sum(expected[place] for place in [(None, 0), *trunk])


def label(job: Job) -> str | None:
    """Where a ticket or branch goes back to; None for the dense network."""
    return None if job.rewind is None else str(job.rewind.to) if job.rewind.to.value else "init"


def test_seconds_are_those_of_the_jobs_with_the_rewind_points_once(finished: RunContext, table: list[Row]) -> None:
    spent: dict[tuple[str | None, int], float] = {}
    for job in finished.plan:
        if job.branch is None:
            place = (label(job) if job.level else None, job.level)
            manifest = finished.store.find(job.key)
            assert manifest is not None
            spent[place] = spent.get(place, 0.0) + manifest.seconds
    for row in table:
        trunk = [(row["rewind"], level) for level in range(1, row["level"] + 1)]
        assert row["total_seconds"] == pytest.approx(sum(spent[place] for place in [(None, 0), *trunk]))


def test_trials_of_the_learning_rate_stand_in_columns_of_their_own_and_in_the_total(tmp_path: Path) -> None:
    optimizer = "train.optimizer={name: sam, optimizer: momentum, rates: [1e-3, 1e-2]}"
    settings = (optimizer, "tune={trials: 3, seeds: [7, 8]}", "rewind=init", "prune.levels=1", "seeds=1")
    run(tmp_path, *settings)
    (dense, ticket) = costs(tmp_path, *settings)
    two_passes = 2 * STEP[0] * SEEN[20]  # SAM takes two gradients a step
    for row in (dense, ticket):
        assert (row["tuning_trainings"], row["tuning_steps"]) == (6, 120)
        assert row["tuning_madds_dense"] == 6 * two_passes
    assert (dense["madds_dense"], dense["total_madds_dense"]) == (two_passes, 7 * two_passes)
    assert (ticket["total_trainings"], ticket["total_steps"]) == (8, 160)
    assert ticket["total_madds_sparse"] == 7 * two_passes + two_passes * STEP[1] / STEP[0]


@pytest.mark.parametrize(
    ("optimizer", "made"),
    [
        (Component("adam"), 1),
        (Component("sam", {"optimizer": Component("momentum"), "lr": 0.1}), 2),
        (Component("svrg", {"lr": 0.1}), 2.2),  # two gradients a step, and of the whole set every 5 passes
        (Component("svrg", {"lr": 0.1, "epochs": 1}), 3),
        (Component("kfac", {"lr": 0.1, "every": 10}), 1.1),
        (Component("kfac", {"lr": 0.1, "fisher": "type-2"}), None),
        (Component("lbfgs"), None),
        (Component("cg"), None),
        (Component("hessian_free"), None),
    ],
)
def test_optimizers_that_need_more_than_one_pass_a_step_say_so(optimizer: Component, made: float | None) -> None:
    assert passes(optimizer) == made


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_makes_as_many_passes_as_it_says(name: str) -> None:
    """Counted as examples that go through the model while it trains; over five epochs, so that svrg sees all once."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    problem, seen = Problem(name, (6,), 3), list[int]()
    model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    optimizer = make(name, model)
    objective = problem.objective(model, optimizer)
    steps = 5 * problem.steps_per_epoch
    for step in range(steps):
        objective.x, objective.y = problem.batch(step)
        optimizer.step(objective.closure)  # type: ignore[arg-type]
    told = passes(Component(name, arguments(name)))
    if told is None:
        assert sum(seen) > steps * problem.size
    else:
        assert sum(seen) == pytest.approx(told * steps * problem.size)


def test_an_optimizer_whose_passes_the_training_decides_is_noted(finished: RunContext) -> None:
    planned = plan(recipe("train.optimizer=lbfgs", "rewind=init"), finished.plan.fingerprint)
    for row in rows(Study(planned, sized(planned), Store(Path("no-store")), finished.store.root)):
        assert "lbfgs makes more than one pass a step, counted as one" in row["note"]
        assert "seconds without the rewind points" in row["note"]


def sized(planned: Any, **what: Any) -> dict[str, Record]:
    """Made-up records of trainings of 20 steps, with the sizes of the layers."""
    sizes = {"fc1.weight": 800, "fc2.weight": 200, "output.weight": 100}
    found = {}
    for key, record in everything(planned, **what).items():
        alive = {name: size // 2**record.job.level for name, size in sizes.items()}
        metrics = {**record.metrics, "sizes": sizes, "alive": alive}
        if "end" in metrics:
            metrics["end"] = {**metrics["end"], "step": 20}
        found[key] = replace(record, metrics=metrics)
    return found


def test_one_shot_tickets_cost_two_trainings_each(finished: RunContext) -> None:
    one_shot = recipe("rewind=3it").model_copy(
        update={"prune": recipe().prune.model_copy(update={"one_shot": (0.5, 0.1), "levels": 2})}
    )
    planned = plan(one_shot, finished.plan.fingerprint)
    table = rows(Study(planned, sized(planned), Store(Path("no-store")), finished.store.root))
    assert [(row["trainings"], row["steps"]) for row in table] == [(1, 20), (2, 37), (2, 37)]


def test_pruning_at_initialization_costs_one_training_and_the_dense_network_to_the_rewind_point(
    finished: RunContext,
) -> None:
    planned = plan(recipe("rewind=3it", "branches=[]", "prune.when=init"), finished.plan.fingerprint)
    table = rows(Study(planned, sized(planned), Store(Path("no-store")), finished.store.root))
    assert [(row["trainings"], row["steps"]) for row in table] == [(1, 20), (1, 20), (1, 20)]
    for row in table[1:]:
        after = SEEN[20] - SEEN[3]
        assert row["madds_dense"] == STEP[0] * SEEN[20]
        assert row["madds_sparse"] == STEP[0] * SEEN[3] + STEP[row["level"]] * after


def test_pruning_in_training_is_counted_as_dense_until_it_ends(finished: RunContext) -> None:
    during = "prune.during={start: 1it, end: 10it, every: 2it}"
    planned = plan(recipe("rewind=init", "branches=[]", "prune.when=training", during), finished.plan.fingerprint)
    table = rows(Study(planned, sized(planned), Store(Path("no-store")), finished.store.root))
    for row in table[1:]:
        until = 300 + 2 * 40  # examples in ten steps
        assert row["madds_sparse"] == STEP[0] * until + STEP[row["level"]] * (SEEN[20] - until)
        assert "counted as dense until pruning ends" in row["note"]


def test_a_diverged_training_costs_what_it_took_until_then(finished: RunContext) -> None:
    planned = plan(recipe("rewind=init", "branches=[]", "prune.levels=1", "seeds=1"), finished.plan.fingerprint)
    dense = {k: r for k, r in sized(planned).items() if r.job.kind == "dense"}
    ticket = {k: r for k, r in sized(planned, diverged=8).items() if r.job.kind == "ticket"}
    (_, row) = rows(Study(planned, {**dense, **ticket}, Store(Path("no-store")), finished.store.root))
    assert (row["steps"], row["madds_dense"]) == (28, STEP[0] * (SEEN[20] + 300))
    assert "1 of 1 diverged, counted up to there" in row["note"]
    assert row["ticket"] is None


def test_unfinished_searches_and_mixed_environments_are_noted(finished: RunContext) -> None:
    whole = study(recipe(), store=finished.store.root, data=finished.store.root)
    found = dict(whole.found)
    first, second = [key for key, r in found.items() if r.job.kind == "ticket" and r.job.level == 2][:2]
    manifest = found[first].manifest
    found[first] = replace(found[first], manifest=replace(manifest, environment={**manifest.environment, "torch": "9"}))
    del found[second]
    notes = {(row["rewind"], row["level"]): row["note"] for row in rows(replace(whole, found=found))}
    places = {key: (label(whole.plan.jobs[key]), 2) for key in (first, second)}
    assert "seconds of different machines, threads or versions" in notes[places[first]]
    assert "1 of 2 searches not finished" in notes[places[second]]
    assert notes["init", 1] == notes["3it", 1] == ""


def test_without_the_data_the_costs_are_not_guessed(tmp_path: Path) -> None:
    planned = plan(recipe("data={name: image_folder, folder: gone, validation: 100}"), "f" * 64)
    with pytest.raises(DataError, match="gone"):
        rows(Study(planned, everything(planned), Store(tmp_path), tmp_path))


def longer(context: RunContext, level: int, rewind: str) -> Job:
    return next(job for job in context.plan if job.branch and (label(job), job.level, job.seed) == (rewind, level, 0))


@pytest.mark.parametrize(
    ("level", "rewind", "total"), [(1, "init", 40), (2, "init", 60), (1, "3it", 37), (2, "3it", 54)]
)
def test_longer_dense_trains_as_many_steps_as_the_search_on_a_schedule_drawn_out(
    finished: RunContext, level: int, rewind: str, total: int
) -> None:
    """The recipe: (s + 1)/4 of half a cosine for 4 steps, then the cosine, over 20 steps, measured every 6."""
    job = longer(finished, level, rewind)
    training = training_of(finished, job)
    assert (training.step, training.timeline.stop, training.timeline.total) == (0, total, total)
    for step in range(total):
        at = step * 20 // total
        expected = 0.5 * (1 + math.cos(math.pi * at / 20)) * min(1, (at + 1) / 4)
        assert training.multiplier(step) == pytest.approx(expected, rel=1e-12)
    metrics = finished.store.read_json(job.key, "metrics.json")
    every = Fraction(6 * total, 20)
    assert [row["step"] for row in metrics["curve"]] == [*(math.ceil(i * every) for i in range(4)), total]
    assert metrics["density"] == 1


def test_the_accuracy_at_equal_cost_stands_beside_ticket_and_dense(finished: RunContext, table: list[Row]) -> None:
    """And is None for the dense network itself, and where the recipe has no such branch."""
    for row in table:
        jobs = [job for job in finished.plan if job.branch and (label(job), job.level) == (row["rewind"], row["level"])]
        read = [finished.store.read_json(job.key, "metrics.json")["best_accuracy"]["test_accuracy"] for job in jobs]
        assert row["equal_cost"] == (pytest.approx(sum(read) / 2) if row["level"] else None)
        assert row["equal_cost_n"] == (2 if row["level"] else 0)
    assert all(row["equal_cost"] is None for row in costs(finished.store.root, "branches=[]"))


def test_longer_dense_of_level_one_is_a_dense_network_trained_twice_as_long_to_the_bit(tmp_path: Path) -> None:
    settings = ("train.schedule=constant", "rewind=init", "prune.levels=1", "seeds=1")
    once = run(tmp_path / "once", *settings)
    doubled = ("train.length=40it", "train.evaluate_every=12it", "branches=[]")
    twice = run(tmp_path / "twice", *settings, *doubled)
    dense = next(job for job in twice.plan if job.kind == "dense")
    job = longer(once, 1, "init")
    assert once.store.read_json(job.key, "metrics.json") == twice.store.read_json(dense.key, "metrics.json")
    training = training_of(once, job)
    list(training.steps())
    trained = twice.store.read_tensors(dense.key, "weights.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in training.model.state_dict().items())


def test_the_estimate_knows_that_a_longer_training_takes_longer(tmp_path: Path) -> None:
    """With all else done: the steps of the two longer trainings, at the seconds a step of the dense network's."""
    settings = ("rewind=3it", "seeds=1")
    done = run(tmp_path, *settings, "branches=[]")
    (dense,) = (done.store.find(job.key) for job in done.plan if job.kind == "dense")
    assert dense is not None
    left = estimate(prepare(Request(recipe(*settings), tmp_path, tmp_path, device="cpu", deterministic=True)))
    assert left.missing == 2
    assert left.seconds == pytest.approx((37 + 54) * dense.seconds / 17)


def test_steps_that_take_long_are_timed_for_seconds_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only steps move: 12 quick ones are timed, two of those that take two seconds each."""
    clock = {"now": 0.0, "steps": 0.0}
    monkeypatch.setattr("lottery.runner.estimate.time.perf_counter", lambda: clock["now"])
    compute = DenseEngine.step
    for seconds, steps in ((0.01, 2 + 12), (2.0, 2 + 2)):
        clock["steps"] = 0
        monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / f"cache-{steps}"))

        def step(*given: Any, seconds: float = seconds) -> Any:
            clock["now"] += seconds
            clock["steps"] += 1
            return compute(*given)

        monkeypatch.setattr(DenseEngine, "step", step)
        context = prepare(Request(recipe("seeds=1", "branches=[]"), tmp_path, tmp_path, device="cpu"))
        left = sum(_steps(context, job) for job in missing_jobs(context))
        for _ in range(2):  # the second time nothing is timed
            assert (estimate(context).seconds, clock["steps"]) == (pytest.approx(seconds * left), steps)
        assert estimate(context).source == "from a few steps timed here before"


def test_steps_of_another_recipe_take_what_finished_ones_of_the_same_network_took(tmp_path: Path) -> None:
    """Of other seeds, lengths and pruning; with another batch size or network a few steps are timed."""
    done = run(tmp_path, "seeds=1", "branches=[]", "rewind=init")
    dense = [done.store.find(job.key) for job in done.plan if job.kind == "dense"]
    assert dense[0] is not None and len(dense) == 1
    length = next(job for job in done.plan if job.kind == "dense").identity["training"]["length"]
    each = dense[0].seconds / int(length.removesuffix("it"))

    def told(*settings: str) -> Any:
        asked = recipe("seeds=[7]", "branches=[]", "rewind=init", "prune.levels=0", *settings)
        return estimate(prepare(Request(asked, tmp_path, tmp_path, device="cpu", deterministic=True)))

    other = told("train.length=60it")
    assert (other.measured, other.source) == (True, "from finished jobs of other recipes in the store")
    assert other.seconds == pytest.approx(60 * each)
    for settings in ("train.batch_size=7", "model.widths=[5]"):
        assert (told(settings).measured, told(settings).source) == (False, "from a few steps timed here before")


def test_the_plan_of_a_sweep_reads_a_store_once_for_all_its_points_and_optimizers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three optimizers and two points, four of six dense networks are like finished ones, and none of the plan's."""
    optimizers = [f"{{name: {name}, lr: {lr}}}" for name, lr in (("sgd", 0.1), ("adam", 1e-3), ("momentum", 0.05))]
    settings = ("seeds=1", "branches=[]", "rewind=init", "prune.levels=0")
    run(tmp_path, *settings, f"train.optimizer=[{', '.join(optimizers[:2])}]")
    run(tmp_path, *settings, f"train.optimizer=[{', '.join(optimizers[:2])}]", "train.clip=1")

    def planned(*changes: str) -> RunContext:
        asked = recipe(*settings, f"train.optimizer=[{', '.join(optimizers)}]", "train.length=60it", *changes)
        return prepare(Request(asked, tmp_path, tmp_path, device="cpu", deterministic=True))

    read, looked = list[str](), list[str]()
    points = [planned(), planned("train.clip=1")]
    for name, noted in (("read_json", read), ("manifests", looked)):
        monkeypatch.setattr(Store, name, _noting(getattr(Store, name), noted))
    others = OtherJobs(points[0].store, points[0].machine)
    seconds = [estimate(point, (), others).seconds for point in points]
    assert len(looked) == 1
    assert read.count("job.json") == 4 and len(read) <= 8  # with the metrics of those that are like one asked for
    monkeypatch.undo()
    assert seconds == [pytest.approx(estimate(point).seconds) for point in points]


def _noting(method: Any, noted: list[str]) -> Any:
    """The method of a store, which notes the last of what it is asked for."""

    def called(store: Store, *asked: str) -> Any:
        noted.append(asked[-1] if asked else "")
        return method(store, *asked)

    return called


@pytest.mark.parametrize("when", ["init", "training"])
def test_equal_cost_of_a_single_training_is_the_dense_network_itself(when: str) -> None:
    during = ["prune.during={start: 1it, end: 9it, every: 2it}"] if when == "training" else []
    with pytest.raises(RecipeError, match=f"branches.0: with prune.when {when} a ticket costs one training"):
        recipe(f"prune.when={when}", *during)


def test_the_estimate_takes_a_levels_own_time_where_one_of_its_trainings_is_known(tmp_path: Path) -> None:
    """One seed is finished; of the other, each training takes what the first one's of that level took."""
    settings = ("rewind=init", "branches=[]")
    run(tmp_path, "seeds=1", *settings)
    two = recipe("seeds=2", *settings)
    planned = prepare(Request(two, tmp_path, tmp_path, device="cpu", deterministic=True))
    seconds = {0: 40.0, 1: 8.0, 2: 2.0}
    for job in planned.plan:
        if (manifest := planned.store.find(job.key)) is not None:
            place = tmp_path / "jobs" / job.key[:2] / job.key / "manifest.json"
            place.write_bytes(replace(manifest, seconds=seconds[job.level]).encode())
    missing = [job.level for job in planned.plan if planned.store.find(job.key) is None and job.kind != "rewind"]
    assert missing == [0, 1, 2]
    assert estimate(planned).seconds == pytest.approx(sum(seconds.values()))
