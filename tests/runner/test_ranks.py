"""What is refused on several ranks before any training, and what a run records of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lottery.distributed.group import Group
from lottery.environment import are_alike, mixed, rounding
from lottery.errors import UsageError
from lottery.runner.messages import pack_start, unpack_start
from lottery.runner.starting_point import resolve_rate, starting_point
from tests.support.micro import micro, prepared


class Three(Group):
    """A group that says it has three ranks, as far as what is checked before they would talk."""

    size = 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["train.batch_size=2"],
            r"train.batch_size: a batch of 2 examples is less than an example for each of 3 ranks",
        ),
        (["train.batch_size=9", "train.accumulate=4"], r"batch of 9 examples in parts of 2 \(train.accumulate\)"),
        (["data.limit=101", "train.batch_size=20"], r"the last of the batches of 20, 1 of 101 examples, is less"),
        (["train.engine=sparse"], r"train.engine: sparse trains in one process"),
    ],
)
def test_what_three_ranks_cannot_train_is_refused_with_its_key(
    tmp_path: Path, changes: list[str], message: str
) -> None:
    from lottery.runner.events import Request
    from lottery.runner.prepare import prepare

    recipe = micro("train.length=2ep", *changes)
    with pytest.raises(UsageError, match=message):
        prepare(Request(recipe, tmp_path, tmp_path, device="cpu"), group=Three())


def test_the_start_of_a_training_reaches_another_rank_whole(tmp_path: Path) -> None:
    context = prepared(micro("train.schedule={name: cosine, warmup: 3it}", "rewind=2it"), tmp_path)
    job = next(iter(context.plan))
    start, _ = resolve_rate(context.store, starting_point(context, job))
    order = unpack_start(pack_start(context.plan, job, start, measured=True))
    assert (order.job, order.measured, order.start.spec, order.start.mask) == (job.key, True, start.spec, start.mask)
    assert order.start.weights.keys() == start.weights.keys()
    assert all(torch.equal(value, order.start.weights[name]) for name, value in start.weights.items())


def test_the_number_of_ranks_is_rounding_but_not_where_each_draws_by_itself() -> None:
    one, two = {"lottery": "1", "ranks": 1}, {"lottery": "1", "ranks": 2}
    assert mixed([[one], [two]]) == [] and rounding([[one], [two]]) == {"ranks": ["1", "2"]}
    assert rounding([[{"lottery": "1"}], [two]]) == {"ranks": ["1", "2"]}  # of before there were ranks
    assert not are_alike(one, two)
    drawing = [[{**each, "draws of ranks": each["ranks"]}] for each in (one, two)]
    assert mixed(drawing) == ["draws of ranks"]
