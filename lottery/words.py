"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Return `1 seed`, `5 seeds`, `1,500 seeds`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
