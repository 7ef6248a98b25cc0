"""Children of a state: copies that differ in their noise alone, and the instability that lies between them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lottery.analysis.profiles import profile_rows
from lottery.analysis.views import rows_of
from lottery.data.loader import Augment, Data
from lottery.data.random_crop import Crops, ResizedCrop
from lottery.data.splits import Splits
from lottery.errors import Interrupted, UsageError
from lottery.files.tensors import part
from lottery.network.layout import state_of
from lottery.plan.children import child_of
from lottery.plan.expand import plan
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.plan.jobs import Job, Plan
from lottery.plan.kinds import MEASUREMENT_FILE, WEIGHTS_FILE, Kind
from lottery.pruning.masking import masked
from lottery.results.artifacts import read_mask, read_state, read_trained
from lottery.results.study import study_of
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.estimate import steps_of
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.seed import noisy
from lottery.signals import Stop
from tests.support.analyses import asking, measured
from tests.support.micro import finished, micro, prepared

AT = "{name: instability, at: [init, 4it], of: [dense, ticket], pairs: 2, points: 3, levels: [0, 1]}"
CHILDREN = ("rewind=[init, 4it]", "prune.levels=1", asking(AT))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    """A study with children of dense networks and tickets, run to its end."""
    return measured(tmp_path_factory.mktemp("children"), *CHILDREN)


def children(planned: Plan) -> list[Job]:
    return [job for job in planned if job.kind is Kind.CHILD]


def trained(context: RunContext, job: Job) -> dict[str, Tensor]:
    """The weights at the end of a job's training, from a training of its own."""
    start, training = starting_point(context, job), training_of(context, job)
    with masked(training.model, start.mask, training.optimizer):
        for _ in training.steps():
            pass
    return {name: value.clone() for name, value in state_of(training.model).items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name].cpu()) for name in one)


def test_noise_0_is_the_seeds_own() -> None:
    assert noisy("order", 0) == "order"
    assert len({noisy(purpose, noise) for purpose in ("order", "augment") for noise in range(3)}) == 6


