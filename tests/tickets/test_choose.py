"""A ticket of a study by its optimizer, level, seed and rewind point: one is found, or the choices are said."""

from __future__ import annotations

from typing import Any

import pytest

from lottery.errors import UsageError
from lottery.results.study import Study
from lottery.tickets.choose import find_ticket
from tests.support.studies import Recorded, everything, hand

OPTIMIZERS = "train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 1e-2}, {name: momentum, lr: 0.1}]"


def study(*changes: str) -> Study:
    planned = hand(*changes)
    return Study(planned, everything(planned), Recorded(planned))


def found(of: Study, **wanted: Any) -> tuple[int, int, int, str]:
    """Index of the optimizer, level, seed and rewind point of the ticket that is found."""
    job = of.plan.jobs[find_ticket(of, {"optimizer": None, "rewind": None, "level": None, "seed": None, **wanted})]
    assert job.kind == "ticket" and job.rewind is not None
    return job.optimizer_index, job.level, job.seed, f"{job.rewind.to} {job.rewind.mode}"


def test_the_only_ticket_needs_no_options() -> None:
    assert found(study("seeds=1")) == (0, 1, 0, "0it weights")


def test_each_option_narrows_the_choice_to_one() -> None:
    of = study(OPTIMIZERS, "prune.levels=3", "seeds=[4, 7]", "rewind=[init, 20it, {to: 20it, mode: lr}]")
    assert found(of, optimizer="momentum", rewind="init", level=2, seed=7) == (2, 2, 7, "0it weights")
    assert found(of, optimizer="adam(lr=0.01)", rewind="20it", level=3, seed=4) == (1, 3, 4, "20it weights")
    assert found(of, optimizer="adam(lr=0.001)", rewind="20it (lr)", level=1, seed=4) == (0, 1, 4, "20it lr")


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, "hand: 12 tickets are meant; name one by --optimizer: adam(lr=0.001), adam(lr=0.01), momentum; --level: "
         "1, 2; --seed: 4, 7"),
        ({"optimizer": "adam", "level": 2, "seed": 4}, "hand: 2 tickets are meant; name one by --optimizer: "
         "adam(lr=0.001), adam(lr=0.01)"),
        ({"level": 3}, "--level 3: hand has 1, 2"),
        ({"optimizer": "momentum", "seed": 5}, "--seed 5: hand has 4, 7 with --optimizer momentum"),
        ({"optimizer": "sgd"}, "--optimizer sgd: hand has adam(lr=0.001), adam(lr=0.01), momentum"),
        ({"rewind": "20it"}, "--rewind 20it: hand has init"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_not_one_is_said_with_the_choices(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        found(study(OPTIMIZERS, "prune.levels=2", "seeds=[4, 7]"), **wanted)
    assert str(caught.value) == says


def test_a_ticket_that_is_not_trained_yet_is_told_from_one_that_does_not_exist() -> None:
    planned = hand("seeds=1")
    with pytest.raises(UsageError, match=r"hand: adam seed 0 level 1.* is not trained yet in .*no-store; lottery run"):
        found(Study(planned, {}, Recorded(planned)))
    planned = hand("seeds=1", "prune.levels=0")
    with pytest.raises(UsageError, match=r"hand: has no tickets; its `prune\.levels` is 0"):
        found(Study(planned, {}, Recorded(planned)))
