"""Trainings and whole runs on ranks give what one process gives: two processes run all of a list at once."""

from __future__ import annotations

import pytest

from tests.support import rank_runs, rank_trainings
from tests.support.ranks import failures


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The traceback of each scenario that failed, by its name."""
    return failures(rank_trainings.__name__, rank_trainings.SCENARIOS, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def failed_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The traceback of each scenario of whole runs that failed, by its name."""
    return failures(rank_runs.__name__, rank_runs.SCENARIOS, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("scenario", rank_trainings.SCENARIOS)
def test_on_two_ranks(failed: dict[str, str], scenario: str) -> None:
    assert failed.get(scenario) is None


@pytest.mark.slow
@pytest.mark.parametrize("scenario", rank_runs.SCENARIOS)
def test_of_whole_runs_on_two_ranks(failed_runs: dict[str, str], scenario: str) -> None:
    assert failed_runs.get(scenario) is None
