"""Controls on a trunk of their own: the action before every round of pruning, against a loop written out here."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lottery.audit.rows import rows as audit_rows
from lottery.errors import RecipeError
from lottery.files.tensors import decode
from lottery.plan.expand import plan
from lottery.plan.jobs import Job, Plan
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.pruning.scoring import Weights
from lottery.pruning.start import Start
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.artifacts import unpack
from lottery.results.record import Record, records
from lottery.results.study import study as study_of
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.estimate import disk_bytes
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.stored_level import dense_spec
from lottery.seed import generator
from tests.support.micro import micro_text
from tests.support.restarts import contents, run_until_stopped
from tests.support.studies import view_of

TEXT = micro_text(
    "data={name: mnist1d, samples: 600, validation: 100}",
    "model.widths=[20, 10]",
    "train.optimizer.lr=5e-3",
    "train.length=24it",
    "train.evaluate_every=8it",
    "prune={fraction: 0.4, rates: {output: 0.5}, levels: 3}",
    "rewind=4it",
    "branches=[{name: same_sign, trunk: own, samples: 2}, {name: constant, trunk: own}, same_sign]",
)
RATES = {"fc1.weight": Fraction(2, 5), "fc2.weight": Fraction(2, 5), "output.weight": Fraction(1, 5)}


def study(*overrides: str, criterion: str = "magnitude") -> Recipe:
    return parse_recipe(TEXT, "own.yaml", [f"prune.criterion={criterion}", *overrides])


def run(recipe: Recipe, folder: Path) -> tuple[RunContext, dict[str, Record]]:
    context = prepare(Request(recipe, folder, folder, device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context, records(context.plan, context.store)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, dict[str, Record]]:
    return run(study(), tmp_path_factory.mktemp("own"))


def jobs(planned: Plan, label: str, sample: int = 0) -> list[Job]:
    return [job for job in planned if job.branch is not None and job.branch.label == label and job.sample == sample]


def job_of(planned: Plan, kind: str) -> Job:
    return next(job for job in planned if job.kind == kind)


def dense_and_rewound(context: RunContext) -> tuple[Weights, Weights]:
    dense = context.store.read_tensors(job_of(context.plan, "dense").key, "weights.safetensors")
    state = context.store.read_tensors(job_of(context.plan, "rewind").key, "state.safetensors")
    return dense, {name.removeprefix("model/"): value for name, value in state.items() if name.startswith("model/")}


def pruned_by_hand(scores: Mapping[str, Tensor], alive: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In each layer the lowest scores of those alive go: the layer's share of them, to the nearest whole number."""
    kept = {}
    for name, rate in RATES.items():
        values, bits = scores[name].flatten().numpy().copy(), alive[name].flatten().numpy().copy()
        count = int(np.ceil(bits.sum() * float(rate) - 0.5))
        alive_places = np.flatnonzero(bits)
        order = alive_places[np.argsort(values[alive_places], kind="stable")]
        bits[order[:count]] = False
        kept[name] = torch.from_numpy(bits).view(alive[name].shape)
    return kept


def trained_by_hand(context: RunContext, job: Job, weights: Weights, alive: Mapping[str, Tensor]) -> Weights:
    start = Start(weights, Mask(alive), dense_spec(context.plan.recipe, job))
    training = training_of(context, job, start)
    with masked(training.model, start.mask, training.optimizer):
        list(training.steps())
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def mask_of(context: RunContext, job: Job) -> Mask:
    return Mask.unpack(*decode(context.store.read(job.key, "mask.safetensors")))


