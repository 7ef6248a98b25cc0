"""Numbers of measurements as their files have them: JSON has no words for those that are not finite."""

from __future__ import annotations

import math
from typing import Any


def written(value: Any) -> Any:
    """Return a value as a file has it: numbers that are not finite are the words `nan`, `inf` and `-inf`."""
    return value if isinstance(value, (str, int)) or math.isfinite(value) else str(float(value))


def read_value(value: Any) -> Any:
    """Return a value of a file as it was measured: the inverse of `written`."""
    return float(value) if value in ("nan", "inf", "-inf") else value
