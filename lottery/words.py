"""Numbers, lists and keys in sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHARES = ("accuracy", "top5")  # ends of the names of measures that are shares of the examples
KEY_DIGITS = 12  # enough to tell the jobs of a store apart; `lottery show` takes as many


def counted(number: int, thing: str) -> str:
    """Return `1 seed`, `5 seeds`, `1,500 seeds`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return seconds in words: `45 s`, `3 min 20 s`, `2 h 05 min`, `1 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def in_unit(name: str, value: float) -> str:
    """Return a measure of a network as people read it: `95.83 %` for an accuracy, `0.1234` for a loss."""
    return f"{100 * value:.2f} %" if name.endswith(SHARES) else f"{value:.4f}"


def listed(values: Sequence[str]) -> str:
    """Return words as a list: `a, b and c`."""
    *first, last = values
    return f"{', '.join(first)} and {last}" if first else last


def short_keys(keys: Sequence[str], least: int = 2) -> dict[str, str]:
    """Return of each dotted key as many of its last parts as tell it from the others, such as optimizer.lr.

    They are `least` at least: two where a view may have a column `lr` of its own.
    """
    found = {}
    for key in keys:
        parts = key.split(".")
        tails = (".".join(parts[-count:]) for count in range(least, len(parts) + 1))
        alone = (tail for tail in tails if sum(f".{other}".endswith(f".{tail}") for other in keys) == 1)
        found[key] = next(alone, key)
    return found


def short(key: str) -> str:
    """Return the first digits of a key or of another sha256, as everything that a person reads shows it."""
    return key[:KEY_DIGITS]


def seconds_of(text: str) -> int:
    """Return the seconds of a time such as `90min`, `2h` or `1d12h`.

    Raises:
        ValueError: It is no time.
    """
    found = re.fullmatch(r"(?=.)(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})min)?(?:(\d{1,8})s)?", text)
    each = zip(found.groups("0"), (86400, 3600, 60, 1), strict=True) if found else ()
    if not (seconds := sum(int(number) * unit for number, unit in each)):
        raise ValueError(f"{text!r} is no time; write 90min, 2h or 1d12h")
    return seconds
