"""Two ranks compute what one process computes of the whole: normalizations, reductions, means."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import rank_scenarios
from tests.support.ranks import failures


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The traceback of each scenario that failed, by its name; two processes run them all."""
    return failures(rank_scenarios.__name__, rank_scenarios.SCENARIOS, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("scenario", rank_scenarios.SCENARIOS)
def test_on_two_ranks(failed: dict[str, str], scenario: str) -> None:
    assert failed.get(scenario) is None


@pytest.mark.slow
def test_on_two_ranks_more_slowly(tmp_path: Path) -> None:
    assert failures(rank_scenarios.__name__, rank_scenarios.SLOW, tmp_path) == {}