@pytest.mark.parametrize("sample", [0, 1])
def test_an_own_trunk_is_train_prune_act_again_and_again_to_the_bit(finished: Any, sample: int) -> None:
    context, _ = finished
    trained, rewound = dense_and_rewound(context)
    alive = {name: torch.ones(rewound[name].shape, dtype=torch.bool) for name in RATES}
    for level, job in enumerate(jobs(context.plan, "same_sign_own", sample), start=1):
        alive = pruned_by_hand({name: trained[name].abs() for name in RATES}, alive)
        draws = generator(0, f"branch/same_sign/{level}", sample)
        drawn = context.networks.fresh(0, context.plan.recipe.model, draws).state_dict()
        signed = {name: drawn[name].abs() * torch.where(rewound[name] < 0, -1.0, 1.0) for name in RATES}
        trained = trained_by_hand(context, job, {**drawn, **signed}, alive)
        assert mask_of(context, job) == Mask(alive)
        stored = unpack(context.store.read_tensors(job.key, "weights.safetensors"), mask_of(context, job))
        assert all(torch.equal(stored[name], value + 0.0) for name, value in trained.items())
    assert level == 3


def test_the_first_level_is_the_control_of_the_ticket_and_the_next_is_not(finished: Any) -> None:
    context, found = finished
    own, other = jobs(context.plan, "same_sign_own"), jobs(context.plan, "same_sign")
    same = [found[a.key].metrics["curve"] == found[b.key].metrics["curve"] for a, b in zip(own, other, strict=True)]
    assert same == [True, False, False]


def test_layers_have_the_tickets_counts_where_pruning_goes_by_layer(finished: Any) -> None:
    context, found = finished
    tickets = [job for job in context.plan if job.kind == "ticket"]
    for label in ("same_sign_own", "constant_own"):
        for job, ticket in zip(jobs(context.plan, label), tickets, strict=True):
            assert found[job.key].metrics["alive"] == found[ticket.key].metrics["alive"]
            assert found[job.key].density == found[ticket.key].density


def test_each_level_starts_from_its_own_level_above_and_needs_no_ticket(finished: Any) -> None:
    context, _ = finished
    dense, tickets = job_of(context.plan, "dense").key, {job.key for job in context.plan if job.kind == "ticket"}
    first, second, third = jobs(context.plan, "constant_own")
    assert [first.parent, second.parent, third.parent] == [dense, first.key, second.key]
    assert not {*first.needs, *second.needs, *third.needs} & tickets
    assert [job.key for job in context.plan.trunk(third)] == [dense, first.key, second.key, third.key]


def test_a_criterion_looks_at_the_weights_that_the_own_training_started_from(tmp_path: Path) -> None:
    context, _ = run(study("branches=[{name: constant, trunk: own}]", criterion="magnitude_increase"), tmp_path)
    trained, start = dense_and_rewound(context)
    constants = {n: torch.where(start[n] < 0, -1.0, 1.0) * start[n].std(correction=0) for n in RATES}
    alive = {name: torch.ones(start[name].shape, dtype=torch.bool) for name in RATES}
    for job in jobs(context.plan, "constant_own"):
        alive = pruned_by_hand({name: trained[name].abs() - start[name].abs() for name in RATES}, alive)
        assert mask_of(context, job) == Mask(alive)
        trained = unpack(context.store.read_tensors(job.key, "weights.safetensors"), Mask(alive))
        start = constants


def test_an_own_trunk_stopped_anywhere_continues_to_the_same_bytes(finished: Any, tmp_path: Path) -> None:
    context, _ = finished
    request = Request(study(), tmp_path, tmp_path, device="cpu", deterministic=True, checkpoint_seconds=0)
    for steps in (130, 37, 61):
        run_until_stopped(request, steps)
    list(work(prepare(request)))
    assert contents(tmp_path) == contents(context.store.root)


def test_the_table_has_a_column_of_its_own_with_one_value_a_seed(finished: Any) -> None:
    context, found = finished
    rows = view_of("means", context.plan, found)
    assert [(row["same_sign_own_n"], row["same_sign_n"], row["constant_own_n"]) for row in rows] == [(1, 1, 1)] * 3
    expected = [found[job.key].at("best_accuracy")["test_accuracy"] for job in jobs(context.plan, "constant_own")]
    assert [row["constant_own"] for row in rows] == expected


