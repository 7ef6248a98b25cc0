"""Tables from hand-made plans and records: what is averaged, over what, and what the reader is told."""

from __future__ import annotations

import io
import json
import math

import pandas as pd
import pytest

from lottery.analysis.columns import Column
from lottery.analysis.labels import optimizer_labels
from lottery.analysis.rows import Row
from lottery.errors import UsageError
from lottery.formats.render import FORMATS, frame, render
from tests.support.studies import HERE, dense, everything, hand, is_of, made, record, ticket, view_of


def test_a_row_holds_mean_sample_deviation_count_step_and_paired_difference() -> None:
    planned = hand()
    found = made(
        planned, dense(0, 0.5, step=10), dense(1, 0.7, step=30), ticket(0, 0.8, step=20), ticket(1, 0.8, step=50)
    )
    (row,) = view_of("means", planned, found)
    assert list(row) == [
        *("optimizer", "density", "dense", "dense_std", "dense_n", "dense_diverged", "dense_step"),
        *("ticket", "ticket_std", "ticket_n", "ticket_diverged", "ticket_step", "ticket_diff", "note"),
    ]
    assert row["optimizer"] == "adam" and row["density"] == 0.5 and row["note"] == ""
    assert row["dense"] == pytest.approx(0.6, abs=1e-15)
    assert row["dense_std"] == pytest.approx(0.2 / math.sqrt(2), abs=1e-15)  # of the sample: n - 1
    assert (row["dense_n"], row["dense_step"]) == (2, 20)
    assert (row["ticket"], row["ticket_std"], row["ticket_n"], row["ticket_step"]) == (0.8, 0, 2, 35)
    assert row["ticket_diff"] == pytest.approx(0.2, abs=1e-15)


def test_one_seed_has_no_standard_deviation() -> None:
    planned = hand("seeds=1")
    (row,) = view_of("means", planned, everything(planned))
    assert row["dense_std"] is None and row["ticket_std"] is None and row["dense_n"] == 1


def test_differences_are_taken_only_over_seeds_that_both_have() -> None:
    planned = hand("seeds=3")
    found = made(planned, dense(0, 0.5), dense(1, 0.1), ticket(0, 0.75), ticket(2, 0.9))
    (row,) = view_of("means", planned, found)
    assert row["ticket_diff"] == 0.25  # seed 0 alone; the difference of the means would be 0.525
    assert (row["dense_n"], row["ticket_n"]) == (2, 2)
    assert row["note"] == "dense: 1 of 3 runs missing; ticket: 1 of 3 runs missing"


def test_without_a_common_seed_there_is_no_difference() -> None:
    planned = hand()
    (row,) = view_of("means", planned, made(planned, dense(0, 0.5), ticket(1, 0.75)))
    assert row["ticket_diff"] is None


def test_levels_of_which_nothing_is_finished_have_no_row() -> None:
    planned = hand("prune.levels=3")
    found = made(planned, *(({"level": level}, {}) for level in (0, 1, 2)))
    assert [row["density"] for row in view_of("means", planned, found)] == [0.5, 0.25]
    assert view_of("means", planned, {}) == []


def test_a_study_that_prunes_nothing_has_a_row_of_dense_networks() -> None:
    planned = hand("prune.levels=0")
    (row,) = view_of("means", planned, everything(planned))
    assert row["density"] == 1.0 and row["dense"] == 0.5 and "ticket" not in row


def test_diverged_runs_are_counted_in_the_note_and_not_averaged() -> None:
    planned = hand("seeds=3")
    found = everything(planned) | made(
        planned, ticket(0, 0.0, diverged=70), ticket(1, 0.0, diverged=40), ticket(2, 0.75)
    )
    (row,) = view_of("means", planned, found)
    assert (row["ticket"], row["ticket_std"], row["ticket_n"], row["ticket_diff"]) == (0.75, None, 1, 0.25)
    assert row["note"] == "ticket: 2 of 3 diverged (step 40)"


def test_a_column_whose_runs_all_diverged_is_empty() -> None:
    planned = hand("branches=[reinit]")
    found = everything(planned) | made(planned, ({"kind": "reinit"}, {"diverged": 5}))
    (row,) = view_of("means", planned, found)
    assert {row[f"reinit{end}"] for end in ("", "_std", "_step", "_diff")} == {None}
    assert row["reinit_n"] == 0 and "reinit: 2 of 2 diverged (step 5)" in row["note"]


