"""Tables and the figure of a sweep: every point's rows, with the values that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery.analysis.sweep import swept_rows_of, swept_values
from lottery.analysis.sweep_values import observed
from lottery.analysis.views import rows_of
from lottery.errors import UsageError
from lottery.figures import figure_bytes
from lottery.figures.sweep import sweep_figure
from lottery.formats.render import FORMATS, render
from lottery.plan.expand import plan
from lottery.recipe.sweep import Sweep, parse_sweep
from lottery.results.study import Study
from lottery.results.sweep import SweptStudy
from lottery.words import short_keys
from tests.support.studies import TEXT, Recorded, dense, made, ticket

SWEEP = TEXT + "sweep:\n  model.norm: [none, batch]\n  train.optimizer.lr: [0.001, 0.01, 1]\n"


def swept(text: str = SWEEP, *overrides: str) -> SweptStudy:
    """Return a sweep of made-up trainings: with batch normalization better by 0.2, at the last rate diverged."""
    sweep = parse_sweep(text, "hand.yaml", overrides)
    return SweptStudy(sweep, tuple(_study(sweep, number) for number in range(len(sweep.points))))


def _study(sweep: Sweep, number: int) -> Study:
    planned, better = plan(sweep.points[number].recipe, "f" * 64), 0.2 * (number >= 3)
    accuracies = {seed: 0.5 + better + 0.1 * seed for seed in (0, 1)}
    found = made(
        planned, *(pair for seed, a in accuracies.items() for pair in (dense(seed, a), ticket(seed, a + 0.02)))
    )
    if number == 5:
        found |= made(planned, dense(0, 0.0, diverged=3))
    return Study(planned, found, Recorded(planned))


def drawn(container: Any) -> list[float]:
    """Return the heights of the marks of a curve with its bars."""
    return [float(y) for y in container.lines[0].get_ydata()]


def test_a_view_of_a_sweep_has_the_rows_of_its_points_with_the_values_in_front() -> None:
    found = swept()
    for view in ("means", "long"):
        rows = swept_rows_of(found, view)
        own = [row for study in found.studies for row in rows_of(study, view)]
        assert [list(row)[:2] for row in rows] == [["model.norm", "train.optimizer.lr"]] * len(own)
        assert [dict(list(row.items())[2:]) for row in rows] == [dict(row) for row in own]
        assert [row.made_from for row in rows] == [row.made_from for row in own]
    assert [row["train.optimizer.lr"] for row in swept_rows_of(found, "means")] == [0.001, 0.01, 1] * 2


def test_numbers_stay_numbers_and_entries_are_written_as_in_a_recipe() -> None:
    text = (
        TEXT
        + "sweep: {prune.fraction: [0.2, 0.5], model: [{name: lenet, widths: [8]}, lenet], data.stratify: [true]}\n"
    )
    values = swept_values(parse_sweep(text, "hand.yaml"))
    assert values[0] == {"prune.fraction": 0.2, "model": "{name: lenet, widths: [8]}", "data.stratify": "true"}
    assert values[1]["model"] == "lenet"


def test_short_keys_tell_each_from_the_others_and_from_columns_of_views() -> None:
    assert short_keys(["train.optimizer.lr", "init"]) == {"train.optimizer.lr": "optimizer.lr", "init": "init"}
    assert short_keys(["a.b.c", "x.b.c"]) == {"a.b.c": "a.b.c", "x.b.c": "x.b.c"}


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "parquet"])
def test_each_format_has_the_swept_values_of_each_row(form: str) -> None:
    told = render(swept_rows_of(swept(), "means"), form, 80 if form == "text" else None).decode()
    names = {"csv": "model.norm,train.optimizer.lr,", "json": '"train.optimizer.lr": 0.001'}
    assert names.get(form, "optimizer.lr") in told
    assert told.count("batch") >= 3


def test_a_view_that_a_point_lacks_is_refused_with_the_point() -> None:
    with pytest.raises(UsageError, match=r"\(at model\.norm=none, train\.optimizer\.lr=0\.001\)"):
        swept_rows_of(swept(), "verdicts")
    with pytest.raises(UsageError, match="view 'mean': there are means"):
        swept_rows_of(swept(), "mean")


def test_a_training_that_points_share_is_missing_once() -> None:
    sweep = parse_sweep(TEXT + "sweep: {prune.levels: [1, 2]}\n", "hand.yaml")
    studies = [Study(planned := plan(p.recipe, "f" * 64), {}, Recorded(planned)) for p in sweep.points]
    assert [study.missing for study in studies] == [4, 6]
    assert SweptStudy(sweep, tuple(studies)).missing == 6


def test_the_figure_has_a_line_for_the_other_keys_and_a_place_for_each_value() -> None:
    figure = sweep_figure(swept())
    axes = figure.get_axes()
    assert [each.get_title() for each in axes] == ["dense", "ticket, 50 % of the weights"]
    assert [text.get_text() for text in axes[0].get_xticklabels()] == ["0.001", "0.01", "1"]
    none, batch = (drawn(each) for each in axes[0].containers)
    assert none == pytest.approx([55, 55, 55])
    assert batch == pytest.approx([75, 75, 80])  # of the last the seed that did not diverge
    hollow = [line for line in axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata() for line in hollow] == [(1.0,)]
    assert [each.get_label() for each in axes[0].containers] == ["model.norm none", "model.norm batch"]
    assert figure_bytes(figure, "svg") == figure_bytes(sweep_figure(swept()), "svg")


def test_the_figure_takes_another_key_measure_and_network_and_refuses_what_there_is_not() -> None:
    figure = sweep_figure(swept(), "model.norm", "loss", ["ticket"])
    (axes,) = figure.get_axes()
    assert [text.get_text() for text in axes.get_xticklabels()] == ["none", "batch"]
    assert [drawn(each) for each in axes.containers] == [[0.3, 0.3]] * 3
    with pytest.raises(UsageError, match=r"model\.nrom: is not swept; did you mean 'model\.norm'"):
        sweep_figure(swept(), "model.nrom")
    with pytest.raises(UsageError, match="measure 'accurate': there are accuracy, loss"):
        sweep_figure(swept(), measure="accurate")
    with pytest.raises(UsageError, match="network 'tickets': there are dense, ticket"):
        sweep_figure(swept(), networks=["tickets"])


def test_a_seed_that_diverged_has_no_value_and_is_named() -> None:
    seen = observed(swept().studies[5], "accuracy")["", "dense", 0]
    assert (seen.values, seen.diverged) == ({1: pytest.approx(0.8)}, {0})


def test_keys_that_go_with_the_axis_make_no_lines_of_their_own() -> None:
    text = TEXT + "sweep: {zip: {prune.fraction: [0.2, 0.5], init: [torch, orthogonal]}}\n"
    sweep = parse_sweep(text, "hand.yaml")
    found = SweptStudy(sweep, tuple(_study(sweep, number) for number in range(2)))
    assert len(sweep_figure(found).get_axes()[0].containers) == 1


def test_the_functions_of_the_package_take_a_sweep(tmp_path: Path) -> None:
    (path := tmp_path / "swept.yaml").write_text(SWEEP)
    assert len(lottery.load_sweep(path).points) == 6
    frame = lottery.table(path, store=tmp_path / "store", view="long", data=tmp_path)
    assert list(frame.columns[:2]) == ["model.norm", "train.optimizer.lr"]
