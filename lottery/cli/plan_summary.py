"""The first lines of a plan: what it comes to, and what may be claimed of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lottery.cli import terminal
from lottery.words import duration


def tell_summary(told: Mapping[str, Any], needs: str, claims: Sequence[str]) -> None:
    """Print what a plan comes to: its jobs, their time and disk, what they need, and what may be claimed of them.

    Args:
        told: `done`, `missing`, `seconds`, `source`, `need_bytes` and `free_bytes` of the estimate.
        needs: What the missing jobs need, in words.
        claims: What the study will be able to claim, in words.
    """
    print(f"{told['done']} jobs done, {told['missing']} missing")
    if told["missing"]:
        print(f"time: about {duration(told['seconds'])} in one process ({told['source']})")
        free = "" if told["free_bytes"] is None else f" of {told['free_bytes'] / 1e6:,.0f} MB free"
        print(f"disk: about {told['need_bytes'] / 1e6:,.0f} MB{free}")
        terminal.say(needs)
    for sentence in claims:
        terminal.say(sentence, indent=2)
