"""Balanced accuracy and top-5: what scikit-learn measures, at the steps of accuracy, where they are asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch import Tensor

from lottery.analysis.views import rows_of
from lottery.audit import protocol_checks
from lottery.audit.stored_jobs import StoredJobs
from lottery.audit.trainings import audit_training
from lottery.errors import RecipeError, UsageError
from lottery.formats.render import render
from lottery.plan.expand import plan
from lottery.plan.keys import training_identity
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import READINGS
from lottery.recipe.schema import Recipe
from lottery.report.content import collect
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.stored_level import StoredLevel
from lottery.tickets.checks import checks
from lottery.tickets.export import export
from lottery.tickets.file import read
from lottery.training.evaluation import Classes
from tests.support.micro import micro_text
from tests.support.studies import everything, hand, view_of

CPU = torch.device("cpu")
BOTH = ("balanced_accuracy", "top5")
TEXT = micro_text(
    "model.widths=[8]",
    "metrics=[top5, balanced_accuracy]",
    "prune.levels=1",
    "rewind=4it",
    "branches=[shuffle]",
)
TUNED = ("train.optimizer=[adam, momentum]", "tune={trials: 2}", "transfer=all")


def recipe_of(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "metrics.yaml", [*TUNED, *overrides])


def alone(*overrides: str) -> Recipe:
    """One optimizer with a rate of its own."""
    return parse_recipe(TEXT, "metrics.yaml", ["train.optimizer.lr=0.1", *overrides])


def measured(scores: Tensor, y: Tensor, *measures: str, batch: int = 7) -> dict[str, float]:
    tally = Classes(CPU, scores.shape[1], measures)
    for part in zip(scores.split(batch), y.split(batch), strict=True):
        tally.add(*part)
    return tally.result()


def drawn(n: int, classes: int, levels: int | None = None, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores and labels, the classes of different sizes; with `levels` only so many values, so that many are equal."""
    draw = np.random.default_rng(seed)
    y = np.minimum(draw.geometric(0.3, n) - 1, classes - 1)
    scores = draw.normal(size=(n, classes)) + (np.arange(classes) == y[:, None])
    values = scores if levels is None else np.floor(scores * levels / 4)
    return torch.from_numpy(values.astype(np.float32)), torch.from_numpy(y)


@pytest.mark.parametrize("levels", [None, 1, 2])
def test_balanced_accuracy_is_scikit_learns(levels: int | None) -> None:
    scores, y = drawn(300, 8, levels)
    found = measured(scores, y, *BOTH)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, scores.argmax(1)), abs=1e-15)
    assert found["accuracy"] == (scores.argmax(1) == y).double().mean().item() != found["balanced_accuracy"]


