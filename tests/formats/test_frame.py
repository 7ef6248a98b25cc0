"""Data frames: their columns have the types of their values, also where nothing is known yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pandas.api import types as pandas_types

import lottery
from lottery.analysis.column_types import column_types
from lottery.analysis.columns import Column
from lottery.analysis.views import VIEWS
from lottery.formats.render import frame
from tests.support.micro import micro, prepared

IS: dict[str, Any] = {
    "int": pandas_types.is_integer_dtype,
    "float": pandas_types.is_float_dtype,
    "bool": pandas_types.is_bool_dtype,
    "text": lambda kind: pandas_types.is_string_dtype(kind) or pandas_types.is_object_dtype(kind),
}


def dtypes(rows: list[dict[str, Any]], **types: Any) -> dict[str, str]:
    return {str(name): str(kind) for name, kind in frame(rows, types).dtypes.items()}


def test_columns_have_the_types_of_their_values_with_and_without_gaps() -> None:
    rows: list[dict[str, Any]] = [{"n": 1, "x": 0.5, "ok": True, "a": 1}, {"n": 2, "x": 1, "ok": False, "a": 0.5}]
    assert dtypes(rows) == {"n": "int64", "x": "float64", "ok": "bool", "a": "float64"}
    gaps = [*rows, {"n": None, "x": None, "ok": None}]
    assert dtypes(gaps) == {"n": "Int64", "x": "float64", "ok": "boolean", "a": "float64"}
    assert frame(gaps)["n"].isna().tolist() == [False, False, True]


def test_a_column_in_which_nothing_is_known_has_the_type_of_its_unit_or_of_its_view() -> None:
    rows = [{Column("density", "density"): None, Column("seed", "ordinal"): None, "loss": None, "word": None}]
    assert dtypes(rows, loss="float", word="text") == {
        "density": "float64",
        "seed": "Int64",
        "loss": "float64",
        "word": "object",
    }


def test_a_mean_that_is_declared_a_float_stays_one_where_it_is_a_whole_number() -> None:
    assert dtypes([{"dead_units": 3}], dead_units="float") == {"dead_units": "float64"}


def test_a_table_without_rows_has_typed_columns() -> None:
    made = frame([], {"optimizer": "text", "seed": "int", "density": "float", "ok": "bool"})
    assert len(made) == 0 and list(made) == ["optimizer", "seed", "density", "ok"]
    assert all(IS[kind](made[name].dtype) for name, kind in (("seed", "int"), ("density", "float"), ("ok", "bool")))
    assert made["density"].mean() != made["density"].mean()  # NaN, and no error


RECIPES = {
    "small": ("seeds=1", "prune.levels=1", "data.validation=0", "branches=[reinit]", "compare={margin: 1}"),
    "large": (
        "seeds=2",
        "train.optimizer=[{name: adam, lr: 3e-3}, {name: momentum, lr: 0.1}]",
        "branches=[reinit]",
        "transfer=all",
        "compare={margin: 1}",
    ),
    "tuned": ("seeds=1", "prune.levels=1", "train.optimizer=[adam]", "tune={trials: 2}"),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Any]:
    """The tables of every view before and after the trainings of three recipes; those that a recipe has."""
    from lottery.errors import UsageError
    from lottery.runner.run import work

    folder, found = tmp_path_factory.mktemp("tables"), dict[tuple[str, str, str], Any]()
    for name, changes in RECIPES.items():
        recipe = micro("train.length=4it", "train.evaluate_every=2it", "data.limit=200", *changes)
        for when in ("before", "after"):
            for view in VIEWS:
                try:
                    found[name, view, when] = lottery.table(recipe, store=folder, data=folder, view=view)
                except UsageError:
                    continue
            if when == "before":
                list(work(prepared(recipe, folder)))
    return found


@pytest.mark.slow
def test_each_view_has_the_columns_and_types_that_are_declared_before_and_after_its_trainings(
    tables: dict[tuple[str, str, str], Any],
) -> None:
    seen = set()
    for (name, view, when), table in tables.items():
        for column, kind in column_types(view).items():
            assert column in table, (name, view, when, column)
            assert IS[kind](table[column].dtype), (name, view, when, column, kind, table[column].dtype)
        seen |= {view} if when == "after" and len(table) else set()
    declared = {view for view in VIEWS if column_types(view)}
    assert declared <= seen


@pytest.mark.slow
def test_before_any_training_the_tables_are_empty_and_can_be_computed_with(
    tables: dict[tuple[str, str, str], Any], tmp_path: Path
) -> None:
    means = tables["large", "means", "before"]
    assert len(means) == 0 and list(means["ticket"] - means["dense"]) == []
    assert means[means["density"] < 0.5]["ticket_n"].sum() == 0
