"""The command `lottery table` on several studies, and parts of tables."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from scipy import stats

import lottery
from tests.support.calls import Call, call, call_here
from tests.support.micro import micro_text

__all__ = ["call"]

SMALL = ("prune.levels=1", "seeds=3", "data.limit=300")
Studies = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """Two recipes that differ in the criterion, and the store that both were run in."""
    folder = tmp_path_factory.mktemp("several")
    paths = []
    for name, criterion in (("by-size", "magnitude"), ("by-chance", "random")):
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(micro_text(f"name={name}", f"prune.criterion={criterion}", *SMALL))
        assert not call_here("run", paths[-1], "--store", folder / "store", "--device", "cpu").code
    return paths[0], paths[1], folder / "store"


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_several_recipes_make_one_table_whose_test_can_be_computed_from_the_long_one(
    studies: Studies, call: Call
) -> None:
    one, other, store = studies
    here = ("--store", store, "--format", "csv")
    _, row = read(call("table", one, other, *here).out)
    runs = [read(call("table", path, "--view", "long", *here).out) for path in (one, other)]
    first, second = (
        {each["seed"]: float(each["best_accuracy_test_accuracy"]) for each in run if each["kind"] == "ticket"}
        for run in runs
    )
    expected = stats.ttest_rel([second[seed] for seed in first], list(first.values()))
    assert (row["study"], row["n"], row["density"]) == ("by-chance", "3", "0.5")
    assert float(row["p"]) == pytest.approx(expected.pvalue, rel=1e-9)
    assert float(row["p_adjusted"]) == float(row["p"]) and "over 1 comparison;" in row["test"]


def test_people_read_percent_and_programs_fractions(studies: Studies, call: Call) -> None:
    one, _, store = studies
    (row,) = json.loads(call("table", one, "--store", store, "--format", "json").out)
    told = call("table", one, "--store", store).out
    assert f"{100 * row['ticket']:.2f} ± {100 * row['ticket_std']:.2f} (3)" in told and "dense (%)" in told
    assert row["density"] == 0.5 and 0 < row["ticket"] < 1


def test_parts_of_a_table_are_the_same_from_the_command_and_in_python(studies: Studies, call: Call) -> None:
    one, other, store = studies
    part = ("--rows", "study=by-chance", "--rows", "density=50", "--columns", "difference,ticket")
    (row,) = read(call("table", one, other, "--store", store, "--format", "csv", *part).out)
    found = lottery.table(
        [one, other],
        store=store,
        rows={"study": "by-chance", "density": 50},
        columns=["difference", "ticket"],
    )
    names = ["study", "optimizer", "density", "difference", "ticket", "ticket_std", "ticket_n", "ticket_diverged"]
    assert list(row) == list(found.columns) == [*names, "test", "note"]
    assert float(row["difference"]) == found["difference"][0]


def test_the_matrix_and_latex_name_their_studies(studies: Studies, call: Call) -> None:
    one, other, store = studies
    told = call("table", one, other, "--store", store, "--view", "matrix", "--format", "latex", "--width", "page").out
    assert r"\begin{table*}" in told and r"\label{tab:by-size-by-chance-matrix}" in told
    assert "by-size & " in told and "by-chance & " in told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--width", "column"), "--width column: is column or page, of --format latex"),
        (("--format", "latex", "--width", "wide"), "--width wide: is column or page"),
        (("--rows", "density=0.5"), "no row has that; there are 50"),
        (("--network", "reinit"), "--network reinit: there are dense, ticket"),
        (("--network", "ticket", "--view", "long"), "is for the views means and matrix of several studies"),
        (("--profile", "--view", "barrier"), "--profile: is of one recipe"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    studies: Studies, call: Call, options: tuple[str, ...], said: str
) -> None:
    one, other, store = studies
    result = call("table", one, other, "--store", store, *options)
    assert result.code == 2 and said in result.err


def test_studies_of_other_data_are_refused(studies: Studies, call: Call, tmp_path: Path) -> None:
    one, _, store = studies
    noisy = tmp_path / "noisy.yaml"
    noisy.write_text(micro_text("name=noisy", "data.label_noise=0.2", *SMALL))
    result = call("table", one, noisy, "--store", store)
    assert result.code == 2 and "noisy: has other data than by-size" in result.err and "label_noise" in result.err
