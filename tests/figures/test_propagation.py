"""The picture of signal propagation has the verdict of each row of the table at its place."""

from __future__ import annotations

import math
from typing import Any

import pytest
from matplotlib.colors import to_hex

from lottery.errors import UsageError
from lottery.figures.propagation import LOOKS, propagation_figure

INITS, NORMS, DEPTHS = ("naive(std=0.02)", "kaiming_normal"), ("none", "batch"), (5, 20, 50)
VERDICTS = ("vanishes", "holds", "explodes", "refused")


def table(depths: tuple[int, ...] = DEPTHS) -> list[dict[str, Any]]:
    places = [(init, norm, depth) for init in INITS for norm in NORMS for depth in depths]
    return [
        {
            "init": init,
            "activation": "relu",
            "norm": norm,
            "depth": depth,
            "verdict": VERDICTS[number % 4],
            "forward_rate": (0.5, math.inf, -math.inf, math.nan)[number % 4],
            "backward_rate": -0.001,
        }
        for number, (init, norm, depth) in enumerate(places)
    ]


def cells(axes: Any) -> dict[tuple[float, float], str]:
    """The colours of a panel by the middle of their rectangle."""
    found = {}
    for patch in axes.patches:
        if patch.get_fill():
            found[patch.get_x() + 0.5, patch.get_y() + 0.5] = to_hex(patch.get_facecolor()).upper()
    return found


def test_each_row_of_the_table_is_a_cell_in_the_colour_of_its_verdict() -> None:
    figure: Any = propagation_figure(table(), "mlp networks")
    assert [axes.get_title() for axes in figure.axes] == ["relu, norm none", "relu, norm batch"]
    for axes, norm in zip(figure.axes, NORMS, strict=True):
        rows = [row for row in table() if row["norm"] == norm]
        expected = {
            (float(DEPTHS.index(row["depth"])), float(INITS.index(row["init"]))): LOOKS[row["verdict"]].face
            for row in rows
        }
        assert cells(axes) == expected
        marks = {text.get_position(): text.get_text().splitlines()[0] for text in axes.texts}
        assert {at: LOOKS[row["verdict"]].mark for at, row in zip(expected, rows, strict=True)} == marks
        assert [text.get_text() for text in axes.get_xticklabels()] == ["5", "20", "50"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == list(INITS)
    bottom, top = figure.axes[0].get_ylim()
    assert bottom > top  # the first init stands on top, as in the table


def test_growth_is_told_in_cells_as_long_as_they_have_room() -> None:
    figure: Any = propagation_figure(table(), "mlp networks")
    said = [text.get_text().splitlines()[1:] for text in figure.axes[0].texts]
    assert said == [
        ["→ +0.50", "← 0.00"],
        ["→ +∞", "← 0.00"],
        ["→ \N{MINUS SIGN}∞", "← 0.00"],
        ["→ \N{MINUS SIGN}∞", "← 0.00"],
        [],
        ["→ +0.50", "← 0.00"],
    ]
    assert "growth a layer" in figure.get_label()
    many: Any = propagation_figure(table(tuple(range(3, 11))), "mlp networks")
    assert all("→" not in text.get_text() for text in many.axes[0].texts)
    assert "growth a layer" not in many.get_label()


def test_marks_and_greys_tell_verdicts_apart_without_colour() -> None:
    assert len({look.mark for look in LOOKS.values()}) == len(LOOKS)


def test_no_cell_text_leaves_its_cell_and_no_label_is_cut_off() -> None:
    figure: Any = propagation_figure(table(), "mlp networks of width 100 and seed 0")
    figure.draw_without_rendering()
    for axes in figure.axes:
        width = axes.get_window_extent().width / len(DEPTHS)
        height = axes.get_window_extent().height / len(INITS)
        for text in axes.texts:
            box = text.get_window_extent()
            assert box.width < width and box.height < height
        for label in axes.get_yticklabels():
            assert label.get_window_extent().x0 >= 0
    above = figure._suptitle.get_window_extent()
    assert above.y1 <= figure.bbox.y1 + 1 and above.x1 <= figure.bbox.x1


def test_no_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="no rows"):
        propagation_figure([], "mlp networks")
