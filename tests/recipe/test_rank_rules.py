"""Recipes for several ranks: what makes their number a part of results, and what is refused on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from lottery import registry
from lottery.distributed.group import Group
from lottery.errors import UsageError
from lottery.plan.expand import plan
from lottery.plan.jobs import Plan
from lottery.results.stored_recipe import recipe_of
from lottery.runner.events import Request
from lottery.runner.prepare import look, prepare
from tests.support.entries import make
from tests.support.micro import micro, prepared, problems
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]

LOCAL = ("model.norm=batch", "train.batch_norm=local", "train.ranks=2")


def planned(*changes: str) -> Plan:
    return plan(micro(*changes), "f" * 64)


def keys(*changes: str) -> set[str]:
    return set(planned(*changes).jobs)


def test_the_number_of_ranks_changes_no_key_while_statistics_are_those_of_the_whole_batch() -> None:
    assert keys("model.norm=batch") == keys("model.norm=batch", "train.batch_norm=sync", "train.ranks=4")


def test_statistics_of_shares_make_the_number_of_ranks_a_part_of_every_key() -> None:
    assert not keys("model.norm=batch") & keys(*LOCAL)
    assert not keys(*LOCAL) & keys(*LOCAL, "train.ranks=3")


def test_the_recipe_of_a_stored_training_has_its_ranks_again() -> None:
    dense = next(job for job in planned(*LOCAL) if job.kind == "dense")
    again = recipe_of(dense.identity["training"], {"to": "init", "mode": "weights"}, None)
    assert (again.train.batch_norm, again.train.ranks) == ("local", 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            ["model.norm=batch", "train.batch_norm=local"],
            "train.batch_norm: local normalizes each rank's share by itself, so that their number is part of every "
            "result; add `ranks: 2` or more to train, or leave batch_norm out",
        ),
        (
            ["train.batch_norm=local", "train.ranks=2"],
            "train.batch_norm: local changes nothing in lenet, which has no statistics over the batch; leave it out",
        ),
        (
            ["train.ranks=2", "train.engine=sparse"],
            "train.engine: sparse trains in one process; write dense, or run on one rank",
        ),
        (
            ["train.ranks=2", "branches=[learned_supermask]"],
            "branches.0: the masks of learned_supermask are learned by one process; leave the branch out, or run on "
            "one rank",
        ),
        (
            ["train.ranks=2", "branches=[{name: retrain, optimizer: {name: kfac, lr: 0.1}}]"],
            "branches.0.optimizer: kfac needs the batch itself, of which each rank has a share only; take another "
            "optimizer, or run on one rank",
        ),
    ],
)
def test_what_cannot_be_done_on_ranks_is_told_at_check_with_key_and_way_out(changes: list[str], told: str) -> None:
    (problem,) = problems(*changes)
    assert problem.endswith(told)


NEEDY = sorted(entry.name for entry in registry.optimizers if entry.traits.needs == "examples")


@pytest.mark.parametrize("name", NEEDY)
def test_an_optimizer_that_needs_examples_is_refused_on_ranks_and_taken_on_one(name: str) -> None:
    optimizer = f"train.optimizer={{name: {name}, lr: 0.1}}"
    (problem,) = problems(optimizer, "train.ranks=2")
    assert "needs the batch itself" in problem
    assert micro(optimizer, "train.ranks=1").train.ranks == 1


def test_each_optimizer_of_the_catalogue_that_looks_at_the_objective_says_what_it_needs_of_it() -> None:
    for entry in registry.optimizers:
        made = make(entry.name, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)))
        assert not hasattr(made, "objective") or entry.traits.needs is not None, entry.name


class Two(Group):
    """A group as rank 0 of two sees it, without the other."""

    size = 2


def test_another_number_of_ranks_than_the_results_are_of_is_refused_for_a_run_and_not_for_a_plan(
    tmp_path: Path,
) -> None:
    recipe = micro(*LOCAL, "train.ranks=3")
    with pytest.raises(UsageError, match=r"train.ranks: .* of 3 ranks, and this run has 1; run with `--ranks 3`, or"):
        prepared(recipe, tmp_path)
    with pytest.raises(UsageError, match="this run has 2"):
        prepare(Request(recipe, tmp_path, tmp_path, device="cpu"), group=Two())
    look(Request(recipe, tmp_path, tmp_path, device="cpu"))


def test_a_share_of_one_example_is_refused_where_it_is_normalized_by_itself(tmp_path: Path) -> None:
    recipe = micro(*LOCAL, "train.batch_size=3")
    with pytest.raises(UsageError, match=r"leaves 1 for a rank, which .*BatchNorm1d.* cannot take"):
        look(Request(recipe, tmp_path, tmp_path, device="cpu"))
    look(Request(micro("model.norm=batch", "train.batch_size=3"), tmp_path, tmp_path, device="cpu"), group=Two())


def test_an_optimizer_from_outside_that_does_not_say_what_it_needs_of_the_objective_is_refused(
    plugs: Plugs, tmp_path: Path
) -> None:
    plugs.load(
        text="from torch.optim import SGD\nfrom lottery.registry import optimizers\n\n\n"
        "class Mine(SGD):\n    objective = None\n\n\n"
        '@optimizers.register("mine", source="me")\n'
        "def mine(model, *, lr: float):\n    return Mine(model.parameters(), lr=lr)\n"
    )
    recipe = micro("train.optimizer={name: mine, lr: 0.1}")
    look(Request(recipe, tmp_path, tmp_path, device="cpu"))
    with pytest.raises(UsageError, match=r"mine has an attribute `objective`, .* give it the trait `needs`, or run on"):
        look(Request(recipe, tmp_path, tmp_path, device="cpu"), group=Two())
