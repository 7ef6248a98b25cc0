"""What a figure shows of a study: names, levels, densities, and what is said of unknown ones."""

from __future__ import annotations

from typing import Any

import pytest

from lottery.cli.plot_options import listed, selection
from lottery.errors import UsageError
from lottery.figures import draw
from lottery.figures.colors import column_styles
from lottery.figures.selection import Selection
from lottery.figures.sizes import width_of
from lottery.results.study import Study
from tests.support.studies import Recorded, everything, hand

THREE = "train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 2e-3}, {name: sgd, lr: 0.1}]"


def study() -> Study:
    planned = hand(THREE, "prune.levels=3", "branches=[reinit, shuffle]")
    return Study(planned, everything(planned), Recorded(planned))


def shown(figure: str, **wanted: Any) -> Any:
    return draw(study(), figure, shown=Selection(**wanted))


def test_a_name_stands_for_all_optimizers_that_have_it_and_a_label_for_one() -> None:
    for name, labels in (
        ("adam", ["adam(lr=0.001)", "adam(lr=0.002)"]),
        ("adam(lr=0.002)", ["adam(lr=0.002)"]),
        ("sgd", ["sgd"]),
    ):
        for figure in ("accuracy", "curves"):
            assert [axes.get_title() for axes in shown(figure, optimizers=[name], levels=[1]).axes] == labels


def test_levels_and_densities_name_the_same_points() -> None:
    for wanted in ({"levels": [1, 3]}, {"densities": ["50", "12.5"]}, {"levels": [1], "densities": ["12.50"]}):
        for figure in ("accuracy", "differences"):
            axes = shown(figure, optimizers=["sgd"], **wanted).axes[0]
            assert list(axes.containers[0].lines[0].get_xdata()) == [0.5, 0.125]
        curves = shown("curves", optimizers=["sgd"], **wanted).axes[0]
        assert [line.get_label() for line in curves.lines] == ["50 % of the weights", "12.5 % of the weights"]


def test_columns_keep_their_colours_where_others_are_left_out() -> None:
    styles = column_styles(study().recipe)
    for name in ("ticket", "reinit", "shuffle"):
        (bars,) = shown("accuracy", optimizers=["sgd"], columns=[name]).axes[0].containers
        assert (
            bars.lines[0].get_color() == styles[name]["color"] and bars.lines[0].get_marker() == styles[name]["marker"]
        )
        bars = shown("differences", optimizers=["sgd"], columns=[name]).axes[0].containers[0]
        assert bars.lines[0].get_color() == styles[name]["color"]


def test_learning_curves_of_a_control_stand_in_a_panel_of_their_own() -> None:
    figure = shown("curves", optimizers=["sgd"], columns=["ticket", "reinit"])
    assert [axes.get_title() for axes in figure.axes] == ["sgd, ticket", "sgd, reinit"]
    assert all(len(axes.lines) == 4 and axes.lines[0].get_label() == "dense" for axes in figure.axes)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"optimizers": ["sdg"]}, "--optimizers sdg: there are adam, sgd, adam(lr=0.001), adam(lr=0.002)"),
        ({"columns": ["reinitialized"]}, "--columns reinitialized: there are ticket, reinit, shuffle"),
        ({"levels": [4]}, "--levels 4: there are 0, 1, 2, 3"),
        ({"densities": ["33"]}, "--densities 33: there are 100, 50, 25, 12.5"),
        ({"densities": ["a half"]}, "--densities a half: there are 100, 50, 25, 12.5"),
    ],
)
def test_unknown_values_are_answered_with_the_choices_in_one_line(wanted: dict[str, Any], message: str) -> None:
    for figure in ("accuracy", "differences", "curves"):
        with pytest.raises(UsageError) as caught:
            shown(figure, **wanted)
        assert str(caught.value) == message


def test_commas_in_brackets_belong_to_a_label() -> None:
    assert listed(["adam(lr=0.1, eps=1e-8), sgd", "lion"]) == ("adam(lr=0.1, eps=1e-8)", "sgd", "lion")
    assert selection(levels=["1,3", "5-7"]).levels == (1, 3, 5, 6, 7)
    with pytest.raises(UsageError, match="--levels two: is a level, such as 3"):
        selection(levels=["two"])


def test_a_width_is_a_name_or_a_number_with_its_unit() -> None:
    assert width_of(None) is None
    found = {text: width_of(text) for text in ("column", "page", "3.5", "3.5in", "88.9mm", "8.89 cm", "252.945pt")}
    assert found.pop("column") == 3.25 and found.pop("page") == 6.75
    assert list(found.values()) == pytest.approx([3.5] * 5)
    for text in ("wide", "0", "3.5ft", "-3", "500"):
        with pytest.raises(UsageError, match=f"width {text}: "):
            width_of(text)
