"""What a checkpoint must hold: without any one part of it, a stopped run does not continue to the same bytes (H4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.training.trainer import Training
from tests.support.restarts import contents, full_recipe, run_until_stopped

STUDY = ("train.optimizer=[{name: adam, lr: 3e-3}]", "seeds=1", "prune.levels=0", "branches=[]")
restore, state = Training.restore, Training.state


def request_for(store: Path) -> Request:
    return Request(full_recipe(60, *STUDY), Path("nowhere"), store, device="cpu", deterministic=True)


def stopped_and_continued(store: Path) -> dict[str, bytes]:
    """The study stopped in the middle of a pass, then run to the end."""
    run_until_stopped(request_for(store), 29)
    list(work(prepare(request_for(store))))
    return contents(store)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = tmp_path_factory.mktemp("whole")
    list(work(prepare(request_for(store))))
    return contents(store)


def test_with_all_of_it_the_bytes_are_the_same(whole: dict[str, bytes], tmp_path: Path) -> None:
    assert stopped_and_continued(tmp_path) == whole


def without(part: str) -> Callable[..., None]:
    """A restore that leaves out the tensors whose names hold `part`."""

    def mutant(self: Training, tensors: Any, values: Any) -> None:
        fresh, _ = state(self)
        restore(self, {name: fresh.get(name, t) if part in name else t for name, t in tensors.items()}, values)

    return mutant


def without_rng(self: Training, tensors: Any, values: Any) -> None:
    restore(self, tensors, values)
    self._rng = None


def without_optimizer(self: Training, tensors: Any, values: Any) -> None:
    fresh = self.optimizer.state_dict()
    restore(self, tensors, values)
    self.optimizer.load_state_dict(fresh)


def without_step(self: Training, tensors: Any, values: Any) -> None:
    """The schedule's position and the place in the pass."""
    restore(self, tensors, {**values, "step": values["step"] - 1})


def without_accumulators(self: Training, tensors: Any, values: Any) -> None:
    restore(self, {**tensors, "loss": torch.zeros_like(tensors["loss"])}, values)


@pytest.mark.parametrize(
    "mutant",
    [
        without("running_mean"),
        without("num_batches_tracked"),
        without("model/fc1.weight"),
        without_rng,
        without_optimizer,
        without_step,
        without_accumulators,
    ],
    ids=["batch norm", "batch norm's count", "weights", "rng", "optimizer", "step", "accumulated loss"],
)
def test_without_a_part_of_the_state_the_bytes_differ(
    whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: Any
) -> None:
    monkeypatch.setattr(Training, "restore", mutant)
    assert stopped_and_continued(tmp_path) != whole


def test_a_ticket_rewound_without_its_buffers_or_optimizer_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lottery.results.artifacts import read_state
    from lottery.runner import stored_level

    def run(store: Path) -> dict[str, bytes]:
        overrides = (*STUDY[:2], "prune.levels=1", "branches=[]")
        request = Request(full_recipe(40, *overrides), Path("nowhere"), store, device="cpu", deterministic=True)
        list(work(prepare(request)))
        return {name: data for name, data in contents(store).items() if "metrics" in name}

    right = run(tmp_path / "right")

    def no_buffers(store: Store, key: str) -> Any:
        tensors, values = read_state(store, key)
        return {n: torch.zeros_like(t) if "running" in n else t for n, t in tensors.items()}, values

    def no_moments(store: Store, key: str) -> Any:
        tensors, values = read_state(store, key)
        return {n: torch.zeros_like(t) if "exp_avg" in n else t for n, t in tensors.items()}, values

    for name, mutant in (("buffers", no_buffers), ("moments", no_moments)):
        monkeypatch.setattr(stored_level, "read_state", mutant)
        wrong = run(tmp_path / name)
        assert wrong.keys() == right.keys()
        assert wrong != right
