"""The machine that a run finds: how many processors are its own."""

from __future__ import annotations

import os

import pytest

from lottery.device import cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to processors")
def test_a_process_counts_the_processors_it_is_bound_to_and_no_others() -> None:
    bound = os.sched_getaffinity(0)
    assert cores() <= len(bound)
    try:
        os.sched_setaffinity(0, {min(bound)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, bound)


def test_the_environment_can_lower_the_number_of_processors_and_never_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cores()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert cores() == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(here + 7))
    assert cores() == here
