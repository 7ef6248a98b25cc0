"""Whole runs on ranks held against the same runs in one process; `tests/distributed` runs them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from lottery.distributed.group import ALONE, Group
from lottery.errors import Interrupted
from lottery.files.tensors import decode
from lottery.plan.kinds import MASK_FILE, METRICS_FILE
from lottery.recipe.schema import Recipe
from lottery.runner.events import Outcome, Request
from lottery.runner.prepare import follower, prepare
from lottery.runner.ranks import follow, leading
from lottery.runner.run import work
from lottery.signals import Stop
from lottery.store.store import Store
from lottery.training.shared import SharedObjective
from tests.support.micro import micro
from tests.support.restarts import contents

SIGNAL = 15
MOMENTUM = "train.optimizer=[{name: momentum, lr: 0.05}]"
SHORT = ("train.length=12it", "train.evaluate_every=6it", "prune.levels=1")
KINDS = {
    "masks, parts of batches, normalized, with controls": (
        MOMENTUM,  # adam would divide the gradients of biases before normalizations, mere rounding, by themselves
        "data.augment={crop: 1, flip: true}",
        "model={name: lenet, widths: [12, 8], norm: batch}",
        "train.accumulate=3",
        "train.clip=1.0",
        "metrics=[balanced_accuracy, top5]",
        "rewind=5it",
        "branches=[reinit, shuffle]",
        "keep=[9it]",
    ),
    "gradual pruning": (
        "prune={when: training, during: {start: 2it, end: 10it, every: 2it}, fraction: 0.5, levels: 1}",
    ),
    "a learning rate that is chosen": ("tune={trials: 2, seeds: [7]}", "train.optimizer=[sgd]"),
    "a criterion of gradients before training": ("prune.criterion=snip", "prune.when=init"),
}


class StopAfter(Stop):
    """A signal that is there at the n-th look."""

    def __init__(self, looks: int):
        self.looks, self.number = looks, 0

    @property
    def signal(self) -> int | None:
        """The signal, once it is there."""
        self.looks -= 1
        return self.number or (SIGNAL if self.looks < 0 else None)

    @signal.setter
    def signal(self, number: int | None) -> None:
        self.number = number or 0


def each_kind_of_study_gives_the_results_of_one_process(group: Group) -> None:
    for kind, changes in KINDS.items():
        recipe = micro(*SHORT, *changes)
        with _folders(group) as (shared, alone):
            outcome = _run(group, recipe, shared)
            assert outcome.exit_code == 0, outcome.messages
            if group.rank == 0:
                _run(ALONE, recipe, alone)
                _same_results(shared, alone, kind)


def a_signal_to_one_rank_stops_all_and_nothing_is_lost(group: Group) -> None:
    """Dropout, augmentation, batch normalization; stopped twice in the middle of a pass: the same bytes in the end."""
    changes = ["data.augment={crop: 1, flip: true}", "model={name: lenet, widths: [12, 8], norm: batch, dropout: 0.2}"]
    recipe = micro("train.length=40it", "train.batch_size=50", "train.evaluate_every=15it", "prune.levels=1", *changes)
    with _folders(group) as (quiet, stopped):
        _run(group, recipe, quiet, deterministic=True)
        for looks in (15, 33):  # of the last rank
            stop = StopAfter(looks) if group.rank == group.size - 1 else Stop()
            try:
                _run(group, recipe, stopped, stop, deterministic=True)
            except Interrupted as interrupted:
                assert interrupted.signal_number == SIGNAL
            else:
                raise AssertionError("not stopped")
        saved = group.rank == 0 and list(Store(stopped).checkpoints.jobs())
        _run(group, recipe, stopped, deterministic=True)
        if group.rank == 0:
            assert saved and contents(stopped) == contents(quiet)


def two_ranks_then_one_process_then_two_ranks_go_on_from_each_other(group: Group) -> None:
    recipe = micro(MOMENTUM, "train.length=40it", "train.evaluate_every=15it")
    with _folders(group) as (quiet, mixed):
        _run(group, recipe, quiet)
        _stopped(lambda: _run(group, recipe, mixed, StopAfter(14)))
        if group.rank == 0:
            _stopped(lambda: _run(ALONE, recipe, mixed, StopAfter(14)))
        _run(group, recipe, mixed)
        if group.rank == 0:
            _same_results(mixed, quiet, "mixed", 1e-6)
            store = Store(mixed)
            environments = [store.find(key).environment for key in _jobs(mixed)]  # type: ignore[union-attr]
            assert any([each["ranks"] for each in e.get("earlier", ())] == [1] for e in environments), environments


def a_training_that_diverges_or_fails_on_all_ranks_ends_itself_only(group: Group) -> None:
    recipe = micro(*SHORT, "train.optimizer=[{name: sgd, lr: 1e30}, {name: sgd, lr: 0.1}]")
    with _folders(group) as (shared, _):
        outcome = _run(group, recipe, shared)
        assert sorted(outcome.ended.values()).count("diverged") == 1
        assert sorted(outcome.ended.values()).count("done") >= 2
    closure, calls = SharedObjective.closure, 0

    def failing(self: SharedObjective) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ValueError("the fifth")
        return closure(self)

    with _folders(group) as (shared, _), mock.patch.object(SharedObjective, "closure", failing):
        outcome = _run(group, micro(*SHORT), shared)
        assert "failed" in outcome.ended.values() and "the fifth" in outcome.messages[0]
        assert calls == 5


@contextmanager
def _folders(group: Group) -> Iterator[tuple[Path, Path]]:
    """Two folders that all ranks know."""
    with tempfile.TemporaryDirectory() as own:
        folder = Path(group.tell({"folder": own.encode()} if group.rank == 0 else None)["folder"].decode())
        try:
            yield folder / "one", folder / "other"
        finally:
            group.agree(0)  # before it is removed


def _run(
    group: Group, recipe: Recipe, store: Path, stop: Stop | None = None, *, deterministic: bool = False
) -> Outcome:
    """Run a recipe on the ranks of a group; all return the outcome."""
    request = Request(recipe, Path("nowhere"), store, "cpu", deterministic=deterministic, checkpoint_seconds=1000)
    if group.rank:
        return follow(follower(request, stop or Stop(), Store(store), group))
    context = prepare(request, stop, group=group)
    outcome = Outcome(context.plan)
    with leading(group, outcome):
        for event in work(context):
            outcome.add(event)
    return outcome


def _stopped(run: Callable[[], object]) -> None:
    try:
        run()
    except Interrupted:
        return
    raise AssertionError("not stopped")


def _jobs(store: Path) -> list[str]:
    return sorted(path.parent.name for path in store.rglob("manifest.json"))


def _same_results(one: Path, other: Path, what: str, within: float = 2e-5) -> None:
    """Assert the same jobs, masks to the bit, and numbers within rounding."""
    jobs = _jobs(one)
    assert jobs and jobs == _jobs(other), what
    for key in jobs:
        ours, theirs = Store(one).find(key), Store(other).find(key)
        assert ours is not None and theirs is not None and ours.files.keys() == theirs.files.keys(), (what, key)
        for name in ours.files:
            data = [Store(each).read(key, name) for each in (one, other)]
            if name == MASK_FILE:
                assert data[0] == data[1], (what, ours.label)
            elif name == METRICS_FILE:
                _same_numbers(json.loads(data[0]), json.loads(data[1]), f"{what}: {ours.label}", within)
            elif name.endswith(".safetensors") and within < 1e-5:
                tensors = [decode(each)[0] for each in data]
                for label, value in tensors[0].items():
                    if value.is_floating_point():
                        assert torch.allclose(value, tensors[1][label], atol=within), (what, label)


def _same_numbers(ours: Any, theirs: Any, where: str, within: float) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key, value in theirs.items():
            _same_numbers(ours[key], value, f"{where}/{key}", within)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for index, value in enumerate(theirs):
            _same_numbers(ours[index], value, f"{where}/{index}", within)
    elif isinstance(theirs, float):
        assert abs(ours - theirs) <= within * max(1, abs(theirs)), (where, ours, theirs)
    else:
        assert ours == theirs, (where, ours, theirs)


SCENARIOS = [
    name
    for name, value in list(globals().items())
    if callable(value)
    and getattr(value, "__module__", "") == __name__
    and name[0].islower()
    and not name.startswith("_")
]
