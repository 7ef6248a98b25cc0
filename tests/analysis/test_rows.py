"""Rows say which trainings they were made from, and their columns what the values are, in every view and format."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from lottery.analysis.columns import DENSITY, Column, mean
from lottery.analysis.rows import Row
from lottery.formats.render import render
from lottery.plan.jobs import Job, Plan
from lottery.results.record import Record
from tests.support.studies import dense, everything, hand, made, ticket, view_of


def behind(planned: Plan, row: Row) -> list[Job]:
    return [planned.jobs[key] for key in row.made_from]


def test_a_row_that_does_not_say_what_it_was_made_from_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="made_from"):
        Row({"seed": 0})  # type: ignore[call-arg]


def test_levels_of_one_density_are_made_from_trainings_of_their_own() -> None:
    """A layer of few weights may lose none at a level: the densities are equal, the trainings are not."""
    planned = hand("prune.levels=2")
    found = everything(planned)
    for key, record in found.items():
        if record.job.level == 2:
            found[key] = replace(record, metrics={**record.metrics, "density": 0.5})
    table = view_of("means", planned, found)
    assert [row["density"] for row in table] == [0.5, 0.5]
    assert [[job.level for job in behind(planned, row)] for row in table] == [[0, 1, 0, 1], [0, 2, 0, 2]]


def test_a_missing_training_is_behind_no_row_and_a_diverged_one_is() -> None:
    planned = hand("seeds=3")
    found = made(planned, dense(0, 0.5), dense(1, 0.5), dense(2, 0.5), ticket(0, 0.0, diverged=7), ticket(1, 0.5))
    (row,) = view_of("means", planned, found)
    told = [(job.kind, job.seed) for job in behind(planned, row)]
    assert told == [("dense", 0), ("ticket", 0), ("dense", 1), ("ticket", 1), ("dense", 2)]


def test_the_keys_stand_in_the_order_of_the_plan() -> None:
    planned = hand("prune.levels=2", "branches=[reinit]", "compare={margin: 1}")
    place = {key: number for number, key in enumerate(planned.jobs)}
    backwards: dict[str, Record] = dict(reversed(everything(planned).items()))
    for view in ("means", "verdicts", "claims", "decomposition", "sparsest"):
        for row in view_of(view, planned, backwards):
            assert row.made_from and list(row.made_from) == sorted(row.made_from, key=place.__getitem__), view


def test_a_row_of_claims_is_made_from_its_own_claim_where_two_have_one_text() -> None:
    claim = "text: same, source: here, densities: [0.5], least: 0"
    sides = f"claims: [{{{claim}, against: reinit}}, {{{claim}}}]"
    planned = hand("branches=[reinit]", "compare={margin: 1}", f"replicates={{source: A paper, {sides}}}")
    first, second = view_of("replication", planned, everything(planned))
    assert {job.kind for job in behind(planned, first)} == {"ticket", "branch"}
    assert {job.kind for job in behind(planned, second)} == {"ticket", "dense"}


def test_a_column_is_its_name_to_programs() -> None:
    column = Column("gain", "points")
    row = Row({column: 0.125, DENSITY: 0.5}, [])
    assert (
        row["gain"] == 0.125
        and column == "gain"
        and json.loads(render([row], "json")) == [{"gain": 0.125, "density": 0.5}]
    )
    assert render([row], "csv") == b"gain,density\n0.125,0.5\n"


@pytest.mark.parametrize(
    ("column", "value", "told", "header"),
    [
        (Column("x", "density"), 0.125, "12.5", "x (%)"),
        (Column("x", "fraction"), 0.125, "12.5", "x (%)"),
        (Column("x", "points"), -0.0125, "−1.25", "x (points)"),
        (Column("x", "steps"), 129.6, "130", "x"),
        (Column("x", "p", confidence=0.95), 0.0499, "0.0499", "x"),
        (Column("x", "ordinal"), 12345, "12345", "x"),
        (Column("x"), 12345, "12,345", "x"),
        (Column("x_step"), 0.5, "0.5", "x step"),
        (Column("p_x"), 0.5, "0.5", "p x"),
        (Column("x_n", words="seeds"), 5, "5", "seeds"),
        (Column("x", "key"), "0123456789abcdef", "0123456789ab", "x"),
        (Column("x", "date"), "2026-01-02T03:04:05.678+00:00", "2026-01-02 03:04:05", "x"),
        (Column("x"), True, "yes", "x"),
    ],
)
def test_a_page_reads_a_value_by_its_unit_and_not_by_its_name(
    column: Column, value: Any, told: str, header: str
) -> None:
    head, _, cells = render([Row({column: value}, [])], "markdown").decode().splitlines()
    assert (head.strip("| "), cells.strip("| ")) == (header, told)


def test_a_control_whose_label_looks_like_a_figure_of_another_is_read_as_a_network() -> None:
    row = Row(dict(zip(mean("p_share"), (0.5, 0.125, 2, None), strict=True)), [])
    assert "| 50.00 ± 12.50 (2) |" in " ".join(render([row], "markdown").decode().split())
    assert render([row], "text").decode().splitlines()[-1] == "50.00 ± 12.50 (2)"


def test_latex_of_one_table_says_what_all_rows_share_in_a_note() -> None:
    rows = [Row({"optimizer": "adam", DENSITY: density, "how": "by_hand"}, ["a" * 64]) for density in (0.5, 0.25)]
    text = render(rows, "latex").decode()
    notes = text.partition(r"\begin{tablenotes}")[2]
    assert r"\item In every row how: by\_hand." in notes and "caption" not in text and text.count(r"\begin{table}") == 1
    assert text.count("% aaaaaaaaaaaa\n") == 2