def test_another_noise_is_another_order_of_the_same_examples_and_another_augmentation() -> None:
    pixels = torch.randint(0, 256, (50, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    splits = Splits(pixels, torch.arange(50), pixels[:7], torch.arange(7), 50, (0.5,) * 3, (0.2,) * 3)
    data = Data(splits, seed=0, validation=5, augment=Augment(1, True), device=torch.device("cpu"))
    own, same, other, third = (torch.cat([y for _, y in data.epoch(0, 8, 0, noise)]) for noise in (0, 0, 1, 2))
    assert own.equal(same)
    assert not own.equal(other) and not other.equal(third)
    assert own.sort().values.equal(other.sort().values)
    whole, tail = (list(data.epoch(1, 8, first, 1)) for first in (0, 2))
    assert all(x.equal(again) for (x, _), (again, _) in zip(whole[2:], tail, strict=True))
    crops = [Crops(ResizedCrop(), 0, 0, noise).window(3)(32, 32) for noise in (0, 1, 1)]
    assert crops[0] != crops[1] == crops[2]


def test_dropout_is_drawn_by_the_noise(tmp_path: Path) -> None:
    context = prepared(micro("model.dropout=0.5", *CHILDREN), tmp_path)
    (dense,) = (job for job in context.plan if job.kind is Kind.DENSE)
    draws = []
    for noise in (0, 0, 1):
        start = starting_point(context, dense)
        training = training_of(context, dense, replace(start, spec=replace(start.spec, noise=noise)))
        next(training.steps())
        draws.append(nn.functional.dropout(torch.ones(64), 0.5))
    assert draws[0].equal(draws[1]) and not draws[0].equal(draws[2])


def test_a_plan_without_children_has_the_jobs_that_it_had() -> None:
    without, beside = (plan(micro(*changes), "f" * 64) for changes in (CHILDREN[:2], CHILDREN))
    others = [job.key for job in beside if job.kind not in (Kind.CHILD, Kind.ANALYSIS)]
    assert others == list(without.jobs)
    assert all("noise" not in job.identity for job in without)


def test_each_child_is_in_one_pair_and_starts_from_one_state() -> None:
    found = plan(micro("seeds=2", *CHILDREN), "f" * 64)
    pairs = [job for job in found if job.kind is Kind.ANALYSIS]
    assert len(pairs) == 2 * (2 + 2) * 2  # seeds, dense networks and tickets at two points, pairs
    looked_at = [look.key for job in pairs for look in job.looks]
    assert sorted(looked_at) == sorted(job.key for job in children(found))
    for job in pairs:
        one, two = (found.jobs[look.key] for look in job.looks)
        assert one.parent == two.parent and one.noise != two.noise
        assert found.jobs[str(one.parent)].kind is (Kind.TICKET if job.level else Kind.REWIND)
    received = unpack_plan(pack_plan(found), found.recipe)
    assert [vars(job) | {"key": job.key} for job in received] == [vars(job) | {"key": job.key} for job in found]


def test_states_between_the_rewind_points_are_taken_from_the_dense_networks_own_way(tmp_path: Path) -> None:
    at = asking("{name: instability, at: 8it, pairs: 1, points: 3}")
    context = measured(tmp_path, "prune.levels=0", at)
    plain = measured(tmp_path / "plain", "prune.levels=0")
    (dense,) = (job for job in context.plan if job.kind is Kind.DENSE)
    one, two = (run.store.read_tensors(dense.key, WEIGHTS_FILE) for run in (context, plain))
    assert equal(one, two)
    steps = {job.label: count for job, count in zip(context.plan, steps_of(context).values(), strict=True)}
    assert steps["adam seed 0 to 8it"] == 8
    assert steps["adam seed 0 dense"] == 4
    assert steps["adam seed 0 dense from 8it noise 1"] == 4


def test_children_under_the_noise_of_their_parent_go_its_way_to_the_bit(ran: RunContext) -> None:
    """So nothing but the noise sets a child apart: weights, optimizer state, schedule and mask are the parent's."""
    dense = next(job for job in ran.plan if job.kind is Kind.DENSE)
    for job in ran.plan:
        if job.kind is Kind.TICKET:
            expected = read_trained(ran.store, job.key, read_mask(ran.store, job.key))
        elif job.kind is Kind.REWIND:
            expected = ran.store.read_tensors(dense.key, WEIGHTS_FILE)
        else:
            continue
        assert equal(trained(ran, child_of(job, 0)), dict(expected))
        assert not equal(trained(ran, child_of(job, 1)), dict(expected))


def test_children_are_equal_at_their_state_and_differ_at_their_end(ran: RunContext) -> None:
    for job in (job for job in ran.plan if job.kind is Kind.ANALYSIS):
        pair = [ran.plan.jobs[look.key] for look in job.looks]
        one, two = (starting_point(ran, child) for child in pair)
        assert equal(dict(one.weights), dict(two.weights))
        assert one.mask == two.mask
        assert replace(one.spec, noise=0) == replace(two.spec, noise=0)
        if not job.level:
            tensors, values = read_state(ran.store, str(pair[0].parent))
            assert equal(part(tensors, "model/"), dict(one.weights))
            assert one.spec.first == values["step"]
        masks = [read_mask(ran.store, child.key) for child in pair]
        ends = [read_trained(ran.store, child.key, mask) for child, mask in zip(pair, masks, strict=True)]
        assert masks[0] == masks[1] == one.mask
        assert not equal(dict(ends[0]), dict(ends[1]))


def test_a_row_has_the_mean_over_the_pairs_of_a_state(ran: RunContext) -> None:
    rows = rows_of(study_of(ran.plan, ran.store), "instability")
    own = {(row["rewind"], row["networks"]): row for row in rows}
    assert set(own) == {
        ("init", "dense from init"),
        ("init", "dense from 4it"),
        ("init", "ticket from init"),
        ("4it", "dense from init"),
        ("4it", "dense from 4it"),
        ("4it", "ticket from 4it"),
    }
    for row in rows:
        assert row["n"] == 2 and row["note"] == ""
        assert row["density"] == pytest.approx(1.0 if row["level"] == 0 else 0.5, abs=1e-3)
        assert row["distance"] > 0 and row["train_error_barrier_std"] is not None
        assert row["step"] == (0 if row["networks"].endswith("init") else 4)
    profile = profile_rows(study_of(ran.plan, ran.store), "instability")
    assert {(row["networks"].split()[2], row["step"]) for row in profile} == {("init", 0), ("4it", 4)}


def test_the_step_of_a_state_that_is_told_in_epochs_is_in_steps(tmp_path: Path) -> None:
    """1,437 training examples less 200 for validation are 25 batches of 50."""
    long = ("train.length=2ep", "train.evaluate_every=1ep", "prune.levels=0")
    context = prepared(micro(*long, asking("{name: instability, at: [init, 1ep], pairs: 1, points: 3}")), tmp_path)
    study = study_of(context.plan, context.store)
    assert [row["step"] for row in rows_of(study, "instability")] == [0, None]
    finished(context)
    study = study_of(context.plan, context.store)
    assert [row["step"] for row in rows_of(study, "instability")] == [0, 25]


def test_an_instability_is_the_barrier_between_the_ends_of_two_children(ran: RunContext) -> None:
    """Against errors that are counted here, at both ends and in the middle."""
    job = next(job for job in ran.plan if job.kind is Kind.ANALYSIS and job.level)
    values = ran.store.read_json(job.key, MEASUREMENT_FILE)["values"]
    one, two = (read_trained(ran.store, look.key, read_mask(ran.store, look.key)) for look in job.looks)
    errors = []
    for alpha in (0.0, 0.5, 1.0):
        network = ran.networks.blank()
        network.load_state_dict({name: (1 - alpha) * one[name] + alpha * two[name] for name in one})
        with torch.no_grad():
            wrong = [(network(x).argmax(1) != y).sum().item() for x, y in ran.data(0).evaluation("train")]
        errors.append(sum(wrong) / ran.data(0).train_size)
    assert values["train_error_barrier"] == pytest.approx(max(errors) - (errors[0] + errors[2]) / 2, abs=1e-12)
    squares = sum(float((one[name] - two[name]).double().square().sum()) for name in one)
    assert values["distance"] == pytest.approx(squares**0.5, rel=1e-6)


@pytest.mark.parametrize(
    ("length", "late", "pairs"), [(120, "40it", 2), pytest.param(200, "60it", 3, marks=pytest.mark.slow)]
)
def test_a_network_is_unstable_at_initialization_and_stable_later(
    length: int, late: str, pairs: int, tmp_path: Path
) -> None:
    """At a high rate the copies of the first state reach other minima, those of a later one the same (Frankle 2020)."""
    long = ("train.optimizer={name: adam, lr: 3e-2}", f"train.length={length}it", f"train.evaluate_every={length}it")
    asked = asking(f"{{name: instability, at: [init, {late}], pairs: {pairs}}}")
    context = measured(tmp_path, *long, "prune.levels=0", asked)
    first, later = rows_of(study_of(context.plan, context.store), "instability")
    assert (first["networks"], later["networks"]) == ("dense from init", f"dense from {late}")
    assert first["train_error_barrier"] > 0.1
    assert later["train_error_barrier"] < 0.02
    assert later["distance"] < first["distance"] / 2


def test_a_killed_child_and_a_killed_instability_go_on_to_the_same_bytes(ran: RunContext, tmp_path: Path) -> None:
    stop, starts = Stop(), 0
    context = prepared(micro(*CHILDREN), tmp_path, stop=stop)
    for _ in range(40):
        with suppress(Interrupted):
            for event in work(context):
                starts += event.kind == "start"
                if event.kind == "start" and starts % 2 and starts < 40:
                    stop.signal = 15  # each second start is stopped at its first step
        stop.signal = None
    finished(context)
    assert starts >= 40
    for job in ran.plan:
        if job.kind is Kind.CHILD:
            assert ran.store.read(job.key, WEIGHTS_FILE) == context.store.read(job.key, WEIGHTS_FILE)
        if job.kind is Kind.ANALYSIS:
            assert ran.store.read(job.key, MEASUREMENT_FILE) == context.store.read(job.key, MEASUREMENT_FILE)


def test_a_step_after_the_end_is_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"analyses\.0\.at: 1ep is not before the end of training at step 12"):
        prepared(micro(asking("{name: instability, at: 1ep}")), tmp_path)


def test_a_diverged_child_is_said_in_its_row(tmp_path: Path) -> None:
    wild = "train.optimizer={name: sgd, lr: 1e30}"
    context = prepared(micro(wild, "prune.levels=0", asking("{name: instability, pairs: 1}")), tmp_path)
    assert {"diverged", "blocked"} <= {event.kind for event in work(context)}
    (row,) = rows_of(study_of(context.plan, context.store), "instability")
    assert (row["n"], row["note"]) == (0, "diverged: 2 of 2 networks")


def test_a_resampled_ticket_differs_from_the_ticket_in_its_noise_alone(tmp_path: Path) -> None:
    branches = "branches=[{name: resample, samples: 2}]"
    context = measured(tmp_path, branches, "prune.levels=1", "rewind=4it")
    (ticket,) = (job for job in context.plan if job.kind is Kind.TICKET)
    one, two = (job for job in context.plan if job.kind is Kind.BRANCH)
    own, first, second = (starting_point(context, job) for job in (ticket, one, two))
    assert len({own.spec.noise, first.spec.noise, second.spec.noise}) == 3
    for start in (first, second):
        assert replace(start.spec, noise=0) == own.spec
        assert start.mask == own.mask and equal(dict(start.weights), dict(own.weights))
        moments = list(start.optimizer_state["state"][0].values())
        assert all(torch.equal(a, b) for a, b in zip(moments, own.optimizer_state["state"][0].values(), strict=True))
    results = [context.store.read_json(job.key, "metrics.json")["end"] for job in (ticket, one, two)]
    assert len({result["validation_loss"] for result in results}) == 3