def test_balanced_accuracy_is_the_mean_over_the_classes_that_occur() -> None:
    y = torch.tensor([0, 0, 0, 2, 2, 5])
    predicted = torch.tensor([0, 0, 1, 2, 3, 4])
    scores = torch.nn.functional.one_hot(predicted, 7).float()
    assert measured(scores, y, "balanced_accuracy", batch=2)["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 3)


def test_top5_is_scikit_learns() -> None:
    scores, y = drawn(300, 9)
    theirs = top_k_accuracy_score(y, scores.numpy(), k=5, labels=range(9))
    assert measured(scores, y, "top5")["top5"] == theirs < 1


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_of_equal_scores_the_lower_class_comes_first(levels: int) -> None:
    """scikit-learn takes the higher one: the same number with the classes counted from the other end."""
    scores, y = drawn(400, 9, levels)
    assert (scores.sort(1).values.diff(dim=1) == 0).any(1).double().mean() > 0.9
    theirs = top_k_accuracy_score(8 - y.numpy(), scores.numpy()[:, ::-1], k=5, labels=range(9))
    assert measured(scores, y, "top5")["top5"] == theirs
    assert theirs != top_k_accuracy_score(y, scores.numpy(), k=5, labels=range(9))


def test_a_network_that_tells_nothing_apart_has_five_classes_right() -> None:
    y = torch.arange(10)
    found = measured(torch.zeros(10, 10), y, *BOTH)
    assert (found["accuracy"], found["balanced_accuracy"], found["top5"]) == (0.1, 0.1, 0.5)


def test_a_score_that_is_no_number_is_never_right() -> None:
    scores = torch.full((8, 8), torch.nan)
    assert measured(scores, torch.arange(8), "top5")["top5"] == 0
    scores = torch.arange(8.0).repeat(8, 1)
    scores[:, 0] = torch.nan  # counts as the highest: four others are left
    assert measured(scores, torch.arange(8), "top5")["top5"] == 4 / 8


def test_what_is_not_asked_for_is_not_there() -> None:
    scores, y = drawn(20, 8)
    assert list(measured(scores, y)) == ["loss", "accuracy"]
    assert list(measured(scores, y, "top5")) == ["loss", "accuracy", "top5"]


# In a study


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    folder = tmp_path_factory.mktemp("metrics")
    context = prepare(Request(recipe_of(), folder, folder / "store", device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context


def study_of(context: RunContext) -> Study:
    return Study(context.plan, records(context.plan, context.store), context.store)


def test_they_are_measured_at_the_steps_of_accuracy_on_both_sets(finished: RunContext) -> None:
    (job,) = [job for job in finished.plan if job.kind == "ticket" and job.optimizer_index == 0]
    metrics = finished.store.read_json(job.key, "metrics.json")
    model = finished.networks.blank()
    model.load_state_dict(dict(StoredLevel(finished, job).trained))
    for part in ("validation", "test"):
        batches = list(finished.data(job.seed).evaluation(part))
        y = torch.cat([y for _, y in batches])
        with torch.no_grad():
            scores = torch.cat([model.eval()(x) for x, _ in batches])
        end = metrics["end"]
        assert end[f"{part}_accuracy"] == (scores.argmax(1) == y).double().mean().item()
        assert end[f"{part}_top5"] == top_k_accuracy_score(y, scores.numpy(), k=5, labels=range(10))
        balanced = balanced_accuracy_score(y, scores.argmax(1))
        assert end[f"{part}_balanced_accuracy"] == pytest.approx(balanced, abs=1e-15)
    assert set(metrics["early_stop"]) == {*metrics["end"], "censored"}
    assert all("validation_top5" in row and "test_top5" not in row for row in metrics["curve"])


def test_they_change_no_other_number_and_no_trial(finished: RunContext, tmp_path: Path) -> None:
    plain = prepare(Request(recipe_of("metrics=[]"), tmp_path, tmp_path, device="cpu", deterministic=True))
    trials = [[job.key for job in context.plan if job.kind in ("trial", "choice")] for context in (finished, plain)]
    assert trials[0] == trials[1]
    list(work(plain))
    for asked, not_asked in zip(finished.plan, plain.plan, strict=True):
        assert (asked.key == not_asked.key) == (asked.kind in ("trial", "choice"))
        if asked.kind not in ("dense", "ticket", "branch"):
            continue
        mine, theirs = (b.store.read_json(j.key, "metrics.json") for b, j in ((finished, asked), (plain, not_asked)))
        for place in READINGS:
            assert {k: v for k, v in mine[place].items() if not k.endswith(BOTH)} == theirs[place]
        if asked.kind != "branch":
            files = [b.store.read(j.key, "weights.safetensors") for b, j in ((finished, asked), (plain, not_asked))]
            assert files[0] == files[1]


def test_tables_have_a_column_for_each_network_and_measure(finished: RunContext) -> None:
    study = study_of(finished)
    (row, _) = rows_of(study, "means")
    for network in ("dense", "ticket", "shuffle"):
        job = next(
            j for j in finished.plan if j.optimizer_index == 0 and network in (j.kind, j.branch and j.branch.label)
        )
        read = finished.store.read_json(job.key, "metrics.json")["best_accuracy"]
        for metric in BOTH:
            cell = f"{network}_{metric}"
            assert (row[cell], row[f"{cell}_n"], row[f"{cell}_std"]) == (read[f"test_{metric}"], 1, None)
    first = rows_of(study, "long")[0]
    assert {f"{at}_{part}_{m}" for at in READINGS for part in ("validation", "test") for m in BOTH} < set(first)
    assert rows_of(study, "transfer")[0]["adam_top5"] == rows_of(study, "means")[0]["dense_top5"]
    assert f"{100 * row['ticket_top5']:.2f} (1)" in render([row], "text").decode()
    for form in ("csv", "json", "latex", "markdown"):
        assert b"top5" in render([row], form).replace(b"\\_", b"_")


def test_the_report_says_what_they_are(finished: RunContext) -> None:
    section = next(each for each in collect(study_of(finished)).sections if each.name == "accuracy")
    assert "Top-5 accuracy is the share of test examples" in section.explanation
    assert "ticket_balanced_accuracy" in section.tables[0].rows[0]


def test_columns_are_those_that_are_asked_for() -> None:
    planned = hand()
    assert not any(
        "top5" in name for view in ("means", "long") for name in view_of(view, planned, everything(planned))[0]
    )


def test_the_audit_is_content_and_reads_them_as_test_values(finished: RunContext) -> None:
    assert all(row["ok"] for row in rows_of(study_of(finished), "audit"))
    study = study_of(finished)
    record = next(record for record in study.found.values() if record.job.kind == "ticket")
    audited = audit_training(StoredJobs(finished.store), record, "early_stop")
    assert audited.values["metrics"] == '["balanced_accuracy", "top5"]' and not audited.problems
    lacking = json.loads(json.dumps(record.metrics))
    for place in READINGS:
        del lacking[place]["test_top5"]
    problems = audit_training(StoredJobs(finished.store), replace(record, metrics=lacking), "early_stop").problems
    assert list(problems) == [("metrics", f"there is no test_top5 at {place}") for place in READINGS]


def test_one_step_has_one_value_of_each_and_no_row_of_the_curve_a_test_value() -> None:
    row = {"step": 4, "test_top5": 0.5, "test_balanced_accuracy": 0.5}
    metrics: dict[str, Any] = {"end": row, "early_stop": {**row, "test_top5": 0.6}, "curve": []}
    assert list(protocol_checks.leaks(metrics)) == ["test_top5 has two values at step 4"]
    metrics = {"end": row, "early_stop": None, "curve": [{"step": 4, "test_balanced_accuracy": 0.5}]}
    assert list(protocol_checks.leaks(metrics)) == ["test values stand in curve"]


def test_a_ticket_file_trains_what_its_key_stands_for(finished: RunContext, tmp_path: Path) -> None:
    (job,) = [job for job in finished.plan if job.kind == "ticket" and job.optimizer_index == 0]
    (tmp_path / "a.ticket").write_bytes(export(finished.store, job.key, tmp_path))
    ticket = read(tmp_path / "a.ticket")
    assert set(ticket.recipe.metrics) == set(BOTH)
    assert all(fine for _, fine, _ in checks(ticket))


def test_they_are_part_of_keys_only_where_asked_for_and_in_any_order() -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        return training_identity(recipe_of(*overrides), "f", 0, recipe_of().train.optimizer[0])

    asked, not_asked = identity(), identity("metrics=[]")
    assert asked == {**not_asked, "metrics": ["balanced_accuracy", "top5"]}
    assert identity("metrics=[balanced_accuracy, top5]") == asked
    assert identity("metrics=top5") == {**not_asked, "metrics": ["top5"]}
    assert not any("metrics" in job.identity["training"] for job in plan(recipe_of(), "f") if job.kind == "trial")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("metrics=[top5, top5]", "metrics.1: the same as item 0; every one may be given once"),
        ("metrics=[top3]", "metrics.0: "),
        ("branches=[{name: shuffle, as: my_top5}]", "branches.0: the table has its own column 'my_top5'; "),
    ],
)
def test_what_cannot_be_measured_is_refused_at_its_place(override: str, problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(override)
    assert any(problem in each for each in caught.value.problems)


def test_they_are_of_classes(tmp_path: Path) -> None:
    recipe = alone("data={name: matrix_factorization, size: 20}", "model=deep_linear")
    with pytest.raises(UsageError, match=r"^metrics: top5 is of classes, the targets of these data are numbers; "):
        prepare(Request(recipe, tmp_path, tmp_path, device="cpu"))


def test_top5_of_five_classes_is_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label in "abcde":
            place = tmp_path / "pets" / part / label
            place.mkdir(parents=True)
            Image.new("RGB", (4, 4), (ord(label), 2, 3)).save(place / "0.png")
    recipe = alone("data={name: image_folder, folder: pets, size: 4, std: [1, 1, 1]}")
    with pytest.raises(UsageError, match=r"^metrics: top5 of 5 classes is always 1; leave it out$"):
        prepare(Request(recipe, tmp_path, tmp_path, device="cpu"))
