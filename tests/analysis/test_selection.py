"""Parts of a table by `--rows` and `--columns`."""

from __future__ import annotations

import pytest

from lottery.analysis.columns import DENSITY, SEED, Column, mean
from lottery.analysis.rows import Row, Values
from lottery.analysis.selection import select, setting
from lottery.errors import UsageError


def row(optimizer: str, density: float, seed: int, accuracy: float) -> Row:
    cells: Values = dict(zip(mean("ticket"), (accuracy, 0.01, 5, None), strict=True))
    return Row({"optimizer": optimizer, DENSITY: density, SEED: seed, **cells, "other": 1, "note": "n"}, ["k"])


ROWS = [row("adam", 0.2097152, 0, 0.9), row("adam(lr=0.1, eps=1e-8)", 0.168, 1, 0.8), row("sgd", 0.0041, 12, 0.7)]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("density=20.97", [0]),
        ("density=21", [0]),
        ("density=20.97 %,0.41", [0, 2]),
        ("optimizer=sgd", [2]),
        ("optimizer=adam(lr=0.1, eps=1e-8)", [1]),
        ("seed=12,0", [0, 2]),
        ("ticket=90", [0]),
    ],
)
def test_rows_are_named_by_a_value_as_people_read_it(text: str, places: list[int]) -> None:
    assert select(ROWS, [setting(text)]) == [ROWS[place] for place in places]


def test_several_settings_hold_together() -> None:
    assert select(ROWS, [setting("density=20.97,16.8"), setting("seed=1")]) == [ROWS[1]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("density=0.2", "rows density=0.2: no row has that; there are 20.97, 16.8, 0.41"),
        ("densty=20", "there is no column 'densty'; did you mean 'density'"),
        ("density", "write it as column=value, such as density=20.97,5.5"),
        ("seed=x", "no row has that; there are 0, 1, 12"),
    ],
)
def test_a_row_that_is_not_there_is_refused_with_those_there_are(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        select(ROWS, [setting(text)])
    assert said in str(refused.value)


def test_columns_stand_as_they_are_named_with_their_deviation_beside_what_says_what_a_row_is() -> None:
    (first, *_) = select(ROWS, (), ["other", "ticket"])
    wanted = ["optimizer", "density", "other", "ticket", "ticket_std", "ticket_n", "ticket_diverged", "note"]
    assert list(first) == wanted and first.made_from == ("k",)
    assert next(iter(first)) == "optimizer" and isinstance(list(first)[1], Column)


def test_a_column_that_is_not_there_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"there is no column 'tickets'; did you mean 'ticket'.*; there are optimizer, "
    ):
        select(ROWS, (), ["tickets"])
