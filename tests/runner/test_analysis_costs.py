"""The cost of analyses is stated before: as many examples go through the network as the plan says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from lottery.landscape.critical_points import Objective, Vector
from lottery.network.factory import NetworkFactory
from lottery.plan.kinds import Kind
from lottery.runner.analysis_costs import Costs, examples_of, seconds_of, time_examples
from lottery.runner.context import RunContext
from lottery.runner.estimate import estimate
from lottery.runner.measure import Measuring
from lottery.runner.run import work
from tests.support.analyses import asking
from tests.support.micro import finished, micro, prepared

COUNTED = [  # exactly as many examples as the plan says
    ("{name: barrier, points: 4, between: dense-ticket}", ()),
    ("{name: barrier, points: 4, between: dense-ticket, parts: [train, test]}", ()),
    ("{name: barrier, points: 4, between: dense-ticket, examples: 100}", ()),
    ("{name: barrier, points: 4, between: dense-ticket, bn: both}", ("model.norm=batch",)),
    ("{name: barrier, points: 4, between: dense-ticket, bn: interpolate}", ("model.norm=batch",)),
    ("{name: line, points: 4, parts: train}", ()),
    ("{name: surface, points: 3, times: 0, examples: 100}", ()),
    ("{name: plane, points: 3, times: 0}", ("model.norm=batch",)),
    ("{name: slice, points: 3, times: 0, bn: reset}", ("model.norm=batch",)),
]
MOST = [  # stops before, where it has converged
    "{name: hessian, eigenvalues: 2, steps: 10, probes: 4, examples: 100}",
    "{name: hessian, eigenvalues: 2, steps: 10, probes: 4, examples: 100, by: block}",
    "{name: hessian, eigenvalues: 2, steps: 10, probes: 4, density: true, density_probes: 3, examples: 100, by: block}",
    "{name: surface, directions: eigenvectors, points: 3, times: 0, examples: 100}",
]


SHORT = ("prune.levels=1", "train.length=4it")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the trainings that the analyses above look at, of networks with and without running statistics."""
    folder = tmp_path_factory.mktemp("trained")
    for norm in ("none", "batch"):
        finished(prepared(micro(*SHORT, f"model.norm={norm}"), folder))
    return folder


