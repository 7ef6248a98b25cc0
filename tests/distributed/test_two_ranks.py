"""Two ranks compute what one process computes of the whole: normalizations, reductions, trainings, runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import rank_runs, rank_scenarios, rank_trainings
from tests.support.ranks import failures, named

# two processes run them all, which import torch once; the last one of trainings leaves a group of no use
FAST = [
    *named(rank_scenarios, rank_scenarios.SCENARIOS),
    *named(rank_trainings, rank_trainings.SCENARIOS),
]


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The traceback of each scenario that failed, by its name."""
    return failures(FAST, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("scenario", FAST)
def test_on_two_ranks(failed: dict[str, str], scenario: str) -> None:
    assert failed.get(scenario) is None


@pytest.mark.slow
def test_on_two_ranks_more_slowly(tmp_path: Path) -> None:
    assert failures(named(rank_scenarios, rank_scenarios.SLOW), tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("scenario", named(rank_runs, rank_runs.SCENARIOS))
def test_of_whole_runs_on_two_ranks(tmp_path: Path, scenario: str) -> None:
    assert failures([scenario], tmp_path) == {}
