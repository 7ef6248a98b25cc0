"""Shared pieces of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.support.clocks import Clock


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the real data sets; the test is skipped where there is none."""
    root = Path(os.environ.get("LOTTERY_DATA") or "data")
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"no real data in {root}: set LOTTERY_DATA")
    return root


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clocks of this process, to be put forward."""
    return Clock(monkeypatch)


LONGEST = (
    "test_kill",
    "test_processes",
    "test_shipped",
    "test_run",
    "test_commands",
)  # files, in seconds


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: a worker takes whole files, and would be left alone with the last."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each of the processes that test side by side: threads that wait for one another on shared cores take
    three times as long. Commands that tests start have all cores."""
    torch.set_num_threads(1)
    monkeypatch.setattr("lottery.device.cores", lambda: 1)