def test_a_study_whose_dense_networks_all_diverged_says_so() -> None:
    planned = hand()
    table = view_of("means", planned, made(planned, ({"kind": "dense"}, {"diverged": 5})))
    assert any("dense: 2 of 2 diverged (step 5)" in row["note"] for row in table)


def test_environments_that_differ_are_marked_in_the_rows_they_are_in() -> None:
    planned = hand("prune.levels=2")
    other = {**HERE, "torch": "2.12.0"}
    found = everything(planned) | made(planned, ({"level": 2, "seed": 1}, {"environment": other}))
    assert [row["note"] for row in view_of("means", planned, found)] == ["", "mixed environments"]


def test_environments_are_compared_by_content_not_by_the_order_of_keys() -> None:
    planned = hand()
    turned = dict(reversed(HERE.items()))
    found = everything(planned) | made(planned, ticket(0, 0.5, environment=turned))
    assert view_of("means", planned, found)[0]["note"] == ""


def test_samples_of_a_control_are_averaged_within_their_seed_first() -> None:
    planned = hand("branches=[{name: reinit, samples: 2}]")
    values = {(0, 0): 0.25, (0, 1): 0.75, (1, 0): 0.75, (1, 1): 1.0}
    found = everything(planned) | made(
        planned,
        *(
            ({"kind": "reinit", "seed": seed, "sample": sample}, {"accuracy": value})
            for (seed, sample), value in values.items()
        ),
    )
    (row,) = view_of("means", planned, found)
    assert (row["reinit"], row["reinit_n"]) == (0.6875, 2)  # of 0.5 and 0.875
    assert row["reinit_std"] == pytest.approx(0.375 / math.sqrt(2), abs=1e-15)
    assert row["reinit_diff"] == 0.1875


def test_a_seed_of_which_a_sample_is_missing_is_not_averaged() -> None:
    planned = hand("branches=[{name: reinit, samples: 2}]")
    found = everything(planned) | made(planned, ({"kind": "reinit", "seed": 1}, {"accuracy": 0.75}))
    gone = next(job for job in planned if is_of(job, {"kind": "reinit", "seed": 0, "sample": 1}))
    del found[gone.key]
    (row,) = view_of("means", planned, found)
    assert (row["reinit"], row["reinit_n"]) == (0.75, 1)
    assert row["note"] == "reinit: 1 of 4 runs missing"


def test_early_stop_steps_at_the_end_of_training_are_marked_censored() -> None:
    planned = hand()
    found = everything(planned) | made(planned, ticket(1, 0.5, step=100, censored=True))
    assert view_of("means", planned, found)[0]["note"] == "early-stop step censored: ticket 1 of 2"


def test_layers_that_collapsed_are_named_once() -> None:
    planned = hand()
    found = everything(planned) | made(planned, ({"kind": "ticket"}, {"collapsed": ("fc1.weight",)}))
    assert view_of("means", planned, found)[0]["note"] == "collapsed: fc1.weight"


def test_optimizers_of_one_name_are_told_apart_by_what_differs() -> None:
    planned = hand("train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 1e-2}, {name: sgd, lr: 0.1}]")
    labels = ["adam(lr=0.001)", "adam(lr=0.01)", "sgd"]
    assert optimizer_labels(planned.recipe.train.optimizer) == labels
    found = everything(planned)
    fast = planned.recipe.train.optimizer[1]
    found |= {job.key: record(job, 0.75) for job in planned if job.kind == "ticket" and job.optimizer == fast}
    table = view_of("means", planned, found)
    assert [row["optimizer"] for row in table] == labels
    assert [row["ticket"] for row in table] == [0.5, 0.75, 0.5]
    assert [row["ticket_diff"] for row in table] == [0, 0.25, 0]
    assert {row["optimizer"] for row in view_of("long", planned, found)} == set(labels)


