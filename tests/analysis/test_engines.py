"""What a table says of the engines that computed its trainings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lottery.analysis.engines import how_computed
from lottery.plan.jobs import Plan
from lottery.results.record import Record
from lottery.results.study import Study
from tests.support.studies import HERE, Recorded, everything, hand, made

RATHER = " Engines differ in rounding only, so their trainings are compared."


def by(engine: str, *earlier: str, **place: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The trainings of a place of the plan, which this engine ended and earlier ones began."""
    sessions = {"earlier": [{**HERE, "engine": name} for name in earlier]} if earlier else {}
    return place, {"environment": {**HERE, "engine": engine, **sessions}}


def of(planned: Plan, *trainings: tuple[dict[str, Any], dict[str, Any]]) -> Study:
    return Study(planned, everything(planned) | made(planned, *trainings), Recorded(planned))


def levels(count: int, *overrides: str) -> Plan:
    return hand(f"prune.levels={count}", *overrides)


def test_one_engine_is_named_and_no_more_is_said() -> None:
    assert how_computed(of(levels(3, "branches=[reinit]"), by("sparse"))) == ["Engine: sparse."]
    old = levels(1)  # recorded when there was one engine, which no record named
    assert how_computed(of(old)) == ["Engine: dense."]
    assert how_computed(Study(old, {}, Recorded(old))) == []


def test_engines_are_said_by_density_from_the_densest_networks_to_the_sparsest() -> None:
    planned = levels(4)
    below = [by("sparse", level=level) for level in (2, 3, 4)]
    assert how_computed(of(planned, *below)) == [
        "Engines: dense at densities of 100 to 50 %, sparse below." + RATHER,
    ]
    last = [*below, by("background", level=1), by("dense", level=4)]
    assert how_computed(of(planned, *last)) == [
        "Engines: dense at a density of 100 %, background at 50 %, sparse at 25 to 12.5 %, dense at 6.25 %." + RATHER,
    ]


def test_optimizers_that_had_other_engines_at_a_density_are_told_apart() -> None:
    planned = levels(2, "train.optimizer=[{name: adam, lr: 1e-3}, {name: momentum, lr: 0.1}]", "branches=[reinit]")
    assert how_computed(of(planned, by("sparse", optimizer=1, level=2))) == [
        "Engine of adam: dense.",
        "Engines of momentum: dense at densities of 100 to 50 %, sparse at 25 %." + RATHER,
    ]


def test_a_control_with_another_engine_than_its_ticket_is_named_and_the_others_stand_together() -> None:
    planned = levels(2, "branches=[reinit, random]", "seeds=3")
    study = of(planned, by("sparse", level=1), by("sparse", level=2), by("dense", kind="random"))
    assert how_computed(study) == [
        "Engines of dense, ticket and reinit: dense at a density of 100 %, sparse below.",
        "Engine of random: dense." + RATHER,
    ]


def test_seeds_that_had_two_engines_at_one_density_are_not_told_as_if_they_had_one() -> None:
    planned = levels(2, "seeds=2")
    whole = "Engines: dense at densities of 100 to 50 %, dense and sparse at 25 %."
    long = " The engine of each training is told by lottery table --view long."
    assert how_computed(of(planned, by("sparse", level=2, seed=1))) == [whole + long + RATHER]
    # a training that another engine went on with is one, and each of its kind is alike
    assert how_computed(of(planned, by("sparse", "dense", level=2))) == [whole + RATHER]
    # one that an engine of the other seed went on with names no engine twice
    assert how_computed(of(planned, by("sparse", "dense", level=2, seed=1))) == [whole + long + RATHER]


def test_a_training_that_studies_share_counts_once_and_studies_are_told_apart_where_they_have_to_be() -> None:
    short, long = levels(1), levels(2)  # the second has all trainings of the first
    assert set(short.jobs) < set(long.jobs)
    longer = of(long, by("sparse", level=2))
    shared = Study(short, {key: longer.found[key] for key in short.jobs if key in longer.found}, Recorded(short))
    both = "Engines: dense at densities of 100 to 50 %, sparse at 25 %." + RATHER
    assert how_computed(shared, longer) == [both]
    wide = hand("prune.levels=2", "model.widths=[9]", "name=wide")
    assert how_computed(longer, of(wide)) == [
        "Engines of hand: dense at densities of 100 to 50 %, sparse at 25 %.",
        "Engine of wide: dense." + RATHER,
    ]
    assert how_computed(longer, of(wide), labels=["[8]", "[9]"])[1] == "Engine of [9]: dense." + RATHER


def test_steps_together_with_others_and_rates_that_all_diverged_are_said_as_recorded() -> None:
    planned = levels(1, "seeds=2")
    study = of(planned, by("lockstep, graph"))
    assert how_computed(study) == ["Engine: lockstep, graph."]
    key, record = next(iter(study.found.items()))
    choice = replace(record.manifest, key="0" * 64, environment=HERE)
    untrained = {**study.found, key: Record(record.job, choice, {"diverged": 1, "density": 1.0})}
    assert how_computed(Study(planned, untrained, Recorded(planned))) == ["Engine: lockstep, graph."]


def test_what_else_differs_stands_behind_the_engines() -> None:
    planned = levels(1, "seeds=2")
    found = everything(planned) | made(planned, ({"seed": 1}, {"environment": {**HERE, "threads": 2}}))
    assert how_computed(Study(planned, found, Recorded(planned))) == [
        "Engine: dense.",
        "Trainings differ in threads (1 and 2): that changes rounding only, so they are compared all the same.",
    ]
