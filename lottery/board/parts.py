"""Parts of pages, and what is known of the answer of a study."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from lottery.board.results import Piece


@dataclass(frozen=True)
class Part:
    """A piece of a page; its version changes with its content."""

    version: str
    html: str

    @classmethod
    def of(cls, html: str) -> Part:
        """Return the part with this content."""
        return cls(hashlib.sha256(html.encode("utf-8", "surrogatepass")).hexdigest()[:16], html)


@dataclass
class Answer:
    """What is known of the answer of a study.

    Attributes:
        problem: Why there is none.
        pieces: Its sections, in order.
        digest: Tells of which finished jobs these are the answer; empty where it is being made for the first time.
        asked: When a page asked for it last, by the monotonic clock.
        making: True while it is made.
        done: Number of finished jobs that it is the answer of.
    """

    problem: str = ""
    pieces: list[Piece] = field(default_factory=list)
    digest: str = ""
    asked: float = -1e9
    making: bool = False
    done: int = 0
