"""Learning curves as rows, and the figure that is drawn of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lottery.analysis.curves import evaluations
from lottery.analysis.views import rows_of
from lottery.figures import draw
from lottery.formats.render import frame
from lottery.recipe.load import parse_recipe
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from tests.support.micro import micro_text
from tests.support.studies import Recorded, everything, hand

TRAINED = micro_text(
    "name=curves",
    "data={name: digits, validation: 100, limit: 150}",
    "model.widths=[6]",
    "train.optimizer=[{name: adam, lr: 1e-2}, {name: sgd, lr: 0.1, batch_size: 30}]",
    "train.batch_size=20",
    "train.length=2ep",
    "train.evaluate_every=5it",
    "prune.levels=1",
    "rewind=5it",
    "seeds=2",
    "branches=[{name: reinit, samples: 2}]",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("curves")
    context = prepare(Request(parse_recipe(TRAINED, "curves.yaml"), folder, folder / "store", device="cpu"))
    list(work(context))
    return Study(context.plan, records(context.plan, context.store), context.store, folder)


def test_each_evaluation_of_each_training_has_a_row_for_each_split(trained: Study) -> None:
    rows = rows_of(trained, "curves")
    for job in trained.plan:
        if not job.kind.measured:
            continue
        curve = trained.found[job.key].metrics["curve"]
        mine = [row for row in rows if row["key"] == job.key]
        assert [(row["step"], row["split"]) for row in mine] == [
            (measured["step"], split) for measured in curve for split in ("train", "validation")
        ]
        for measured, train, validation in zip(curve, mine[::2], mine[1::2], strict=True):
            assert (train["loss"], train["accuracy"]) == (measured["train_loss"], None)
            assert validation["loss"] == measured["validation_loss"]
            assert validation["accuracy"] == measured["validation_accuracy"]
        assert {(row["seed"], row["level"], row["density"]) for row in mine} == {
            (job.seed, job.level, trained.found[job.key].density)
        }
        assert mine[0].made_from == (job.key,)
    assert {row["kind"] for row in rows} == {"dense", "ticket", "reinit"}
    assert {row["sample"] for row in rows if row["kind"] == "reinit"} == {0, 1}


def test_an_epoch_is_a_pass_over_the_data_with_the_optimizers_own_batches(trained: Study) -> None:
    rows = rows_of(trained, "curves")
    for optimizer, batches in (("adam", 8), ("sgd", 5)):
        mine = [row for row in rows if row["optimizer"] == optimizer]
        assert max(row["step"] for row in mine) == 2 * batches
        assert all(row["epoch"] == pytest.approx(row["step"] / batches) for row in mine)


def test_without_the_data_epochs_are_not_known(trained: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lottery.errors import DataError

    def gone(*_: Any) -> Any:
        raise DataError("no data here")

    monkeypatch.setattr("lottery.runner.finished_study.context_of", gone)
    rows = rows_of(trained, "curves")
    assert {row["epoch"] for row in rows} == {None} and {row["step"] for row in rows} > {5}


def test_the_figure_draws_the_means_of_these_rows(trained: Study) -> None:
    table = frame(rows_of(trained, "curves"))
    table = table[(table.split == "validation") & table.kind.isin(["dense", "ticket"])]
    for axes in list[Any](draw(trained, "curves").axes):
        curves = {line.get_label(): line for line in axes.lines}
        for label, level in (("dense", 0), ("50 % of the weights", 1)):
            mine = table[(table.optimizer == axes.get_title()) & (table.level == level)]
            means = 100 * mine.groupby("step").accuracy.mean()
            assert list(curves[label].get_xdata()) == list(means.index)
            assert list(curves[label].get_ydata()) == pytest.approx(list(means))


def test_a_training_that_diverged_and_one_that_is_missing_leave_whole_rows_only() -> None:
    planned = hand("seeds=2")
    found = everything(planned)
    gone = next(job.key for job in planned if job.kind == "ticket")
    held = Study(planned, {key: each for key, each in found.items() if key != gone}, Recorded(planned))
    rows = evaluations(held)
    assert gone not in {row["key"] for row in rows} and len({frozenset(row) for row in rows}) == 1
    assert np.unique([row["step"] for row in rows if row["level"] == 1]).tolist() == list(range(0, 101, 10))
