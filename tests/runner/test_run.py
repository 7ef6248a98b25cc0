"""Running a recipe: what is trained, what is skipped, what one bad job may not touch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lottery
from lottery.data.load import load
from lottery.data.loader import Data
from lottery.data.splits import fingerprint
from lottery.device import machine
from lottery.errors import MachineError, UsageError
from lottery.files.tensors import decode, encode
from lottery.network.layout import load as load_weights
from lottery.plan.expand import plan
from lottery.plan.jobs import Job, Plan
from lottery.pruning.mask import Mask
from lottery.recipe.readings import READINGS
from lottery.recipe.schema import Recipe
from lottery.results.artifacts import pack_correct, read_correct, read_mask, read_trained
from lottery.results.record import records
from lottery.runner.context import RunContext
from lottery.runner.events import Event, Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.maintenance import summarize
from lottery.store.store import Store
from tests.support import ROOT
from tests.support.micro import finished as finished_run
from tests.support.micro import micro, prepared
from tests.support.restarts import contents, full_recipe, run_until_stopped
from tests.support.studies import view_of

SMALL = ("train.optimizer=[{name: adam, lr: 3e-3}]", "seeds=1")


def run_here(store: Path, recipe: Recipe, **options: Any) -> tuple[Plan, list[Event]]:
    context = prepare(Request(recipe, Path("nowhere"), store, device="cpu", deterministic=True, **options))
    return context.plan, list(work(context))


def test_one_copy_of_the_data_serves_all_seeds_and_is_made_for_the_first_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = list[int](), Data.__init__

    def counting(self: Data, *given: Any, seed: int, **options: Any) -> None:
        made.append(seed)
        make(self, *given, seed=seed, **options)

    monkeypatch.setattr(Data, "__init__", counting)
    context = prepared(micro("seeds=3", "prune.levels=1", "train.length=2it"), tmp_path)
    assert made == []
    finished_run(context)
    assert made == [0]


def kinds(events: list[Event]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events:
        counts[event.kind] = counts.get(event.kind, 0) + 1
    return counts


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """The micro study, run once for the tests that only look at it."""
    root = tmp_path_factory.mktemp("finished")
    planned, events = run_here(root, full_recipe())
    assert kinds(events)["done"] == len(planned) == 2 * 2 * (1 + 1 + 3 * 3)
    return planned, Store(root)


def jobs(planned: Plan, **wanted: Any) -> list[Job]:
    return [job for job in planned if all(getattr(job, name) == value for name, value in wanted.items())]


def test_a_finished_recipe_is_only_found_again(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    _, events = run_here(store.root, full_recipe())
    assert kinds(events) == {"found": len(planned)}


def test_more_levels_and_seeds_continue_what_is_there(finished: tuple[Plan, Store], tmp_path: Path) -> None:
    run_here(tmp_path, full_recipe(40, *SMALL, "prune.levels=1"))
    _, events = run_here(tmp_path, full_recipe(40, *SMALL, "prune.levels=2", "branches=[]"))
    assert kinds(events)["done"] == 1
    assert contents(tmp_path).items() <= contents(finished[1].root).items()


def test_the_ticket_starts_from_the_dense_networks_rewind_point_under_its_mask(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    (ticket,) = jobs(planned, kind="ticket", level=1, seed=0, optimizer=planned.recipe.train.optimizer[0])
    assert ticket.point is not None
    state, values = (
        decode(store.read(ticket.point, "state.safetensors"))[0],
        store.read_json(ticket.point, "state.json"),
    )
    assert values["step"] == 15
    curve = store.read_json(ticket.key, "metrics.json")["curve"]
    assert [row["step"] for row in curve] == [15, 20, 40]
    assert "optimizer/state/0/exp_avg" in state
    assert "model/norm1.num_batches_tracked" in state or any("num_batches_tracked" in name for name in state)


def test_masks_shrink_by_the_exact_counts_and_kept_weights_are_stored_for_them(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    for seed in (0, 1):
        masks = []
        for level in (1, 2, 3):
            (job,) = jobs(planned, kind="ticket", level=level, seed=seed, optimizer=planned.recipe.train.optimizer[1])
            mask = Mask.unpack(*decode(store.read(job.key, "mask.safetensors")))
            weights = decode(store.read(job.key, "weights.safetensors"))[0]
            assert all(weights[name].shape == (count,) for name, count in mask.alive().items())
            masks.append(mask)
        assert [list(mask.alive().values()) for mask in masks] == [
            [64 * 24 - 614, 24 * 12 - 115, 120 - 24],
            [922 - 369, 173 - 69, 96 - 19],
            [553 - 221, 104 - 42, 77 - 15],
        ]
        assert masks[2] <= masks[1] <= masks[0]


def test_every_control_has_the_tickets_density(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    found = records(planned, store)
    for job in jobs(planned, kind="branch"):
        assert job.parent is not None
        assert found[job.key].metrics["alive"] == found[job.parent].metrics["alive"]


def test_the_test_set_is_measured_at_the_end_and_at_the_two_chosen_steps(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    apart = 0
    for record in records(planned, store).values():
        curve, end = (record.metrics[name] for name in ("curve", "end"))
        least = min(row["validation_loss"] for row in curve)
        most = max(row["validation_accuracy"] for row in curve)
        first_least = next(row for row in curve if row["validation_loss"] == least)
        first_most = next(row for row in curve if row["validation_accuracy"] == most)
        for name, row in (("early_stop", first_least), ("best_accuracy", first_most)):
            read = record.metrics[name]
            assert {key: read[key] for key in row} == row
            assert read["censored"] == (row["step"] == 40)
            assert 0 <= read["test_accuracy"] <= 1
        assert end["step"] == 40 and 0 <= end["test_accuracy"] <= 1
        assert not any("test" in name for row in curve for name in row)
        apart += first_least["step"] != first_most["step"]
    assert apart  # in some of them the two are not the same step


def test_kept_weights_and_bits_are_those_that_the_accuracy_was_measured_with(finished: tuple[Plan, Store]) -> None:
    """Each reading's weights, put into a network made anew, recognize just the test examples whose bits are set."""
    planned, store = finished
    splits = load(planned.recipe.data.component, Path("nowhere"))
    context = RunContext(planned, store, machine("cpu", deterministic=True), splits)
    several, found = 0, records(planned, store)
    for job in (job for job in planned if job.key in found):
        metrics, bits = found[job.key].metrics, read_correct(store, job.key)
        assert list(bits) == list(READINGS)
        for reading in READINGS:
            assert int(bits[reading].sum()) / len(splits.test_y) == metrics[reading]["test_accuracy"]
        if job.kind not in ("dense", "ticket"):
            continue
        mask = None if job.kind == "dense" else read_mask(store, job.key)
        several += len({metrics[reading]["step"] for reading in READINGS}) > 1
        for reading in READINGS:
            network = context.networks.blank()
            load_weights(network, read_trained(store, job.key, mask, reading))
            network.eval()
            with torch.no_grad():
                assert isinstance(splits.test_x, Tensor)
                x = (splits.test_x.float() / 255 - splits.mean[0]) / splits.std[0]
                recognized = network(x).argmax(1) == splits.test_y
            assert np.array_equal(recognized.numpy(), bits[reading]), (job.label, reading)
    assert several  # trainings of which more than the last step's weights are kept


