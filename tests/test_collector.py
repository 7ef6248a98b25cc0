"""The collector of reference cycles is left alone during imports, and at work again afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from lottery.collector import collector_paused


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
    with collector_paused() as resume:
        paused = gc.isenabled()
        resume()
        resumed = gc.isenabled()
    assert (paused, resumed) == (False, True)


def test_what_was_made_in_the_pause_stays_and_what_is_made_after_it_does_not() -> None:
    with collector_paused() as resume:
        before = weakref.ref(Cycle())
        resume()
        after = weakref.ref(Cycle())
        gc.collect()
        assert before() is not None
        assert after() is None


def test_a_pause_that_ends_in_an_error_is_over() -> None:
    with pytest.raises(ZeroDivisionError), collector_paused():
        raise ZeroDivisionError
    assert gc.isenabled()