def said_and_counted(folder: Path, monkeypatch: pytest.MonkeyPatch, analysis: str, *changes: str) -> tuple[Costs, int]:
    """The examples that the first job of an analysis says it takes, and those that go through its network."""
    context = prepared(micro(*SHORT, asking(analysis), *changes), folder)
    job = next(job for job in context.plan if job.kind is Kind.ANALYSIS)
    seen: list[int] = []
    blank = NetworkFactory.blank

    def counted(factory: NetworkFactory) -> nn.Module:
        model = blank(factory)

        def count(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            seen.append(len(inputs[0]))

        model.register_forward_pre_hook(count)
        return model

    said = examples_of(context, job)
    with monkeypatch.context() as patch:
        patch.setattr(NetworkFactory, "blank", counted)
        for _ in Measuring(context, job, 0.0).run():
            pass
    return said, sum(seen)


@pytest.mark.parametrize(("analysis", "changes"), COUNTED)
def test_as_many_examples_go_through_the_network_as_the_plan_says(
    analysis: str, changes: tuple[str, ...], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, counted = said_and_counted(trained, monkeypatch, analysis, *changes)
    assert (said.forward, said.gradient, said.product) == (counted, 0, 0)


@pytest.mark.parametrize("analysis", MOST)
def test_what_stops_at_convergence_takes_no_more_than_the_plan_says(
    analysis: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, counted = said_and_counted(trained, monkeypatch, analysis)
    most = said.forward + said.gradient + said.product
    assert said.product > 0
    assert 0.3 * most < counted <= most


def test_a_spectrum_by_block_costs_products_for_each_parameter_the_network_has(tmp_path: Path) -> None:
    keys = "eigenvalues: 2, steps: 20, probes: 5, examples: 100"
    asked = [f"{{name: hessian, as: {by}, by: {by}, {keys}}}" for by in ("whole", "block")]
    context = prepared(micro(asking(*asked)), tmp_path)
    whole, block = (
        examples_of(context, next(job for job in context.plan if job.analysis and job.analysis.label == by)).product
        for by in ("whole", "block")
    )
    sizes = [64 * 12, 12, 12 * 8, 8, 8 * 10, 10]
    assert whole == 100 * 25
    assert block - whole == 100 * sum(min(20, size) + (5 if size > 20 else 0) for size in sizes)


def test_a_trajectory_is_one_picture_and_plateaus_are_measured_at_each_state(tmp_path: Path) -> None:
    asked = asking(
        "{name: trajectory, along: 4, points: 3, examples: 100}", "{name: plateaus, along: 4, examples: 100}"
    )
    context = prepared(micro(asked), tmp_path)
    found: dict[str, Costs] = {}
    for job in context.plan:
        if job.analysis is not None:
            found[job.analysis.name] = examples_of(context, job)
    assert found["trajectory"].forward == 300 * (9 + 8 + 1)
    assert (found["plateaus"].gradient, found["plateaus"].product) == (4 * 100, 4 * 40 * 100)


def test_finished_analyses_tell_how_long_others_with_their_arguments_take(tmp_path: Path) -> None:
    asked = asking("{name: barrier, points: 3, between: level-level}")
    context = finished(prepared(micro(asked), tmp_path))
    (job,) = [job for job in context.plan if job.kind is Kind.ANALYSIS]
    manifest = context.store.find(job.key)
    assert manifest is not None
    assert seconds_of(context, [job]) == ({job.key: manifest.seconds}, True)


def test_a_plan_states_the_seconds_of_analyses_before_any_training(tmp_path: Path) -> None:
    context: RunContext = prepared(
        micro(asking("{name: hessian, examples: 100, steps: 20}", "{name: barrier, points: 5}")), tmp_path
    )
    told = estimate(context)
    jobs = [job for job in context.plan if job.kind is Kind.ANALYSIS]
    assert all(told.by_job[job.key] > 0 for job in jobs)
    assert not told.measured
    assert sum(told.by_job.values()) == pytest.approx(told.seconds)
    assert not [event for event in work(context) if event.kind == "failed"]
    assert estimate(context).measured


def test_an_example_takes_longer_for_what_does_more_with_it(tmp_path: Path) -> None:
    rates: Any = time_examples(prepared(micro("model.widths=[200, 100]"), tmp_path), products=True)
    assert 0 < rates.forward < rates.gradient < rates.product


def test_a_search_for_critical_points_takes_no_more_gradients_and_hessians_than_the_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row of a Hessian counts as a product; the network has fewer weights than one that is refused."""
    starts, steps, examples = 2, 12, 100
    calls = {"value": 0, "gradient": 0, "hessian": 0}
    original = Objective.of.__func__  # type: ignore[attr-defined]

    def counted(name: str, call: Callable[[Vector], Any]) -> Callable[[Vector], Any]:
        def result(x: Vector) -> Any:
            calls[name] += 1
            return call(x)

        return result

    def of(cls: type[Objective], *args: Any, **options: Any) -> Objective:
        found = original(cls, *args, **options)
        return Objective(*(counted(name, getattr(found, name)) for name in calls))

    keys = f"of: ticket, levels: [1], starts: {starts}, steps: {steps}, examples: {examples}"
    asked = asking(f"{{name: critical_points, {keys}}}")
    changes = ("prune={one_shot: [0.2]}", "train.length=4it", asked)
    context = finished(prepared(micro(*changes), tmp_path))
    (job,) = (job for job in context.plan if job.kind is Kind.ANALYSIS)
    monkeypatch.setattr(Objective, "of", classmethod(of))
    for _ in Measuring(context, job, 0.0).run():
        pass
    said = examples_of(context, job)
    size = round(0.2 * 944) + 30
    assert calls["value"] == starts == said.forward / examples
    assert starts * steps / 2 < calls["gradient"] <= said.gradient / examples  # a search may end before its last step
    assert size * calls["hessian"] <= said.product / examples
    assert calls["hessian"] <= starts * (steps + 2)
