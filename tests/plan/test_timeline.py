"""The lengths of a recipe in steps of one training."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lottery.plan.timeline import Timeline, make_timeline
from lottery.values import Component, Duration
from tests.support.micro import micro

EPOCHS = ("train.length=4ep", "train.evaluate_every=1ep", "train.batch_size=50")


def test_a_dense_network_trains_from_step_0_to_the_end_of_its_schedule() -> None:
    found = make_timeline(micro(*EPOCHS), Component("adam"), 1237)
    assert found == Timeline(first=0, stop=100, total=100, evaluate_every=25, steps_per_epoch=25, batch_size=50)
    assert (found.steps(Duration(2, "ep")), found.steps(Duration(7, "it"))) == (50, 7)


@pytest.mark.parametrize(("size", "batch", "per_epoch"), [("all", 1237, 1), (200, 200, 7), (2000, 2000, 1)])
def test_an_optimizer_s_own_batches_make_its_own_steps(size: int | str, batch: int, per_epoch: int) -> None:
    found = make_timeline(micro(*EPOCHS), Component("gd", {"batch_size": size}), 1237)
    assert found == Timeline(0, 4 * per_epoch, 4 * per_epoch, per_epoch, per_epoch, batch)


def test_a_ticket_starts_at_its_rewind_point_a_rewind_point_stops_there() -> None:
    point = Duration(1, "ep")
    ticket = make_timeline(micro(*EPOCHS), Component("adam"), 1237, first=point)
    to_point = make_timeline(micro(*EPOCHS), Component("adam"), 1237, stop=point)
    assert (ticket.first, ticket.stop, ticket.total) == (25, 100, 100)
    assert (to_point.first, to_point.stop, to_point.total) == (0, 25, 100)


def test_what_is_not_trained_stops_where_it_starts() -> None:
    found = make_timeline(micro(*EPOCHS), Component("adam"), 1237, first=Duration(30, "it"), untrained=True)
    assert (found.first, found.stop, found.total) == (30, 30, 100)


def test_a_training_that_is_drawn_out_ends_with_a_whole_step_and_keeps_its_grid_exact() -> None:
    found = make_timeline(micro(*EPOCHS), Component("adam"), 1237, stretch=Fraction(8, 3))
    assert (found.stop, found.total, found.evaluate_every) == (266, 266, Fraction(200, 3))
    assert found.steps(Duration(4, "ep")) == 100
