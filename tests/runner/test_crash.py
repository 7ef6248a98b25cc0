"""A run that crashes, or whose disk refuses, at any of its file operations loses nothing."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lottery.errors import MachineError
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from tests.support.faults import Crash, Disk, crash_after, crash_before, refuses
from tests.support.restarts import contents, full_recipe

STUDY = (
    "train.optimizer=[{name: adam, lr: 3e-3}]",
    "seeds=1",
    "prune.levels=1",
    "branches=[reinit]",
    "train.schedule=constant",
)
TOLERATED = ("append", "lease", "remove")  # a log, a hint and a leftover: none of them stops a run


def run(store: Path) -> None:
    """Every checkpoint that may be written is."""
    recipe = full_recipe(6, *STUDY, "rewind=2it")
    request = Request(recipe, Path("nowhere"), store, "cpu", deterministic=True, checkpoint_seconds=0)
    list(work(prepare(request)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], int]:
    """What the uninterrupted run commits, and the number of its file operations."""
    store = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        run(store)
        return contents(store), len(disk.seen)


def check(
    whole: tuple[dict[str, bytes], int],
    folder: Path,
    patch: pytest.MonkeyPatch,
    fault: Callable[..., Any],
    number: int,
) -> None:
    disk = Disk(patch)
    disk.arm(number, fault)
    try:
        run(folder)
    except (Crash, MachineError):
        pass
    else:  # an operation that the run can do without, or that this run did not come to
        near = [path for _, path in disk.seen[number - 1 : number + 1]]
        spare = any(path.name == "events" or "notes" in path.parts for path in near)  # the log, and a cache
        assert len(disk.seen) <= number or disk.seen[number][0] in TOLERATED or spare
    disk.heal()
    shutil.rmtree(folder / "leases", ignore_errors=True)  # of this process, which is not as dead as it plays
    assert contents(folder).items() <= whole[0].items()  # each job is there whole or not at all
    run(folder)
    assert contents(folder) == whole[0]


@pytest.mark.parametrize(
    ("fault", "first"), [(crash_before, 3), (crash_after, 12), (refuses(errno.ENOSPC), 20), (refuses(errno.EIO), 29)]
)
def test_some_file_operations_failing_lose_nothing(
    whole: tuple[dict[str, bytes], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[..., Any],
    first: int,
) -> None:
    """Each fault at other operations than the rest."""
    for number in range(first, whole[1], 34):
        check(whole, tmp_path / str(number), monkeypatch, fault, number)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [crash_before, crash_after, refuses(errno.ENOSPC), refuses(errno.EIO)])
def test_every_file_operation_failing_loses_nothing(
    whole: tuple[dict[str, bytes], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any]
) -> None:
    for number in range(whole[1] + 1):
        check(whole, tmp_path / str(number), monkeypatch, fault, number)
