"""Default places, where the user's folder is not known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lottery import paths
from lottery.errors import UsageError


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without a line in the list of users, as in many containers."""
    for name in ("HOME", "LOTTERY_CACHE", "LOTTERY_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_is_told_what_to_set() -> None:
    with pytest.raises(UsageError, match=r"no home folder is known.*2147483641.*set HOME, or LOTTERY_CACHE$"):
        paths.cache_root()
    with pytest.raises(UsageError, match=r"LOTTERY_CONFIG$"):
        paths.config_root()


@pytest.mark.usefixtures("homeless")
def test_what_is_said_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path))
    monkeypatch.setenv("LOTTERY_CONFIG", str(tmp_path / "own"))
    assert (paths.cache_root(), paths.config_root()) == (tmp_path, tmp_path / "own")
