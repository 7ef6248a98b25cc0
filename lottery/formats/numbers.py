"""Numbers as pages and papers have them."""

from __future__ import annotations

import math
from typing import Any

LARGE = 10_000_000  # from here on a number is told by its first digits and the power of ten


def percent(value: float) -> str:
    """Return a fraction in percent, without the sign, which stands in the header."""
    return minus(f"{100 * value:.4g}")


def signed(value: float) -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{100 * value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else minus(text)


def step(value: float) -> str:
    """Return a step, or the mean of several, in whole ones."""
    return f"{value:.0f}"


def probability(value: float, alpha: float) -> str:
    """Return a p-value to three places, or to as many as it takes to tell on which side of the level `alpha` it is."""
    level = round(alpha, 12)
    least = min(0.001, 10.0 ** math.floor(math.log10(level)))
    if value < least:
        return f"< {least:g}"
    for places in range(3, 12):
        text = f"{value:.{places}f}"
        if float(text) and (float(text) - level) * (value - level) > 0:
            return text
    return f"{level:.3g}"  # the level itself, which is enough


def plain(value: Any, separated: bool = True) -> str:
    """Return any other value: counts in full, other numbers to four digits, flags as words.

    With `separated` there is a comma between thousands, from 10,000 on.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < LARGE:
        return minus(f"{value:,}" if separated and abs(value) >= 10_000 else str(value))
    if isinstance(value, (int, float)):
        return minus(_real(value))
    return str(value)


def moment(date: str) -> str:
    """Return a date of ISO 8601 in UTC to the second."""
    return date[:19].replace("T", " ")


def minus(text: str) -> str:
    """Return a number with the minus that is as wide as a plus; the exponent in `e-05` keeps its hyphen."""
    return f"−{text[1:]}" if text.startswith("-") else text


def _real(value: float) -> str:
    if not math.isfinite(value):
        return str(value).replace("inf", "∞")
    if abs(value) >= LARGE:
        return f"{value:.3e}".replace("e+", "e")
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
