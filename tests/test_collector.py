"""The collector of reference cycles is left alone during imports, and at work again afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from lottery import api
from lottery.collector import collector_paused, resume_collector
from lottery.distributed.place import Place
from lottery.runner import prepare, ranks
from lottery.signals import Stop
from lottery.store.store import Store


class Cycle:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Give back to the collector what a test has kept from it."""
    yield
    gc.unfreeze()
    gc.collect()


def test_nothing_is_collected_until_the_pause_is_ended() -> None:
    with collector_paused():
        paused = gc.isenabled()
        resume_collector()
        resumed = gc.isenabled()
    assert (paused, resumed) == (False, True)


def test_what_was_made_in_the_pause_stays_and_what_is_made_after_it_does_not() -> None:
    with collector_paused():
        before = weakref.ref(Cycle())
        resume_collector()
        after = weakref.ref(Cycle())
        gc.collect()
        assert before() is not None
        assert after() is None


def test_a_pause_that_ends_in_an_error_is_over() -> None:
    with pytest.raises(ZeroDivisionError), collector_paused():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_what_was_made_since_is_not_kept_where_a_pause_is_ended_again() -> None:
    with collector_paused():
        resume_collector()
        after = weakref.ref(Cycle())
        resume_collector()
        gc.collect()
        assert after() is None


def test_without_a_pause_nothing_is_kept() -> None:
    made = weakref.ref(Cycle())
    resume_collector()
    gc.collect()
    assert made() is None


def test_ranks_that_take_part_in_a_run_collect_while_they_train(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = list[bool]()
    monkeypatch.setattr(ranks, "opened", lambda place, device: nullcontext())
    monkeypatch.setattr(prepare, "follower", lambda *about: None)
    monkeypatch.setattr(ranks, "follow", lambda context: collecting.append(gc.isenabled()))
    request: Any = SimpleNamespace(device="cpu")
    with collector_paused():
        api._followed([request], Place(1, 2, 1, 2, "nowhere", True), Stop(), Store("nowhere"), swept=False)
    assert collecting == [True]