def test_each_rewind_has_rows_of_its_own_beside_the_dense_network_they_share() -> None:
    planned = hand("rewind=[init, 10it, {to: 10it, mode: lr}]", "report=early_stop")
    found = everything(planned)
    late = [job for job in planned if job.kind == "ticket" and job.rewind and job.rewind.to.value == 10]
    found |= {job.key: record(job, 0.75 if job.rewind and job.rewind.mode == "lr" else 0.625) for job in late}
    table = view_of("means", planned, found)
    assert list(table[0])[:3] == ["optimizer", "rewind", "density"]
    assert [(row["rewind"], row["dense"], row["dense_n"], row["ticket"]) for row in table] == [
        ("init", 0.5, 2, 0.5),
        ("10it", 0.5, 2, 0.625),
        ("10it (lr)", 0.5, 2, 0.75),
    ]
    assert {row["note"] for row in table} == {""}


def test_a_report_of_the_end_reads_accuracies_there_and_steps_at_the_early_stop() -> None:
    planned = hand("report=end")
    (row,) = view_of("means", planned, everything(planned, accuracy=0.5, end=0.375, step=30))
    assert (row["dense"], row["ticket"], row["dense_step"], row["ticket_step"]) == (0.375, 0.375, 30, 30)


def test_without_a_validation_split_the_step_is_the_last() -> None:
    planned = hand("data.validation=0")
    (row,) = view_of("means", planned, everything(planned, end=0.375, censored=True))
    assert (row["dense"], row["dense_step"], row["note"]) == (0.375, 100, "")


def test_a_control_has_its_given_name_as_column() -> None:
    planned = hand("branches=[{name: reinit, as: fresh}, shuffle]")
    (row,) = view_of("means", planned, everything(planned))
    heads = [name for name in row if f"{name}_n" in row]
    assert heads == ["dense", "ticket", "fresh", "shuffle"]


def test_the_long_table_has_a_row_for_each_finished_training() -> None:
    planned = hand("branches=[{name: reinit, samples: 2}]")
    found = everything(planned) | made(planned, ticket(1, 0.0, diverged=7))
    del found[next(job.key for job in planned if is_of(job, {"kind": "reinit", "seed": 1, "sample": 1}))]
    table = view_of("long", planned, found)
    assert len(table) == 2 * 4 - 1 and {row["key"] for row in table} == set(found)
    assert len({tuple(row) for row in table}) == 1  # the same columns in the same order
    first, second = table[0], next(row for row in table if row["diverged_step"] is not None)
    assert (first["kind"], first["seed"], first["level"], first["density"]) == ("dense", 0, 0, 1.0)
    assert (first["early_stop_test_accuracy"], first["early_stop_step"], first["end_test_accuracy"]) == (0.5, 30, 0.25)
    assert (first["sample"], first["status"], first["torch"], first["early_stop_censored"]) == (
        *(None, "done", "2.11.0"),
        False,
    )
    assert (second["status"], second["diverged_step"], second["end_test_accuracy"]) == ("diverged", 7, None)
    assert [row["sample"] for row in table if row["kind"] == "reinit"] == [0, 1, 0]


@pytest.fixture
def table() -> list[Row]:
    """Two rows, the second with a control that the first has not."""
    planned = hand("prune.levels=2", "branches=[{name: shuffle, levels: 2}]")
    return view_of("means", planned, everything(planned) | made(planned, dense(1, 0.75), ticket(1, 0.0, diverged=7)))


def test_controls_stand_before_the_note_even_where_the_first_level_has_none(table: list[Row]) -> None:
    heads = render(table, "csv").decode().splitlines()[0].split(",")
    assert heads[-1] == "note" and heads.index("shuffle") > heads.index("ticket_diff")


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_cells_of_controls_that_a_level_has_not_are_empty_for_readers(table: list[Row], form: str) -> None:
    assert "nan" not in render(table, form).decode().lower()


@pytest.mark.parametrize("form", ["text", "markdown", "latex"])
def test_what_people_read_has_one_cell_a_network_with_its_deviation_and_count(form: str) -> None:
    planned = hand()
    text = render(
        view_of("means", planned, made(planned, dense(0, 0.5), dense(1, 0.75), ticket(0, 0.75), ticket(1, 0.75))), form
    )
    cells = {
        "text": ("62.50 ± 17.68 (2)", " 50 ", "+12.50"),
        "markdown": ("| 62.50 ± 17.68 (2) |", "| 50 |", "| +12.50 |"),
        "latex": (r"& 62.50 \pm 17.68 &", "& 50 &", "& +12.50"),
    }
    heads = " ".join(text.decode().replace("\\_", "_").split())
    assert all(cell in heads for cell in cells[form])
    assert "_std" not in heads and "_n" not in heads  # they stand in the cell already


