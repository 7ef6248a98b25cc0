"""Shared pieces of the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.clocks import Clock

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process that the tests start compiles all modules anew

DATA = Path(os.environ.get("LOTTERY_DATA") or "data")
NO_DATA = "no real data"  # how the reason of such a skip begins


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache and settings of this session's own, here and in the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOTTERY_CONFIG", str(tmp_path_factory.mktemp("config")))
        patch.setenv("LOTTERY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The root of the real data sets, for tests marked `data`."""
    return DATA


def skip_without_data(item: pytest.Item) -> None:
    """Skip a test marked `data`, or `data("folder")` for another folder than MNIST's, where that is not there."""
    for mark in item.iter_markers("data"):
        if not (wanted := DATA / (mark.args[0] if mark.args else "MNIST")).is_dir():
            item.add_marker(pytest.mark.skip(reason=f"{NO_DATA}: {wanted} is missing, set LOTTERY_DATA"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of real data this run has left out."""
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    count = sum(NO_DATA in reason for reason in skipped)
    terminalreporter.write_line(f"tests of real data skipped: {count} (LOTTERY_DATA is {DATA})")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clocks of this process, to be put forward."""
    return Clock(monkeypatch)


LONGEST = (
    "test_processes",
    "test_kill",
    "test_commands",
    "test_run",
    "test_background",  # compiles its kernels, which the other engines' tests then find
    "test_audit",
    "test_models",
    "test_controls",
    "test_figures",
    "test_two_ranks",
    "test_shipped",
)  # files, by the seconds of processor that they take


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: a worker takes whole files, and would be left alone with the last."""
    places = {name: place for place, name in enumerate(LONGEST)}
    for item in items:
        skip_without_data(item)
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Nothing here survives a power cut, and nothing has to: thousands of small jobs would wait for the disk.

    That the product asks for it, in the right order, is in tests/files. What is no open file is refused as ever.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.fstat(descriptor) and None)
        yield


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One for each of the processes that test side by side: threads that wait for one another on shared cores take
    three times as long. Commands that tests start have all cores."""
    torch.set_num_threads(1)
    monkeypatch.setattr("lottery.device.cores", lambda: 1)
