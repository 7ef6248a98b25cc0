"""Every control of the catalogue in one study, run, stopped and continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lottery import registry
from lottery.data.splits import fingerprint
from lottery.errors import UsageError
from lottery.files.tensors import decode
from lottery.plan.keys import digest
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.results.planning import plan_from_store
from lottery.results.record import Record, records
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.estimate import steps_of
from lottery.runner.events import Request
from lottery.runner.prepare import look, prepare
from lottery.runner.run import work
from tests.support.levels import EVERYWHERE
from tests.support.micro import micro_text
from tests.support.restarts import contents, run_until_stopped
from tests.support.studies import view_of

TEXT = micro_text(
    "data={name: mnist1d, samples: 600, validation: 100}",
    "model.widths=[20, 10]",
    "train.optimizer.lr=5e-3",
    "train.length=24it",
    "train.evaluate_every=8it",
    "prune.fraction=0.6",
    "rewind=4it",
    "seeds=2",
)
ARGUMENTS = {
    "retrain": "optimizer: {name: momentum, lr: 0.1}",
    "other_data": "dataset: {name: mnist1d, samples: 600, seed: 7}",
    "learned_supermask": "optimizer: {name: momentum, lr: 50}",
}


def study() -> Recipe:
    lines = [
        f"  - {{name: {entry.name}, levels: [{level(entry)}], {ARGUMENTS.get(entry.name, 'samples: 1')}}}\n"
        for entry in EVERYWHERE
    ]
    return parse_recipe(f"{TEXT}branches:\n{''.join(lines)}", "controls.yaml")


def level(entry: registry.Entry[Any]) -> int:
    """Level 1, but for what would be the ticket itself there."""
    return 2 if entry.traits.once else 1


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunContext, dict[str, Record]]:
    folder = tmp_path_factory.mktemp("controls")
    context = prepare(Request(study(), folder, folder, device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context, records(context.plan, context.store)


def of(found: dict[str, Record], name: str, seed: int = 0) -> Record:
    return next(r for r in found.values() if r.job.branch and r.job.branch.label == name and r.job.seed == seed)


def ticket(found: dict[str, Record], seed: int) -> Record:
    return next(r for r in found.values() if r.job.kind == "ticket" and r.job.seed == seed)


def test_every_control_has_its_column_for_both_seeds(finished: Any) -> None:
    context, found = finished
    rows = view_of("means", context.plan, found)
    assert {rows[level(entry) - 1][f"{entry.name}_n"] for entry in EVERYWHERE} == {2}


def test_a_transplanted_mask_is_the_other_seeds_and_the_weights_are_ones_own(finished: Any) -> None:
    context, found = finished
    record = of(found, "transplant")
    assert record.job.partner == ticket(found, 1).job.key
    training = training_of(context, record.job)
    mask = Mask.unpack(*decode(context.store.read(record.job.partner, "mask.safetensors")))
    assert record.metrics["alive"] == mask.alive()
    point = context.store.read_tensors(record.job.point, "state.safetensors")
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, point[f"model/{name}"])


def test_other_data_trains_and_tests_on_the_other_data(finished: Any) -> None:
    context, found = finished
    record = of(found, "other_data")
    assert record.job.branch is not None
    other = record.job.branch.component.args["dataset"]
    assert context.plan.others == {digest(registry.datasets.identity(other)): fingerprint(context.splits_of(other))}
    training = training_of(context, record.job)
    x, _ = next(training.data.evaluation("test"))
    assert torch.equal(x, context.splits_of(other).test_x)
    assert not torch.equal(x, context.splits.test_x)


def test_the_fingerprint_of_other_data_is_part_of_the_key(finished: Any) -> None:
    context, found = finished
    assert of(found, "other_data").job.identity["branch"]["fingerprint"] in context.plan.others.values()


def test_a_table_of_a_study_with_other_data_needs_no_data(finished: Any) -> None:
    context, _ = finished
    assert plan_from_store(study(), context.store, None).jobs.keys() == context.plan.jobs.keys()


def test_an_untrained_supermask_is_the_ticket_at_the_rewind_point(finished: Any) -> None:
    context, found = finished
    record = of(found, "supermask")
    (only,) = record.metrics["curve"]
    assert only["train_loss"] is None
    model = context.networks.network(0)
    point = context.store.read_tensors(record.job.point, "state.safetensors")
    mask = Mask.unpack(*decode(context.store.read(ticket(found, 0).job.key, "mask.safetensors")))
    weights = {name: point[f"model/{name}"] for name in model.state_dict()}
    model.load_state_dict({name: w * mask[name] if name in mask else w for name, w in weights.items()})
    x, y = next(context.data(0).evaluation("test"))
    assert record.metrics["end"]["test_accuracy"] == (model(x).argmax(1) == y).sum().item() / len(y)


def test_an_untrained_supermask_takes_no_step_of_the_time_that_is_estimated(finished: Any) -> None:
    context, found = finished
    steps = steps_of(context)
    assert (steps[of(found, "supermask").job.key], steps[of(found, "noise").job.key]) == (0, 20)


def test_an_edge_popup_mask_has_the_tickets_counts_and_a_learned_one_its_own(finished: Any) -> None:
    _, found = finished
    assert list(of(found, "edge_popup").metrics["alive"].values()) == list(ticket(found, 0).metrics["alive"].values())
    assert 0 < of(found, "learned_supermask").density < 1


def test_a_small_dense_network_has_as_many_parameters_as_the_ticket_has_left(finished: Any) -> None:
    """Of all factors the nearest: brute force over the widths that a factor gives."""
    _, found = finished
    record, pruned = of(found, "small_dense"), ticket(found, 0)
    left = sum(pruned.metrics["alive"].values()) + 20 + 10 + 10

    def parameters(a: int, b: int) -> int:
        return 40 * a + a + a * b + b + b * 10 + 10

    sizes = record.metrics["sizes"]
    a, b = sizes["fc1.weight"] // 40, sizes["output.weight"] // 10
    widths = {(max(1, round(20 * i / 1000)), max(1, round(10 * i / 1000))) for i in range(1, 1001)}
    assert (a, b) in widths
    assert abs(parameters(a, b) - left) == min(abs(parameters(*each) - left) for each in widths)
    assert record.density == 1


def test_a_study_with_every_control_stopped_anywhere_continues_to_the_same_bytes(finished: Any, tmp_path: Path) -> None:
    context, _ = finished
    request = Request(study(), tmp_path, tmp_path, device="cpu", deterministic=True, checkpoint_seconds=0)
    for steps in (60, 37, 110):
        run_until_stopped(request, steps)
    list(work(prepare(request)))
    assert contents(tmp_path) == contents(context.store.root)


def test_other_data_of_other_shapes_is_refused_before_any_training(tmp_path: Path) -> None:
    recipe = parse_recipe(TEXT, "c.yaml", ["branches=[{name: other_data, dataset: digits}]"])
    with pytest.raises(UsageError, match=r"digits: has examples \(1, 8, 8\) of 10 classes, the recipe's data \(40,\)"):
        look(Request(recipe, tmp_path, tmp_path, device="cpu"))
