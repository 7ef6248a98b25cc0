"""What tables and verdicts say of the other steps at which accuracy could have been read."""

from __future__ import annotations

from typing import Any

import pytest

from lottery.analysis.rows import Row
from lottery.recipe.readings import ChosenSteps, first_best, under_its_best
from lottery.verdicts.other_readings import dependence
from tests.support.studies import hand, made, view_of


def row(step: int, loss: float, accuracy: float) -> dict[str, Any]:
    return {"step": step, "train_loss": 0.0, "validation_loss": loss, "validation_accuracy": accuracy}


CURVE = [row(0, 3.0, 0.1), row(10, 1.0, 0.6), row(20, 1.0, 0.7), row(30, 2.0, 0.7), row(40, 5.0, 0.65)]


def test_the_first_of_equal_rows_is_chosen_by_accuracy_and_by_loss() -> None:
    chosen = ChosenSteps()
    for each in CURVE:
        chosen.offer(each, dict)
    assert {name: found["step"] for name, found in chosen.rows.items()} == {"best_accuracy": 20, "early_stop": 10}
    assert set(chosen.weights) == {10, 20}  # those of step 0 are let go
    for name, found in chosen.rows.items():
        assert first_best(name, CURVE) == found


def test_after_a_pruning_nothing_chosen_before_is_left() -> None:
    chosen = ChosenSteps()
    chosen.offer(CURVE[2], dict)
    chosen.forget()
    assert not chosen.rows and not chosen.weights
    chosen.offer(CURVE[0], dict)
    assert {found["step"] for found in chosen.rows.values()} == {0}


def test_how_far_a_reading_lies_under_the_best_validation_accuracy() -> None:
    metrics = {"curve": CURVE, "early_stop": CURVE[1], "best_accuracy": CURVE[2], "end": CURVE[4]}
    assert under_its_best("early_stop", metrics) == pytest.approx(0.1)
    assert under_its_best("end", metrics) == pytest.approx(0.05)
    assert under_its_best("best_accuracy", metrics) == 0
    assert under_its_best("early_stop", {"diverged": 7, "curve": []}) is None


@pytest.mark.parametrize(("margin", "said"), [("4", True), ("6", False)])
def test_a_dense_network_read_more_than_the_margin_under_its_best_is_noted(margin: str, said: bool) -> None:
    """By hand: a validation accuracy of 80 % at the chosen steps and 75 % at the end."""
    planned = hand(f"compare={{margin: {margin}}}", "report=end")
    note = view_of("means", planned, made(planned, ({}, {})))[0]["note"]
    assert ("dense is read 5 points of validation accuracy under its best" in note) is said
    at_best = hand(f"compare={{margin: {margin}}}")
    assert "under its best" not in view_of("means", at_best, made(at_best, ({}, {})))[0]["note"]


SIX = (-0.004, -0.002, 0.0, 0.001, 0.002, 0.003)


def differing(at_best: float, at_end: float) -> list[Row]:
    """Claims of tickets that differ from shuffled masks by so much at the chosen steps, and by so much at the end."""
    planned = hand("seeds=6", "compare={margin: 1}", "branches=[shuffle]")
    trainings: list[tuple[dict[str, Any], dict[str, Any]]] = [({}, {"accuracy": 0.5, "end": 0.5})]
    for seed, more in enumerate(SIX):
        best, end = 0.5 + at_best + more, 0.5 + at_end + more
        trainings.append(({"kind": "ticket", "seed": seed}, {"accuracy": best, "end": end}))
    return view_of("claims", planned, made(planned, *trainings))


def test_a_verdict_that_another_reading_does_not_give_is_said_to_depend_on_it() -> None:
    (row,) = differing(0.02, -0.02)
    assert (row["verdict"], row["verdict_early_stop"], row["verdict_end"]) == ("superior", "superior", "inferior")
    assert row["difference"] == pytest.approx(0.02) == row["difference_early_stop"]
    assert row["difference_end"] == pytest.approx(-0.02)
    assert row["depends"] == "verdict"
    assert dependence(row) == (
        "the verdict depends on the step that is read: at the step where the validation loss was first lowest +2.00 "
        "points, superior; at the end -2.00 points, inferior"
    )


def test_a_sign_that_turns_within_chance_is_not_said_to_depend_on_the_reading() -> None:
    (row,) = differing(0.0005, -0.0005)
    assert {row[name] for name in ("verdict", "verdict_early_stop", "verdict_end")} == {"inconclusive"}
    assert (row["depends"], dependence(row)) == ("", "")


def test_where_all_readings_agree_nothing_depends_on_them() -> None:
    (row,) = differing(0.02, 0.01)
    assert (row["verdict_end"], row["depends"], dependence(row)) == ("superior", "", "")


def test_without_a_validation_split_there_is_no_other_reading() -> None:
    planned = hand("data.validation=0", "seeds=6", "compare={margin: 1}", "branches=[shuffle]")
    assert not {name for name in view_of("claims", planned, made(planned, ({}, {})))[0] if "end" in name.split("_")}