def test_names_of_narrow_columns_are_broken_into_lines_and_numbers_rounded_for_readers() -> None:
    effective = Column("effective_density", "density")
    table = [
        Row({"optimizer": "adam", effective: 0.123456, "dead_units": 12345.0, "z": -1.23456}, []),
        Row({"optimizer": "sgd", effective: None, "dead_units": 0.000123456, "z": None}, []),
    ]
    assert render(table, "text").decode().splitlines() == [
        "optimizer  effective_  dead_      z",
        "           density     units",
        "           (%)",
        "---------  ----------  ---------  ------",
        "adam       12.35       12345      -1.235",
        "sgd                    0.0001235",
    ]
    head, _, first, _ = render(table, "markdown").decode().splitlines()
    assert "effective density (%)" in head and "12.35" in first and "−1.235" in first


def test_json_is_the_rows_with_null_for_what_is_no_number() -> None:
    content = render([Row({"a": math.nan, "b": math.inf, "c": 0.1, "d": None, "e": "x"}, [])], "json")
    assert json.loads(content) == [{"a": None, "b": None, "c": 0.1, "d": None, "e": "x"}]
    assert content.endswith(b"]\n")


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "text", "latex"])
def test_integers_stay_integers_where_another_row_has_none(form: str) -> None:
    planned = hand()
    found = made(planned, dense(0, 0.5), dense(1, 0.5), ticket(0, 0.5), ticket(1, 0.0, diverged=130))
    table = view_of("long", planned, found)
    assert sorted(str(row["diverged_step"]) for row in table) == ["130", "None", "None", "None"]
    told = render(table, form).decode()
    assert "130" in told and "130.0" not in told and "30.0" not in told


def test_a_frame_has_integers_as_such_and_leaves_means_and_flags_alone() -> None:
    made = frame([{"a": 130, "b": 130, "c": 1.0, "d": True}, {"a": None, "b": 2, "c": None, "d": None}])
    assert [str(kind) for kind in made.dtypes] == ["Int64", "int64", "float64", "boolean"]
    assert made["a"].tolist() == [130, pd.NA]


def test_csv_holds_every_digit_of_the_rows(table: list[Row]) -> None:
    held = pd.read_csv(io.BytesIO(render(table, "csv")), dtype=str, keep_default_na=False)
    for row, read in zip(table, held.to_dict("records"), strict=True):
        for name, value in row.items():
            if isinstance(value, (int, float)):
                assert float(read[name]) == value
            else:
                assert read[name] == (value or "")


def test_parquet_holds_the_rows(table: list[Row]) -> None:
    pytest.importorskip("pyarrow")
    held = pd.read_parquet(io.BytesIO(render(table, "parquet")))
    assert held["ticket"].tolist() == [row["ticket"] for row in table]
    assert held["note"].tolist() == [row["note"] for row in table]


def test_latex_is_a_booktabs_table_with_names_escaped() -> None:
    planned = hand("branches=[{name: reinit, as: new_init}]")
    found = everything(planned) | made(planned, ({"kind": "ticket"}, {"collapsed": ("fc_1.weight",)}))
    text = render(view_of("means", planned, found), "latex").decode()
    assert all(rule in text for rule in ("\\toprule", "\\midrule", "\\bottomrule"))
    assert "{new}" in text and "{init}" in text and "fc\\_1.weight" in text
    parts = text.split("\\begin{tabular}")[1:]
    assert len(parts) == 2  # it is too wide for a page
    for part in parts:
        lines = [line.partition(" % ")[0] for line in part.splitlines() if r" \\" in line]
        assert len({line.count("&") for line in lines}) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows_is_written_in_every_format(form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    content = render([], form)
    assert b"nan" not in content.lower() or form == "parquet"
    if form == "json":
        assert json.loads(content) == []


@pytest.mark.parametrize("form", FORMATS)
def test_the_long_table_is_written_in_every_format(form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    planned = hand("branches=[reinit]")
    found = everything(planned) | made(planned, ticket(1, 0.0, diverged=7))
    assert render(view_of("long", planned, found), form)


def test_an_unknown_format_is_refused_with_those_there_are(table: list[Row]) -> None:
    with pytest.raises(UsageError, match="text, csv, markdown, latex, json, parquet"):
        render(table, "xlsx")
