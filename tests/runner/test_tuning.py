"""Fair learning rates, and tickets retrained with other optimizers, in studies on scikit-learn's digits."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import lottery
from lottery.analysis.labels import DENSE
from lottery.data.loader import Data
from lottery.errors import RecipeError
from lottery.formats.render import render
from lottery.plan.expand import plan
from lottery.plan.jobs import Plan
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe, TuneSpec
from lottery.recipe.tuning import choose, learning_rates
from lottery.results.record import Record, records
from lottery.runner.events import Request
from lottery.runner.execute import execute
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.values import Component
from tests.support.micro import micro_text
from tests.support.restarts import contents, run_until_stopped
from tests.support.studies import view_of

TEXT = micro_text(
    "model.widths=[16]",
    "train.optimizer=["
    "{name: adam, rates: [1e-4, 1e-2]}, {name: momentum, rates: [1e-2, 1]}, {name: gd, batch_size: all}]",
    "train.batch_size=64",
    "train.length=30it",
    "train.evaluate_every=10it",
    "tune={trials: 3, seeds: [77, 78]}",
    "transfer={levels: 2}",
    "seeds=2",
)


def study(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "tuned.yaml", overrides)


def problems(*overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        study(*overrides)
    return caught.value.problems


def ran(folder: Path, *overrides: str) -> tuple[Plan, dict[str, Record], Store, list[Any]]:
    context = prepare(Request(study(*overrides), folder, folder, device="cpu", deterministic=True))
    events = list(work(context))
    return context.plan, records(context.plan, context.store), context.store, events


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, dict[str, Record], Store, list[Any]]:
    return ran(tmp_path_factory.mktemp("tuned"))


def test_a_grid_is_even_on_the_log_scale_and_holds_both_ends() -> None:
    assert learning_rates(TuneSpec(trials=5), Component("adam", {"rates": (1e-4, 1.0)})) == [1e-4, 1e-3, 1e-2, 0.1, 1]
    assert learning_rates(TuneSpec(trials=3), Component("adam", {"rates": (2e-3, 0.2)})) == [0.002, 0.02, 0.2]


def test_log_uniform_draws_lie_in_the_range_and_more_trials_keep_the_first_ones() -> None:
    adam = Component("adam", {"rates": (1e-4, 1e-1)})
    few, many = (learning_rates(TuneSpec(trials=n, search="log_uniform"), adam) for n in (20, 400))
    assert set(few) <= set(many)
    assert all(1e-4 <= rate <= 1e-1 for rate in many)
    below = sum(rate < 10**-2.5 for rate in many)  # half of them, with a standard deviation of 10
    assert abs(below - 200) < 40


def test_every_optimizer_gets_the_same_number_of_trials() -> None:
    jobs = plan(study(), "0" * 64)
    trials = [job for job in jobs if job.kind == "trial"]
    assert {place: sum(job.optimizer_index == place for job in trials) for place in (0, 1, 2)} == {0: 6, 1: 6, 2: 6}
    assert {job.seed for job in trials} == {77, 78}


def measures(accuracy: float, loss: float) -> dict[str, float]:
    return {"validation_accuracy": accuracy, "validation_loss": loss}


def test_the_best_mean_accuracy_is_chosen_then_the_lower_loss_then_the_smaller_rate() -> None:
    trials: list[tuple[float, list[dict[str, float] | None]]] = [
        (0.1, [measures(0.9, 0.5), measures(0.7, 0.5)]),
        (0.01, [measures(0.8, 0.4), measures(0.8, 0.4)]),
        (0.001, [measures(0.8, 0.4), measures(0.8, 0.4)]),
        (1.0, [measures(0.99, 0.1), None]),
    ]
    chosen = choose(trials, "accuracy")
    assert chosen is not None
    assert (chosen["lr"], chosen["edge"]) == (0.001, "lowest")
    assert [row["diverged"] for row in chosen["trials"]] == [0, 0, 0, 1]
    by_loss = choose([(0.1, [measures(0.5, 0.1)]), (0.2, [measures(0.9, 0.2)]), (0.3, [None])], "loss")
    assert by_loss is not None
    assert (by_loss["lr"], by_loss["edge"]) == (0.1, "lowest")


def test_nothing_is_chosen_where_every_rate_diverged() -> None:
    assert choose([(0.1, [None]), (1.0, [None, measures(0.9, 0.1)])], "accuracy") is None


def test_the_chosen_rate_is_the_best_of_trainings_made_by_hand(finished: Any) -> None:
    """Each trial is the dense training of its seed with that rate; nothing of the test set is in it."""
    planned, _, store, _ = finished
    choice = next(job for job in planned if job.kind == "choice" and job.optimizer_index == 1)
    means = {}
    for rate in (0.01, 0.1, 1.0):
        alone = study(
            f"train.optimizer={{name: momentum, lr: {rate}}}",
            "seeds=[77, 78]",
            "prune.levels=0",
            "tune=null",
            "transfer=null",
        )
        context = prepare(Request(alone, store.root, store.root / "alone", device="cpu", deterministic=True))
        list(work(context))
        found = records(context.plan, context.store).values()
        means[rate] = sum(record.metrics["best_accuracy"]["validation_accuracy"] for record in found) / 2
    stored = store.read_json(choice.key, "metrics.json")
    assert {row["lr"]: row["validation_accuracy"] for row in stored["trials"]} == pytest.approx(means, abs=1e-12)
    assert stored["lr"] == max(means, key=means.__getitem__)


def test_trials_never_read_the_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = Data.evaluation

    def evaluation(self: Data, part: Any, *args: Any, **more: Any) -> Any:
        read.append(part)
        return original(self, part, *args, **more)

    monkeypatch.setattr(Data, "evaluation", evaluation)
    context = prepare(Request(study(), tmp_path, tmp_path, device="cpu"))
    for event in work(context):
        if event.kind == "done" and context.plan.jobs[event.key].kind == "choice":
            break
    assert set(read) == {"validation"}


def test_dense_tickets_and_transfers_train_with_the_chosen_rates(finished: Any) -> None:
    planned, found, store, _ = finished
    chosen = {
        job.optimizer_index: store.read_json(job.key, "metrics.json")["lr"] for job in planned if job.kind == "choice"
    }
    for record in found.values():
        place = record.job.optimizer_index if record.job.transfer is None else record.job.transfer
        assert record.rate == chosen[place]


def test_the_transfer_table_holds_each_ticket_retrained_with_each_optimizer(finished: Any) -> None:
    planned, found, _, _ = finished
    table = view_of("transfer", planned, found)
    names = ["adam", "momentum", "gd"]
    assert [row["found_with"] for row in table] == [DENSE, *names]
    assert all(row[f"{name}_n"] == 2 for row in table for name in names)
    means = view_of("means", planned, found)
    for row, name in zip(table[1:], names, strict=True):
        own = next(each for each in means if each["optimizer"] == name and each["density"] == row["density"])
        assert row[name] == own["ticket"]
        assert table[0][name] == own["dense"]
    cell = [
        r.metrics["best_accuracy"]["test_accuracy"]
        for r in found.values()
        if (r.job.optimizer_index, r.job.transfer) == (0, 1)
    ]
    assert table[1]["momentum"] == pytest.approx(sum(cell) / 2)


def test_a_transfer_starts_from_the_ticket_with_a_fresh_other_optimizer(finished: Any) -> None:
    """Retrained by hand: adam's mask on the seed's initialization, trained with momentum in its own batches."""
    planned, _, store, _ = finished
    from lottery.runner.assemble import training_of
    from lottery.runner.context import RunContext

    context = prepare(Request(study(), store.root, store.root, device="cpu", deterministic=True))
    assert isinstance(context, RunContext)
    job = next(job for job in planned if job.transfer == 2 and job.optimizer_index == 0)
    training = training_of(context, job)
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert training.timeline.batch_size == context.data(0).train_size
    assert training.optimizer.state_dict()["state"] == {}


def test_the_rate_of_a_training_is_read_once(finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, _, store, _ = finished
    shutil.copytree(store.root, tmp_path / "store")
    context = prepare(Request(study(), store.root, tmp_path / "store", device="cpu", deterministic=True))
    dense = next(job for job in planned if job.kind == "dense")
    shutil.rmtree(context.store.folder(dense.key))
    seen, read = list[str](), Store.read_json

    def noted(store: Store, key: str, name: str) -> Any:
        seen.append(key)
        return read(store, key, name)

    monkeypatch.setattr(Store, "read_json", noted)
    list(execute(context, dense))
    assert seen.count(dense.optimizer.args["lr"].key) == 1
    metrics, chosen = (read(context.store, key, "metrics.json") for key in (dense.key, dense.optimizer.args["lr"].key))
    assert (metrics["lr"], metrics["lr_edge"]) == (chosen["lr"], chosen["edge"])


def test_the_rates_table_marks_what_was_chosen(finished: Any) -> None:
    planned, _, store, _ = finished
    table = view_of("rates", planned, {}, store)
    assert [row["optimizer"] for row in table] == ["adam"] * 3 + ["momentum"] * 3 + ["gd"] * 3
    for name in ("adam", "momentum", "gd"):
        mine = [row for row in table if row["optimizer"] == name]
        best = max(mine, key=lambda row: (row["validation_accuracy"], -row["validation_loss"]))
        assert [row for row in mine if row["note"].startswith("chosen")] == [best]


def test_an_optimizer_all_whose_rates_diverge_is_a_diverged_cell_and_the_rest_stands(
    finished: Any, tmp_path: Path
) -> None:
    wild = "train.optimizer=[{name: adam, rates: [1e-4, 1e-2]}, {name: momentum, rates: [1e20, 1e30]}]"
    planned, found, store, events = ran(tmp_path, wild)
    ends = {event.kind for event in events if event.kind in ("failed", "diverged", "blocked")}
    assert ends == {"diverged", "blocked"}
    table = view_of("transfer", planned, found)
    assert [row["found_with"] for row in table] == [DENSE, "adam"]
    assert table[1]["momentum_diverged"] == table[0]["momentum_diverged"]
    step = table[0]["momentum_diverged"]
    assert table[0]["momentum"] is None and 0 < step <= 30
    text = render(view_of("means", planned, found), "text").decode()
    assert f"diverged (step {step})" in text
    before, after = (
        next(row for row in view_of("means", p, f) if row["optimizer"] == "adam")
        for p, f in (finished[:2], (planned, found))
    )
    assert (before["dense"], before["ticket"]) == (after["dense"], after["ticket"])
    tried = [row for row in view_of("rates", planned, {}, store) if row["optimizer"] == "momentum"]
    assert [(row["note"], row["diverged"]) for row in tried] == [("", 2)] * 3
    assert render(view_of("rates", planned, {}, store), "parquet")[:4] == b"PAR1"  # a column of one type


def test_another_optimizer_in_the_list_changes_no_job_of_the_others() -> None:
    few = plan(study("train.optimizer=[{name: adam, rates: [1e-4, 1e-2]}, {name: gd, batch_size: all}]"), "0" * 64)
    keys = {job.key for job in plan(study(), "0" * 64)}
    assert {job.key for job in few} <= keys


def test_a_tuned_study_stopped_anywhere_continues_to_the_same_bytes(finished: Any, tmp_path: Path) -> None:
    _, _, store, _ = finished
    request = Request(study(), tmp_path, tmp_path, device="cpu", deterministic=True, checkpoint_seconds=0)
    for steps in (17, 200, 333):
        run_until_stopped(request, steps)
    list(work(prepare(request)))
    assert contents(tmp_path) == contents(store.root)


def test_the_tables_are_there_for_notebooks(finished: Any) -> None:
    _, _, store, _ = finished
    transfer = lottery.table(study(), store=store.root, view="transfer")
    assert list(transfer["found_with"]) == [DENSE, "adam", "momentum", "gd"]
    assert len(lottery.table(study(), store=store.root, view="rates")) == 9


def test_the_choice_is_shown_with_its_trials(finished: Any) -> None:
    planned, _, store, _ = finished
    choice = next(job for job in planned if job.kind == "choice")
    assert choice.label == "adam choice of lr"
    shown = json.loads(store.read(choice.key, "metrics.json"))
    assert math.isclose(shown["lr"], next(t["lr"] for t in shown["trials"] if t["lr"] == shown["lr"]))


def test_what_contradicts_tuning_is_refused_with_its_place() -> None:
    assert problems("data.validation=0", "report=end") == [
        "tuned.yaml:20:1: tune: learning rates are chosen on the validation split; "
        "hold examples out with data.validation"
    ]
    assert problems("seeds=[77]") == [
        "tuned.yaml:22:11: tune.seeds.0: seed 77 is one of the recipe's; tune on seeds of its own, named and not "
        "counted: [1000000, 1000001]"
    ]
    assert problems("train.optimizer.0.lr=0.1") == [
        "--set train.optimizer.0.lr=0.1: train.optimizer.0.lr: tune chooses the learning rate; leave lr out, or give "
        "the range to search as `rates`"
    ]
    assert problems("transfer.levels=3") == [
        "--set transfer.levels=3: transfer.levels: the trunk has levels 1 to 2, no 3; raise prune.levels"
    ]
    assert problems("train.optimizer=[{name: adam, rates: [1, 0.1]}]") == [
        "tuned.yaml:23:1: transfer: there is one optimizer only; list at least two in train.optimizer",
        "--set train.optimizer=[{name: adam, rates: [1, 0.1]}]: train.optimizer.0.rates: [1.0, 0.1] is no range; "
        "write the lower rate first",
    ]
    assert problems("tune=null") == [
        "tuned.yaml:10:5: train.optimizer.0.rates: rates are the range that tune searches; write lr, or add `tune: {}`",
        "tuned.yaml:11:5: train.optimizer.1: momentum needs the key 'lr'",
        "tuned.yaml:12:5: train.optimizer.1.rates: rates are the range that tune searches; write lr, or add `tune: {}`",
        "tuned.yaml:13:5: train.optimizer.2: gd needs the key 'lr'",
    ]


def test_a_range_to_search_is_refused_where_nothing_searches_it_though_tune_is_not_written() -> None:
    text = micro_text("train.optimizer={name: sgd, lr: 0.1, rates: [0.01, 0.1]}")
    assert "tune" not in text
    with pytest.raises(RecipeError, match="rates are the range that tune searches; write lr"):
        parse_recipe(text, "untuned.yaml")


def test_show_prints_a_choice_with_its_trials(finished: Any) -> None:
    from typer.testing import CliRunner

    from lottery.cli.main import app

    planned, _, store, _ = finished
    choice = next(job for job in planned if job.kind == "choice")
    shown = CliRunner().invoke(app, ["show", choice.key[:16], "--store", str(store.root)]).output.splitlines()
    rate = store.read_json(choice.key, "metrics.json")["lr"]
    assert [line for line in shown if line.startswith("lr ")] == [f"lr           {rate}"]
    assert sum(line.startswith("trial ") for line in shown) == 3


def test_a_range_too_narrow_for_its_trials_is_refused() -> None:
    assert problems("train.optimizer.0.rates=[0.1, 0.1001]")[0].endswith(
        "train.optimizer.0.rates: holds fewer than 3 rates that differ in four digits; widen it"
    )


def test_a_rate_that_diverges_is_a_finished_trial_and_no_failure_of_the_run(tmp_path: Path) -> None:
    wide = "train.optimizer=[{name: adam, rates: [1e-4, 1e-2]}, {name: momentum, rates: [1e-2, 1e30]}]"
    planned, _, store, events = ran(tmp_path, wide, "seeds=1", "prune.levels=0", "transfer=null")
    assert {event.kind for event in events} <= {"start", "progress", "done", "found"}
    assert [row["diverged"] for row in view_of("rates", planned, {}, store)] == [0, 0, 0, 0, 2, 2]
