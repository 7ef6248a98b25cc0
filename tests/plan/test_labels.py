"""Labels of jobs: no two jobs of a plan read alike, and they say what tells them apart."""

from __future__ import annotations

from collections import Counter

import pytest

from lottery.plan.expand import plan
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.plan.jobs import Plan
from lottery.plan.kinds import Kind
from lottery.plan.rewind_search import search_plan
from lottery.recipe.load import shipped
from lottery.recipe.sweep import load_sweep
from lottery.values import Duration
from tests.support.analyses import load
from tests.support.micro import micro
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]
TWINS = "train.optimizer=[{name: adam, lr: 3e-3}, {name: adam, lr: 1e-3}, {name: sgd, lr: 0.1}]"
EVERYTHING = (
    TWINS,
    "rewind=[init, 4it, {to: 4it, mode: lr}]",
    "branches=[{name: reinit, samples: 2}, shuffle, {name: shuffle, as: other, scope: global}, "
    "{name: same_sign, trunk: own}]",
    "transfer={}",
    "keep={of: [dense, ticket, reinit], at: [8it, end]}",
    "analyses=[{name: norms, of: [dense, ticket, reinit, pruned]}, {name: norms, as: sooner, reading: early_stop}, "
    "gap, {name: gap, as: optimizers, between: optimizer-optimizer}]",
    "seeds=3",
)


def planned(*changes: str) -> Plan:
    return plan(micro(*changes), "f" * 64)


def alike(found: Plan) -> dict[str, int]:
    """The labels that several jobs have."""
    return {label: number for label, number in Counter(job.label for job in found).items() if number > 1}


def test_no_two_jobs_of_a_plan_with_everything_read_alike(plugs: Plugs) -> None:
    load(plugs)
    found = planned(*EVERYTHING)
    kinds = {Kind.REWIND, Kind.DENSE, Kind.TICKET, Kind.BRANCH, Kind.STATES, Kind.ANALYSIS}
    assert {job.kind for job in found} == kinds
    assert len(found) > 1000 and alike(found) == {}
    assert [job.label for job in unpack_plan(pack_plan(found), found.recipe)] == [job.label for job in found]


def test_trials_and_choices_of_optimizers_of_one_name_are_told_apart() -> None:
    twins = "train.optimizer=[{name: sgd, weight_decay: 1e-3}, sgd]"
    found = planned(twins, "tune={trials: 3, seeds: [7, 8]}")
    assert alike(found) == {} and sum(job.kind is Kind.CHOICE for job in found) == 2
    choices = {job.label for job in found if job.kind is Kind.CHOICE}
    assert choices == {"sgd(weight_decay=0.001) choice of lr", "sgd choice of lr"}


def test_children_and_the_steps_of_a_search_are_told_apart() -> None:
    found = planned(
        "rewind=[4it, 8it]",
        "analyses=[{name: instability, of: [dense], at: [4it, 8it], pairs: 2}, "
        "{name: instability, as: tickets, of: [ticket], pairs: 2}]",
    )
    assert alike(found) == {} and sum(job.kind is Kind.CHILD for job in found) > 8
    search = micro("rewind={auto: {latest: 8it}}")
    steps = [search_plan(search, "f" * 64, Duration(step, "it")) for step in (0, 4, 8)]
    assert alike(steps[0]) == alike(steps[1]) == alike(steps[2]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(shipped()))
def test_no_two_jobs_of_a_point_of_a_shipped_recipe_read_alike(name: str) -> None:
    recipe = load_sweep(name).points[0].recipe
    if recipe.search is None and not any("dataset" in branch.component.args for branch in recipe.branches):
        smaller = recipe.model_copy(update={"seeds": recipe.seeds[:2]})
        assert alike(plan(smaller, "f" * 64)) == {}


def test_a_label_says_optimizer_seed_level_control_and_rewind_point() -> None:
    found = planned(TWINS, "rewind=[init, {to: 4it, mode: lr}]", "branches=[reinit]", "transfer={}", "prune.levels=1")
    labels = {job.label for job in found}
    assert {
        "adam(lr=0.003) seed 0 dense",
        "adam(lr=0.003) seed 0 to 4it",
        "adam(lr=0.001) seed 0 level 1 from init",
        "sgd seed 0 level 1 reinit 0 from 4it (lr)",
        "sgd seed 0 level 1 retrained with adam(lr=0.003) from init",
    } <= labels
