"""What a training held is free when it has ended, without Python's collector of cycles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lottery.runner import execute
from lottery.runner.assemble import assemble
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from tests.support.micro import micro


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Leave cycles where they are."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize(
    "change",
    [
        "train.engine=dense",
        "prune={when: training, during: {start: 0it, end: 8it, every: 2it}, fraction: 0.5, levels: 2}",
    ],
)
def test_a_training_leaves_no_cycle_behind(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[weakref.ref[Any]]()

    def noting(*about: Any) -> Any:
        training = assemble(*about)
        made.extend(map(weakref.ref, (training, training.model, training.engine)))
        return training

    monkeypatch.setattr(execute, "assemble", noting)
    kinds = [event.kind for event in work(prepare(Request(micro(change), Path("nowhere"), tmp_path, device="cpu")))]
    assert kinds.count("done") >= 3
    assert len(made) >= 9 and not [ref for ref in made if ref() is not None]
