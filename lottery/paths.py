"""Default places of data sets, of the store, of the cache and of a user's settings."""

from __future__ import annotations

import os
from pathlib import Path

from lottery.errors import UsageError


def data_root(given: str | Path | None = None) -> Path:
    """Return the folder of data sets: as given, else $LOTTERY_DATA, else `data`."""
    return Path(given or os.environ.get("LOTTERY_DATA") or "data")


def store_root(given: str | Path | None = None) -> str:
    """Return the place of finished jobs, a folder or a URL: as given, else $LOTTERY_STORE, else `runs`."""
    return str(given or os.environ.get("LOTTERY_STORE") or "runs")


def cache_root() -> Path:
    """Return the folder of what can be made anew at any time: $LOTTERY_CACHE, else `~/.cache/lottery`."""
    return Path(os.environ.get("LOTTERY_CACHE") or _home("LOTTERY_CACHE") / ".cache" / "lottery").absolute()


def config_root() -> Path:
    """Return the folder of a user's own settings: $LOTTERY_CONFIG, else `lottery` in $XDG_CONFIG_HOME or ~/.config."""
    if given := os.environ.get("LOTTERY_CONFIG"):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CONFIG_HOME") or _home("LOTTERY_CONFIG") / ".config").absolute() / "lottery"


def _home(instead: str) -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise UsageError(
            f"no home folder is known, HOME is not set and user {os.getuid()} has none; set HOME, or {instead}"
        ) from error
