"""What tables and verdicts say of the other steps at which accuracy could have been read."""

from __future__ import annotations

from typing import Any

import pytest
from studies import hand, made, view_of

from lottery.readings import ChosenSteps, first_best, under_its_best


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
