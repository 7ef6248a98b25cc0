"""What goes on from trained weights: its learning rates, where it is read, what keys and notes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lottery import registry
from lottery.audit.audit import audit
from lottery.errors import RecipeError, UsageError
from lottery.plan.jobs import Job
from lottery.pruning.mask import Mask
from lottery.pruning.start import Level, Spec, Start
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import look, prepare
from lottery.runner.run import work
from tests.support.micro import micro, micro_text
from tests.support.studies import dense, everything, hand, made, ticket, view_of

STUDY = (
    "model.widths=[8]",
    "train={optimizer: {name: momentum, lr: 0.1}, batch_size: 64, length: 300it}",
    "prune.levels=1",
    "seeds=2",
)


def read(schedule: str, mode: str = "finetune", *overrides: str) -> Recipe:
    text = micro_text(*STUDY, f"train.schedule={schedule}", f"rewind={{to: 20it, mode: {mode}}}")
    return parse_recipe(text, "r.yaml", overrides)


def problems(schedule: str, mode: str = "finetune", *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(schedule, mode, *overrides)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        ("cosine", "2.7e-05"),  # (1 + cos(pi 299/300)) / 2
        ("{name: polynomial, power: 2}", "1.1e-05"),  # (1/300)^2
        ("one_cycle", "4e-06"),  # 1 / (25 x 10,000)
        ("{name: sgdr, first: 300it}", "2.7e-05"),
        ("{name: exponential, every: 10it}", "1e-09"),  # 2^-29.9
    ],
)
def test_fine_tuning_at_about_nothing_is_refused_where_the_mode_stands(schedule: str, end: str) -> None:
    name = schedule.strip("{}").removeprefix("name: ").partition(",")[0]
    assert problems(schedule) == [
        f"r.yaml:13:20: rewind.mode: the schedule {name} ends at {end} of its peak, at which nothing is trained; say "
        "at which share of the peak to fine-tune: `finetune: {rate: 0.01}`"
    ]
    assert read(schedule, "finetune", "finetune={rate: 0.01}").finetune is not None
    assert read(schedule, "lr").finetune is None


def test_the_end_of_a_schedule_in_epochs_is_known_without_data() -> None:
    lengths = ("train.length=10ep", "rewind={to: 1ep, mode: finetune}")
    assert "the schedule cosine ends at" in problems("cosine", "finetune", *lengths)[0]
    read("{name: multi_step, at: [5ep, 8ep]}", "finetune", *lengths)


def test_lengths_in_both_units_are_judged_when_the_data_are_there(tmp_path: Path) -> None:
    recipe = read("{name: step, every: 1ep, factor: 0.3}")  # 20 steps an epoch: 0.3 ** 14 at the end
    with pytest.raises(UsageError, match=r"rewind: 20it \(finetune\): the schedule step ends at 4.8e-08 of its peak"):
        look(Request(recipe, tmp_path, tmp_path, "cpu"))


def test_a_schedule_of_a_retrained_ticket_is_judged_as_the_recipes_is() -> None:
    branches = "branches=[{name: retrain, optimizer: {name: sgd, lr: 0.1}, schedule: cosine}]"
    (said,) = problems("{name: multi_step, at: [200it]}", "finetune", branches)
    assert said.startswith("--set branches=") and "branches.0.schedule: the schedule cosine ends at 2.7e-05" in said


@pytest.mark.parametrize("schedule", ["constant", "{name: constant, warmup: 20it}", "{name: multi_step, at: []}"])
def test_fine_tuning_at_the_one_rate_there_is_would_be_the_other_mode(schedule: str) -> None:
    (said,) = problems(schedule)
    assert "has one rate throughout, so that fine-tuning is `mode: lr` under another name" in said
    assert len(problems(schedule, "finetune", "finetune={rate: 1.0}")) == 1
    read(schedule, "finetune", "finetune={rate: 0.1}")


def test_one_rate_from_the_rewind_point_on_is_told_in_the_table() -> None:
    schedule = "train.schedule={name: multi_step, at: [%s]}"
    told = "fine-tuning at the only rate the schedule has from here on is the training of mode lr"
    for milestones, note in (("10it", told), ("30it", "")):
        planned = hand(schedule % milestones, "rewind={to: 20it, mode: finetune}")
        assert view_of("means", planned, everything(planned))[0]["note"] == note


def test_the_rate_of_fine_tuning_is_a_share_of_what_the_schedule_reaches(tmp_path: Path) -> None:
    context = look(Request(read("{name: multi_step, at: [40it], factor: 10}", "lr"), tmp_path, tmp_path, "cpu"))
    dense = next(job for job in context.plan if job.kind == "dense")
    schedule = context.plan.recipe.train.schedule.component
    spec = Spec(dense.optimizer, schedule, last_rate=True, finetune_rate=0.05)
    training = training_of(context, dense, Start(context.networks.network(0).state_dict(), Mask.dense({}), spec))
    assert [training.multiplier(step) for step in (0, 100, 299)] == [0.5, 0.5, 0.5]  # of a peak of 10 times lr


def test_a_rate_for_fine_tuning_needs_the_mode_and_is_a_share() -> None:
    (said,) = problems("constant", "weights", "finetune={rate: 0.1}")
    assert said.endswith(": finetune: is for `rewind: {to: ..., mode: finetune}`; write that mode, or leave it out")
    for rate in ("0", "1.5", "-1", "true"):
        assert len(problems("cosine", "finetune", f"finetune={{rate: {rate}}}")) == 1


def test_what_goes_on_is_read_at_the_end_unless_the_recipe_says_otherwise() -> None:
    assert read("cosine", "weights").report == "best_accuracy"
    assert read("cosine", "lr").report == "end"
    assert read("cosine", "weights", "rewind=[20it, {to: 20it, mode: lr}]").report == "end"
    assert read("cosine", "lr", "report=early_stop").report == "early_stop"


KEYS = "rewind={to: 20it, mode: %s}"


def test_keys_tell_results_before_and_after_the_first_row_was_left_out() -> None:
    tickets = {mode: next(job for job in hand(KEYS % mode) if job.kind == "ticket") for mode in ("weights", "lr")}
    assert tickets["weights"].identity["rewind"] == {"to": "20it", "mode": "weights"}
    assert tickets["lr"].identity["rewind"] == {"to": "20it", "mode": "lr", "version": 2}
    tuned = hand(KEYS % "finetune", "finetune={rate: 0.1}")
    assert next(job for job in tuned if job.kind == "ticket").identity["rewind"]["rate"] == 0.1


def test_a_one_shot_control_by_another_criterion_has_another_key_and_one_by_magnitude_has_its_own() -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        planned = hand("branches=[one_shot]", "prune.levels=2", *overrides)
        branch: dict[str, Any] = next(job for job in planned if job.kind == "branch").identity["branch"]
        return branch

    plain = {"name": "one_shot", "version": 1}
    assert identity() == identity("prune.scope=global") == plain
    assert identity("prune.criterion=movement") == {**plain, "criterion": {"name": "movement", "version": 1}}
    assert identity("prune.rounds=2") == {**plain, "criterion": {"name": "magnitude", "version": 1}}


def test_seeds_that_stopped_at_their_first_row_are_told() -> None:
    overrides = ("rewind={to: 20it, mode: lr}", "report=early_stop")
    planned = hand(*overrides)
    first, later = {"step": 30}, {"step": 50}
    study = made(planned, dense(0, 0.5), dense(1, 0.5), ticket(0, 0.5, **first), ticket(1, 0.5, **later))
    (row,) = view_of("means", planned, study)
    assert row["note"] == "stopped at the first measure after going on from trained weights: ticket 1 of 2"
    rewound = hand("rewind=20it")
    assert view_of("means", rewound, everything(rewound, step=30))[0]["note"] == ""


TWO = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"


@pytest.mark.parametrize(
    ("rewind", "told"),
    [
        ("init", ""),
        ("20it", "the others go on from weights trained with {} for 20it"),
        ("{to: 20it, mode: lr}", "the others go on from weights trained with {} to the end"),
    ],
)
def test_the_transfer_table_says_what_a_ticket_carries_of_the_optimizer_that_found_it(rewind: str, told: str) -> None:
    planned = hand(TWO, "transfer=all", f"rewind={rewind}", "report=end")
    rows = view_of("transfer", planned, everything(planned))
    assert [(row["found_with"], row["note"]) for row in rows] == [
        ("(dense)", ""),
        ("adam", told.format("adam")),
        ("sgd", told.format("sgd")),
    ]


SECOND = "branches=[{name: other_data, dataset: {name: mnist1d, samples: %d, seed: 3}}]"
OTHER = (
    "data={name: mnist1d, samples: 400, validation: 100}",
    "model={name: mlp, widths: [6]}",
    "init=kaiming_normal",
    "train={optimizer: {name: adam, lr: 1e-2}, batch_size: 20, length: 4ep, evaluate_every: 1ep}",
    "prune.levels=1",
    "rewind=2ep",
    SECOND % 200,
)


def ran(folder: Path, *overrides: str) -> RunContext:
    context = prepare(Request(micro(*OTHER, *overrides), folder, folder, "cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context


def test_a_rewind_point_in_epochs_is_a_pass_over_the_other_data(tmp_path: Path) -> None:
    context = ran(tmp_path)
    (control,) = [job for job in context.plan if job.kind == "branch"]
    assert control.branch is not None
    training = training_of(context, control)
    here, there = (
        context.data(0, each).steps_per_epoch(20) for each in (None, control.branch.component.args["dataset"])
    )
    assert (training.step, training.timeline.stop) == (2 * there, 4 * there) and here != there
    assert control.identity["branch"]["rewind"] == "2ep"
    steps = [row["step"] for row in context.store.read_json(control.key, "metrics.json")["curve"]]
    assert steps == [2 * there, 3 * there, 4 * there]


def test_other_data_on_which_nothing_is_left_to_train_are_refused_before_training(tmp_path: Path) -> None:
    recipe = micro(*OTHER, "train.length=29it")  # an epoch: 11 steps on the recipe's data, 3 on the others
    look(Request(recipe, tmp_path, tmp_path, "cpu"))
    swapped = micro(*OTHER, "data.samples=200", SECOND % 400, "train.length=15it")
    with pytest.raises(UsageError) as caught:
        look(Request(swapped, tmp_path, tmp_path, "cpu"))
    assert str(caught.value) == (
        "branches.0.dataset: on mnist1d the rewind point 2ep is step 22 and train.length 15it ends at step 15: nothing "
        "is left to train (adam); give both in the same unit"
    )


def mode_of(job: Job) -> str:
    assert job.rewind is not None
    return job.rewind.mode


def test_the_audit_counts_the_steps_of_each_training_as_that_training_took_them(tmp_path: Path) -> None:
    """An epoch of the other data has fewer steps than one of the recipe's."""
    context = ran(tmp_path, "rewind=[{to: 2ep}, {to: 2ep, mode: lr}]", "prune.levels=2")
    study = Study(context.plan, records(context.plan, context.store), context.store)
    found = {
        (mode_of(context.plan.jobs[f.key]), f.cell[2], f.field, f.against): (f.ours, f.dense)
        for f in audit(study).findings
        if f.cell[3] == "other_data" and f.field in ("steps", "weights")
    }
    other = context.plan.recipe.branches[0].component.args["dataset"]
    here, there = (context.data(0, each).steps_per_epoch(20) for each in (None, other))
    dense, ticket, carried = "dense network", "ticket", "with the data that found the ticket"
    rest = 2 * there
    assert found == {
        **{("weights", n, "weights", dense): (f"rewound, {carried}", "its own") for n in (1, 2)},
        **{("lr", n, "weights", dense): (f"trained, of the level above, {carried}", "its own") for n in (1, 2)},
        **{("weights", n, "steps", dense): (str(2 * here + rest), str(4 * here)) for n in (1, 2)},
        ("lr", 1, "steps", dense): (str(4 * here + rest), str(4 * here)),
        ("lr", 2, "steps", dense): (str(6 * here + rest), str(4 * here)),
        ("lr", 1, "steps", ticket): (str(4 * here + rest), str(6 * here)),
        ("lr", 2, "steps", ticket): (str(6 * here + rest), str(8 * here)),
    }


def _again(level: Level, generator: Any) -> Start:
    """The ticket once more."""
    return level.start


def test_a_control_of_a_plugin_that_declares_nothing_is_neither_blamed_nor_vouched_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.branches._load()
    monkeypatch.setattr(registry.branches, "_entries", dict(registry.branches._entries))
    registry.branches.register("again", source="-")(_again)
    context = ran(tmp_path, "rewind={to: 2ep, mode: lr}", "branches=[again]", "report=early_stop")
    found = records(context.plan, context.store)
    ticket, again = ([r.metrics for r in found.values() if r.job.kind == kind] for kind in ("ticket", "branch"))
    assert again == ticket
    audited = audit(Study(context.plan, found, context.store))
    listed = [(each.field, each.ours, each.allowed_by) for each in audited.findings if each.cell[3] == "again"]
    assert listed == [("weights", "not declared", "the branch again")]
    assert "where again starts from: its entry declares no `origins`" in audited.unproven[0]
