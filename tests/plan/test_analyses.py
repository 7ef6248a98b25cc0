"""Jobs of analyses: which networks they look at, what they need, and that they leave trainings as they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lottery import registry
from lottery.plan.expand import plan
from lottery.plan.handover import pack_plan, unpack_plan
from lottery.plan.jobs import Job, Plan
from lottery.plan.kinds import Kind
from lottery.values import Component
from tests.support.analyses import asking, load
from tests.support.micro import micro
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]
EVERY = asking("{name: norms, of: [dense, ticket, reinit, pruned]}", "gap", "{name: walk, of: [ticket, reinit]}")


def planned(*changes: str) -> Plan:
    return plan(micro("seeds=3", "branches=[reinit]", *changes), "f" * 64)


def looked_at(found: Plan, name: str) -> Counter[tuple[int, tuple[str, ...]]]:
    """How often an analysis looks at networks of these names, by level."""
    jobs = [job for job in found if job.analysis is not None and job.analysis.name == name]
    return Counter((job.level, tuple(look.name for look in job.looks)) for job in jobs)


def test_analyses_look_at_each_network_of_each_seed_and_level(plugs: Plugs) -> None:
    load(plugs)
    assert looked_at(planned(EVERY), "norms") == {
        (0, ("dense",)): 3,
        **{(level, (name,)): 3 for level in (1, 2) for name in ("ticket", "reinit", "pruned")},
    }


def test_pairs_are_dense_and_ticket_successive_levels_and_neighbouring_seeds(plugs: Plugs) -> None:
    load(plugs)
    assert looked_at(planned(EVERY), "gap") == {
        (0, ("dense", "dense of another seed")): 3,
        (1, ("dense", "ticket")): 3,
        (2, ("dense", "ticket")): 3,
        (2, ("ticket above", "ticket")): 3,
        (1, ("ticket", "ticket of another seed")): 3,
        (2, ("ticket", "ticket of another seed")): 3,
    }
    assert looked_at(planned(EVERY, "seeds=2"), "gap")[0, ("dense", "dense of another seed")] == 1


def test_levels_and_networks_of_a_pair_can_be_chosen(plugs: Plugs) -> None:
    load(plugs)
    found = planned(asking("{name: gap, of: [ticket, reinit], levels: [2]}"))
    assert looked_at(found, "gap") == {(2, ("ticket", "reinit")): 3}


def test_optimizers_are_paired_within_a_seed(plugs: Plugs) -> None:
    load(plugs)
    optimizers = "train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 0.1}]"
    found = planned(optimizers, asking("{name: gap, between: optimizer-optimizer, levels: [0, 1]}"))
    assert looked_at(found, "gap") == {(0, ("dense", "dense of sgd")): 3, (1, ("ticket", "ticket of sgd")): 3}


def test_a_training_is_the_same_job_with_analyses_and_without(plugs: Plugs) -> None:
    load(plugs)
    without, beside = planned(), planned(EVERY, "keep={of: [dense, ticket, reinit], at: [early_stop, 5 points]}")
    trainings = [job.key for job in beside if job.kind not in (Kind.STATES, Kind.ANALYSIS)]
    assert trainings == list(without.jobs)


def test_what_an_analysis_needs_comes_before_it(plugs: Plugs) -> None:
    load(plugs)
    found = planned(EVERY)
    places = {job.key: place for place, job in enumerate(found)}
    for job in found:
        assert all(places[need] < places[job.key] for need in job.needs)
        assert {look.key for look in job.looks} <= set(job.needs)
        assert {look.kept for look in job.looks} - {None} <= set(job.needs)


@pytest.mark.parametrize("change", ["scale: 2.0", "examples: 65", "reading: early_stop"])
def test_all_that_changes_a_measurement_is_part_of_its_key(change: str, plugs: Plugs) -> None:
    load(plugs)

    def keys(entry: str) -> list[str]:
        return [job.key for job in planned(asking(entry)) if job.kind is Kind.ANALYSIS]

    plain, other = keys("{name: norms, of: [dense]}"), keys(f"{{name: norms, of: [dense], {change}}}")
    assert len(plain) == 3
    assert not set(plain) & set(other)
    assert keys("{name: norms, of: [dense], as: renamed}") == plain


def test_a_plan_with_analyses_reaches_another_process_as_it_is(plugs: Plugs) -> None:
    load(plugs)
    found = planned(EVERY, "keep=[3 points]")

    def about(job: Job) -> dict[str, object]:
        return {name: value for name, value in vars(job).items() if name != "key"}

    received = unpack_plan(pack_plan(found), found.recipe)
    assert [about(job) for job in received] == [about(job) for job in found]


def version(name: str, **args: Any) -> int:
    number: int = registry.analyses.identity(Component(name, args))["version"]
    return number


@pytest.mark.parametrize("name", ["barrier", "instability", "line", "curve", "slice", "surface", "plane", "trajectory"])
def test_the_keys_of_what_reads_a_part_of_the_test_set_are_new_and_no_others(name: str) -> None:
    assert version(name, examples=5000) == 2
    assert version(name, examples=5000, parts=("train", "test")) == 2
    assert version(name, examples=5000, parts=("train", "validation")) == 1
    assert version(name, examples=None) == 1
    assert version(name, examples=None, parts=("train", "test")) == 1


def test_pictures_read_a_part_of_the_test_set_where_nothing_is_said_and_paths_do_not() -> None:
    for name in ("slice", "surface", "plane", "trajectory"):
        assert version(name) == 2
        assert version(name, parts=("train",)) == 1
    for name in ("barrier", "instability", "line", "curve", "errors"):
        assert version(name) == 1
    assert version("errors", examples=100) == 2


def test_every_analysis_that_may_read_a_part_of_the_test_set_has_a_version_for_it() -> None:
    shipped = [entry for entry in registry.analyses if entry.module.startswith("lottery.")]
    for entry in shipped:
        if entry.traits.test and "examples" in entry.schema.model_fields:
            assert version(entry.name, examples=7) == 2, entry.name
        else:
            assert entry.traits.version_of is None, entry.name
    assert {entry.name for entry in shipped if entry.traits.test} > {"barrier", "plane"}
