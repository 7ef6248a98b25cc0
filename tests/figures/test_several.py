"""One figure of several studies: what stands in which panel, how it looks, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from lottery.analysis.several import rows_of_several
from lottery.errors import UsageError
from lottery.figures import draw, figure_bytes
from lottery.figures.selection import Selection
from lottery.results.several import several
from lottery.results.study import Study
from tests.support.studies import Recorded, hand, record

BOTH = "train.optimizer=[{name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"
MARGIN = "compare={margin: 1}"


def study(name: str, ticket: float, *overrides: str, dense: float = 0.8) -> Study:
    planned = hand(f"name={name}", "prune.levels=2", "seeds=3", "branches=[reinit]", MARGIN, *overrides)
    found = {}
    for job in planned:
        if job.kind != "rewind":
            value = dense if job.kind == "dense" else ticket - 0.1 * bool(job.branch) - 0.01 * job.level
            found[job.key] = record(job, value + 0.01 * job.seed)
    return Study(planned, found, Recorded(planned))


def bars(axes: Any) -> dict[str, Any]:
    return {container.get_label(): container.lines[0] for container in axes.containers}


def test_tickets_of_several_studies_stand_in_one_panel_for_each_optimizer() -> None:
    one, other = study("one", 0.82, BOTH), study("other", 0.79, BOTH, "prune.criterion=random")
    figure = draw(several([one, other]), "accuracy")
    assert [axes.get_title() for axes in figure.axes] == ["adam", "sgd"]
    for axes in list[Any](figure.axes):
        assert list(bars(axes)) == ["one", "other"]
        assert list(bars(axes)["one"].get_ydata()) == pytest.approx([82, 81])
        assert list(bars(axes)["other"].get_ydata()) == pytest.approx([79, 78])
        assert [line.get_label() for line in axes.lines].count("dense") == 1  # the same dense networks
    looks = [{name: line.get_color() for name, line in bars(axes).items()} for axes in figure.axes]
    assert looks[0] == looks[1] and len(set(looks[0].values())) == 2
    (alone,) = draw(several([one, other]), "accuracy", shown=Selection(optimizers=["sgd"])).axes
    assert {name: line.get_color() for name, line in bars(alone).items()} == looks[0]


def test_rewind_points_and_columns_are_told_apart() -> None:
    early, late = study("early", 0.8), study("late", 0.82, "rewind=[10it, 20it]")
    (axes,) = draw(several([early, late]), "accuracy", shown=Selection(columns=["ticket", "reinit"])).axes
    named = [f"{study}, {column}" for study in ("early", "late, 10it", "late, 20it") for column in ("ticket", "reinit")]
    assert list(bars(axes)) == named
    assert len({(line.get_color(), line.get_linestyle()) for line in bars(axes).values()}) == 6


def test_studies_of_one_optimizer_each_stand_in_one_panel() -> None:
    one, other = study("one", 0.82), study("other", 0.79, "train.optimizer={name: sgd, lr: 0.1}", dense=0.7)
    (axes,) = list[Any](draw(several([one, other]), "accuracy").axes)
    assert list(bars(axes)) == ["one, adam", "other, sgd"]
    dense = {line.get_label(): line for line in axes.lines if "dense" in line.get_label()}
    assert set(dense) == {"dense, one, adam", "dense, other, sgd"}
    assert [float(line.get_ydata()[0]) for line in dense.values()] == pytest.approx([81, 71])
    assert dense["dense, one, adam"].get_color() == bars(axes)["one, adam"].get_color()


def test_an_optimizer_has_one_panel_though_one_study_has_to_tell_it_from_another() -> None:
    one = study("one", 0.82, "train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 2e-3}, {name: sgd, lr: 0.1}]")
    figure = draw(several([one, study("other", 0.79, BOTH, "prune.criterion=random")]), "accuracy")
    shown = {axes.get_title(): list(bars(axes)) for axes in figure.axes}
    assert shown == {"adam(lr=0.001)": ["one", "other"], "adam(lr=0.002)": ["one"], "sgd": ["one", "other"]}


def test_differences_of_several_studies_are_each_to_its_own_dense_network() -> None:
    one, other = study("one", 0.82), study("other", 0.79, "prune.criterion=random", dense=0.75)
    figure = draw(several([one, other]), "differences", against=["dense", "reinit"])
    below = [dict(bars(axes)) for axes in list[Any](figure.axes)]
    assert list(below[0]["one"].get_ydata()) == pytest.approx([1, 0])
    assert list(below[0]["other"].get_ydata()) == pytest.approx([3, 2])
    assert list(below[1]["one"].get_ydata()) == pytest.approx([10, 10])
    figure_bytes(figure, "svg")


def test_a_study_less_another_has_the_numbers_and_verdicts_of_the_table_of_both() -> None:
    one, other = study("one", 0.82, BOTH), study("other", 0.79, BOTH, "prune.criterion=random")
    for held in (one, other):
        for place, key in enumerate(sorted(held.found)):
            held.found[key].metrics["best_accuracy"]["test_accuracy"] += 1e-4 * (place % 7)
    table = [row for row in rows_of_several([one, other], "means") if row.get("difference") is not None]
    figure = draw(several([one, other]), "differences", against=["one"])
    assert [axes.get_title() for axes in figure.axes] == ["adam", "sgd"]
    for axes in list[Any](figure.axes):
        mine = [row for row in table if row["optimizer"] == axes.get_title()]
        (errors,) = axes.containers
        line, _, (segments,) = errors.lines
        assert errors.get_label() == "other"
        assert list(line.get_xdata()) == [row["density"] for row in mine]
        assert list(line.get_ydata()) == pytest.approx([100 * row["difference"] for row in mine])
        for segment, row in zip(segments.get_segments(), mine, strict=True):
            assert segment[:, 1] == pytest.approx([100 * row["low"], 100 * row["high"]])
            marks = [each for each in axes.lines if each.get_label() == row["verdict"]]
            assert row["density"] in [each.get_xdata()[0] for each in marks]


def test_a_figure_of_one_study_refuses_several() -> None:
    both = several([study("one", 0.82), study("other", 0.79, "prune.criterion=random")])
    with pytest.raises(
        UsageError, match=r"shows one study, of a sweep one --point; of several .* accuracy, differences, early"
    ):
        draw(both, "curves")