def test_bits_of_a_number_of_examples_that_fills_no_byte_are_read_as_they_were_packed(tmp_path: Path) -> None:
    store, bits = Store(tmp_path), {"end": torch.arange(13) % 3 == 1, "early_stop": torch.arange(13) > 4}
    files = {"job.json": b"{}", "correct.safetensors": encode(*pack_correct(bits))}
    store.commit("a" * 64, files, kind="dense", label="", seconds=0.0, environment={})
    read = read_correct(store, "a" * 64)
    assert list(read) == ["early_stop", "end"]
    assert all(np.array_equal(read[name], bits[name].numpy()) for name in bits)  # type: ignore[index]
    assert read_correct(store, "b" * 64) == {}


def test_serial_parallel_and_shuffled_runs_give_the_same_bytes(finished: tuple[Plan, Store], tmp_path: Path) -> None:
    planned, store = finished
    recipe = full_recipe(40, SMALL[0])  # half of what is there
    parallel = tmp_path / "parallel"
    outcome = lottery.run(recipe, store=parallel, device="cpu", jobs=2, deterministic=True)
    assert (outcome.exit_code, len(outcome.ended)) == (0, len(planned) // 2)
    expected = {name: data for name, data in contents(store.root).items() if name.split("/")[1] in outcome.ended}
    assert contents(parallel) == expected
    backwards = tmp_path / "backwards"
    context = prepare(Request(recipe, Path("nowhere"), backwards, device="cpu", deterministic=True))
    order = sorted(context.plan, key=lambda job: (job.level, -job.seed, job.key))
    context.plan.jobs.clear()
    context.plan.jobs.update({job.key: job for job in order})
    list(work(context))
    assert contents(backwards) == expected


def test_a_run_leaves_the_process_wide_generator_and_switches_as_they_were(tmp_path: Path) -> None:
    before = (torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    run_here(tmp_path, full_recipe(16, *SMALL, "prune.levels=1"))
    after = (torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_diverging_branch_is_marked_and_leaves_the_rest_identical(
    finished: tuple[Plan, Store], tmp_path: Path
) -> None:
    wild = "branches=[reinit, shuffle, {name: retrain, as: wild, optimizer: {name: sgd, lr: 1e30}}]"
    recipe = full_recipe(40, *SMALL, wild)
    planned, events = run_here(tmp_path, recipe)
    assert kinds(events)["diverged"] == 3
    assert "failed" not in kinds(events)
    everything = contents(tmp_path)
    tame = {name: value for name, value in everything.items() if name in contents(finished[1].root)}
    assert tame.items() <= contents(finished[1].root).items()
    assert len(tame) == len(everything) - 3 * 3
    table = view_of("means", planned, records(planned, Store(tmp_path)))
    assert all(row["wild"] is None and "wild: 1 of 1 diverged (step" in row["note"] for row in table)
    assert lottery.run(recipe, store=tmp_path, device="cpu", deterministic=True).exit_code == 1


def test_nan_in_the_data_diverges_and_nothing_is_pruned_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lottery import registry

    entry = registry.datasets["mnist1d"]
    splits = entry.make(Path("nowhere"))
    splits.train_x[:100, 3] = float("nan")
    monkeypatch.setitem(
        registry.datasets._entries, "mnist1d", type(entry)(**{**vars_of(entry), "make": lambda root: splits})
    )
    recipe = full_recipe(
        80, *SMALL, "data={name: mnist1d, validation: 200}", "model={name: lenet, widths: [8]}", "rewind=init"
    )
    _, events = run_here(tmp_path, recipe)
    assert kinds(events) == {"start": 2, "diverged": 2, "blocked": 9}


def vars_of(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("name", "make", "source", "version", "traits")}


def test_a_failing_job_is_reported_and_tried_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lottery import registry

    real = registry.branches["shuffle"].make

    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("somebody's mistake")

    monkeypatch.setitem(registry.branches._entries, "shuffle", with_make("shuffle", broken))
    _, events = run_here(tmp_path, full_recipe(16, *SMALL, "prune.levels=2"))
    failed = [event for event in events if event.kind == "failed"]
    assert [event.about["message"] for event in failed] == ["RuntimeError: somebody's mistake"] * 2
    assert Store(tmp_path).state(failed[0].key) == "failed"
    monkeypatch.setitem(registry.branches._entries, "shuffle", with_make("shuffle", real))
    _, events = run_here(tmp_path, full_recipe(16, *SMALL, "prune.levels=2"))
    assert kinds(events)["done"] == 2


def with_make(name: str, make: Any) -> Any:
    from lottery import registry

    entry = registry.branches[name]
    return type(entry)(**{**vars_of(entry), "make": make})


@pytest.mark.parametrize("file", ["weights.safetensors", "mask.safetensors", "metrics.json", "manifest.json"])
def test_a_damaged_job_is_put_aside_and_computed_again_to_the_same_bytes(tmp_path: Path, file: str) -> None:
    recipe = full_recipe(16, *SMALL, "prune.levels=2", "branches=[]")
    planned, _ = run_here(tmp_path, recipe)
    before = contents(tmp_path)
    (job,) = jobs(planned, kind="ticket", level=1)
    path = tmp_path / "jobs" / job.key[:2] / job.key / file
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    path.write_bytes(damaged)
    (other,) = jobs(planned, kind="ticket", level=2)
    (tmp_path / "jobs" / other.key[:2] / other.key / "manifest.json").unlink()  # its run needs the damaged parent
    _, events = run_here(tmp_path, recipe)
    assert [event.kind for event in events][-1] == "done" or kinds(events).get("found")
    list(Store(tmp_path).verify())
    run_here(tmp_path, recipe)
    assert contents(tmp_path) == before
    assert summarize(Store(tmp_path)).quarantined >= 2


def test_damage_met_while_running_is_mended_in_the_same_run(tmp_path: Path) -> None:
    recipe = full_recipe(16, *SMALL, "prune.levels=2", "branches=[]")
    run_here(tmp_path, full_recipe(16, *SMALL, "prune.levels=1", "branches=[]"))
    planned, _ = run_here(tmp_path, full_recipe(16, *SMALL, "prune.levels=1", "branches=[]"))
    (job,) = jobs(planned, kind="ticket", level=1)
    path = tmp_path / "jobs" / job.key[:2] / job.key / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    _, events = run_here(tmp_path, recipe)
    assert kinds(events)["damaged"] == 1
    assert kinds(events)["done"] == 2
    assert all(
        Store(tmp_path).find(job.key) for job in plan(recipe, fingerprint(load(recipe.data.component, Path("."))))
    )


def test_a_plan_that_cannot_fit_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "free_bytes", lambda self: 1000)
    with pytest.raises(MachineError, match="missing jobs need"):
        run_here(tmp_path / "store", full_recipe())
    assert not (tmp_path / "store").exists()


def test_a_rate_for_a_layer_that_is_not_there_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"prune\.rates: no layer 'conv\*'"):
        run_here(tmp_path, full_recipe(16, 'prune.rates={"conv*": 0.5}'))


@pytest.mark.parametrize(("mode", "first_rate"), [("lr", 1.0), ("finetune", None)])
def test_other_rewinding_goes_on_from_trained_weights(tmp_path: Path, mode: str, first_rate: float | None) -> None:
    overrides = [*SMALL, "prune.levels=1", "branches=[]", f"rewind={{to: 15it, mode: {mode}}}"]
    planned, _ = run_here(tmp_path, full_recipe(40, *overrides, "model={name: lenet, widths: [24, 12]}"))
    store = Store(tmp_path)
    (dense,), (ticket,) = jobs(planned, kind="dense"), jobs(planned, kind="ticket")
    dense_end = store.read_json(dense.key, "metrics.json")["end"]
    first = store.read_json(ticket.key, "metrics.json")["curve"][0]
    assert first["step"] == 15
    assert abs(first["validation_loss"] - dense_end["validation_loss"]) < 0.5  # pruned, not untrained


def test_one_shot_densities_leave_the_dense_network_at_once(tmp_path: Path) -> None:
    planned, _ = run_here(tmp_path, full_recipe(16, *SMALL, "prune={one_shot: [0.2, 0.5]}", "branches=[]"))
    found = records(planned, Store(tmp_path))
    alive = [record.metrics["alive"]["fc1.weight"] for record in found.values() if record.job.kind == "ticket"]
    assert alive == [1536 - 768, 1536 - 1229]
    assert {job.parent for job in jobs(planned, kind="ticket")} == {jobs(planned, kind="dense")[0].key}


def test_two_rewind_points_share_the_dense_network(tmp_path: Path) -> None:
    planned, events = run_here(
        tmp_path, full_recipe(40, *SMALL, "prune.levels=1", "branches=[]", "rewind=[init, 15it]")
    )
    assert sorted(job.kind for job in planned) == ["dense", "rewind", "rewind", "ticket", "ticket"]
    assert kinds(events)["done"] == 5
    table = view_of("means", planned, records(planned, Store(tmp_path)))
    assert [row["rewind"] for row in table] == ["init", "15it"]
    assert table[0]["dense"] == table[1]["dense"]


def test_a_dense_network_that_went_on_from_a_rewind_point_equals_one_that_did_not(tmp_path: Path) -> None:
    metrics = []
    for name, rewind in (("a", "init"), ("b", "15it")):
        planned, _ = run_here(
            tmp_path / name, full_recipe(40, *SMALL, "prune.levels=0", "branches=[]", f"rewind={rewind}")
        )
        (dense,) = jobs(planned, kind="dense")
        store = Store(tmp_path / name)
        metrics.append((dense.key, store.read(dense.key, "metrics.json"), store.read(dense.key, "weights.safetensors")))
    assert metrics[0] == metrics[1]


def test_the_table_is_what_a_hand_calculation_gives(finished: tuple[Plan, Store]) -> None:
    planned, store = finished
    found = records(planned, store)
    table = view_of("means", planned, found)
    assert len(table) == 2 * 3
    assert [row["optimizer"] for row in table] == ["adam"] * 3 + ["momentum"] * 3
    for row, (optimizer, level) in zip(
        table, [(o, n) for o in planned.recipe.train.optimizer for n in (1, 2, 3)], strict=True
    ):

        def accuracies(optimizer: Any = optimizer, **wanted: Any) -> list[float]:
            chosen = jobs(planned, optimizer=optimizer, **wanted)
            return [found[job.key].metrics["best_accuracy"]["test_accuracy"] for job in chosen]

        dense, ticket = accuracies(kind="dense"), accuracies(kind="ticket", level=level)
        assert row["dense"] == sum(dense) / 2
        assert row["ticket"] == sum(ticket) / 2
        assert row["ticket_std"] == pytest.approx(abs(ticket[0] - ticket[1]) / 2**0.5, abs=1e-15)
        assert row["ticket_diff"] == pytest.approx(
            sum(t - d for t, d in zip(ticket, dense, strict=True)) / 2, abs=1e-15
        )
        assert (row["dense_n"], row["reinit_n"], row["shuffle_n"]) == (2, 2, 2)
        assert list(row)[:3] == ["optimizer", "density", "dense"]


def test_a_stop_saves_and_the_next_run_goes_on_to_the_same_bytes(finished: tuple[Plan, Store], tmp_path: Path) -> None:
    recipe = full_recipe()
    request = Request(recipe, Path("nowhere"), tmp_path, device="cpu", deterministic=True)
    for steps in range(3, 60, 9):
        run_until_stopped(request, steps)
    run_here(tmp_path, recipe)
    assert contents(tmp_path) == contents(finished[1].root)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_precisions_train_and_are_other_jobs(
    finished: tuple[Plan, Store], tmp_path: Path, precision: str
) -> None:
    planned, _ = run_here(tmp_path, full_recipe(40, *SMALL, f"train.precision={precision}"))
    assert not {job.key for job in planned} & {job.key for job in finished[0]}
    found = records(planned, Store(tmp_path))
    assert all(record.metrics["end"]["validation_loss"] < 2.5 for record in found.values())
    weights = decode(Store(tmp_path).read(jobs(planned, kind="dense")[0].key, "weights.safetensors"))[0]
    assert {str(weight.dtype) for name, weight in weights.items() if "num" not in name} == {"torch.float32"}


@pytest.mark.parametrize("name", ["micro", "quickstart", "lenet-mnist", "resnet20-cifar10"])
def test_keys_and_defaults_are_frozen(name: str) -> None:
    """A changed key forgets finished jobs: only a raised version of an entry, or of the schema, may change these."""
    recipe = full_recipe() if name == "micro" else lottery.load_recipe(name)
    jobs = list(plan(recipe, "0" * 64))
    assert [len(jobs), jobs[0].key, jobs[-1].key] == json.loads((ROOT / "tests" / "keys.json").read_text())[name]
