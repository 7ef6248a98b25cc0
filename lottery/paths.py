"""Default places of data sets, of the store, of the cache and of a user's settings."""

from __future__ import annotations

import os
from pathlib import Path


def data_root(given: str | Path | None = None) -> Path:
    """Return the folder of data sets: as given, else $LOTTERY_DATA, else `data`."""
    return Path(given or os.environ.get("LOTTERY_DATA") or "data")


def store_root(given: str | Path | None = None) -> str:
    """Return the place of finished jobs, a folder or a URL: as given, else $LOTTERY_STORE, else `runs`."""
    return str(given or os.environ.get("LOTTERY_STORE") or "runs")


def cache_root() -> Path:
    """Return the folder of what can be made anew at any time: $LOTTERY_CACHE, else `~/.cache/lottery`."""
    return Path(os.environ.get("LOTTERY_CACHE") or Path.home() / ".cache" / "lottery").absolute()


def config_root() -> Path:
    """Return the folder of a user's own settings: $LOTTERY_CONFIG, else `lottery` in $XDG_CONFIG_HOME or ~/.config."""
    if given := os.environ.get("LOTTERY_CONFIG"):
        return Path(given).absolute()
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").absolute() / "lottery"
