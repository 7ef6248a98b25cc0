"""A case of `lottery bench`: a thing that is measured against another, in turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Turn = tuple[float, float, int | None]  # what is compared with and ours, in the case's unit, peak bytes of a process


@dataclass(frozen=True)
class Case:
    """A thing that is measured.

    Attributes:
        name: What the command calls it.
        what: The same in words.
        least: The ratio that it is held to on two cores.
        turn: Measures it once on the data in a folder.
        ready: Reads the data.
        most: The ratio that it is held to from above.
        named_only: True if it takes so long that it is measured where it is named, and not among all.
        unit: Unit of what is compared; seconds, unless it is said.
        on_gpu: True if it can be measured on a GPU too.
    """

    name: str
    what: str
    least: float
    turn: Callable[[Path], Turn]
    ready: Callable[[Path], object] = lambda data: None
    most: float = math.inf
    named_only: bool = False
    unit: str = "s"
    on_gpu: bool = False