@pytest.mark.parametrize("mode", ["weights", "lr"])
def test_an_own_trunk_trains_from_step_0_in_each_mode_and_the_audit_names_it(mode: str, tmp_path: Path) -> None:
    both = "branches=[{name: constant, trunk: own}, constant]"
    recipe = study(both, "prune.levels=2", "train.length=10it", f"rewind={{to: 4it, mode: {mode}}}")
    context, found = run(recipe, tmp_path)
    own, other = (
        [found[job.key].metrics["curve"] for job in jobs(context.plan, label)] for label in ("constant_own", "constant")
    )
    assert [[row["step"] for row in curve] for curve in own] == [[0, 8, 10]] * 2
    assert own[0] == other[0] and own[1] != other[1]
    table = audit_rows(study_of(recipe, store=context.store.root, data=context.store.root))
    fields = {
        label: {(row["field"], row["ticket"], row["dense"], row["ok"]) for row in table if row["branch"] == label}
        for label in ("constant", "constant_own")
    }
    assert fields["constant_own"] == {*fields["constant"], ("trunk", "its own", "the recipe's", True)}


def test_only_an_own_trunk_changes_keys_and_it_is_part_of_its_own() -> None:
    plain, own = (plan(study(f"branches=[{{name: reinit{more}}}]"), "data") for more in ("", ", trunk: own"))
    given = plan(study("branches=[{name: reinit, trunk: ticket}]"), "data")
    assert given.jobs.keys() == plain.jobs.keys()
    assert {job.key for job in plain if job.kind != "branch"} == {job.key for job in own if job.kind != "branch"}
    assert not {job.key for job in plain if job.kind == "branch"} & {job.key for job in own if job.kind == "branch"}
    assert {job.identity["trunk"] for job in own if job.kind == "branch"} == {"own"}
    assert not any("trunk" in job.identity for job in plain)


def test_fewer_levels_and_other_branches_leave_the_keys_of_an_own_trunk_as_they_are() -> None:
    deep = {job.key for job in plan(study(), "data") if job.own_trunk}
    shallow = {job.key for job in plan(study("prune.levels=2", "branches=[{name: constant, trunk: own}]"), "data")}
    assert len(shallow & deep) == 2


def test_the_room_on_disk_counts_masks_and_weights_of_own_trunks(tmp_path: Path) -> None:
    context = prepare(Request(study(), tmp_path, tmp_path, device="cpu"))
    own, control = (jobs(context.plan, label)[0] for label in ("constant_own", "same_sign"))
    sizes = [disk_bytes(context, [job]) for job in (job_of(context.plan, "ticket"), own, control)]
    assert sizes[0] == sizes[1] > sizes[2]


@pytest.mark.parametrize(
    ("overrides", "place", "words"),
    [
        (["branches=[{name: shuffle, trunk: own}]"], "branches.0.trunk", "constant, random_signs, reinit, same_sign"),
        (["branches=[{name: supermask, trunk: own}]"], "branches.0.trunk", "leave it out"),
        (
            ["branches=[{name: reinit, trunk: own, levels: [2, 3]}]"],
            "branches.0.levels",
            "level by level from the first",
        ),
        (["prune={one_shot: [0.5, 0.2]}"], "branches.0.trunk", "one_shot"),
        (["prune={when: init, levels: 2}"], "branches.0.trunk", "no trained network"),
        (["prune={levels: auto}", "compare={margin: 1}", "seeds=4"], "branches.0.trunk", "auto"),
    ],
)
def test_an_own_trunk_without_levels_that_follow_each_other_is_refused(
    overrides: list[str], place: str, words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        study(*overrides)
    (problem, *_) = [each for each in caught.value.problems if f" {place}: " in f" {each}"]
    assert words in problem


def test_an_own_trunk_may_end_before_the_recipes() -> None:
    planned = plan(study("branches=[{name: reinit, trunk: own, levels: [1, 2]}]"), "data")
    assert [job.level for job in jobs(planned, "reinit_own")] == [1, 2]
