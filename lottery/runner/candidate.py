"""A state that a training may go on from, with what is known of the sessions that led to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lottery.pruning.mask import Mask


@dataclass(frozen=True)
class Past:
    """The seconds that earlier sessions of a job took, and their environments where they were others than this one."""

    seconds: float = 0.0
    environments: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A state that a training may go on from: its tensors and values as `Training.state` has them.

    `mask` is the one it had, where that changes in the course of the training; `files` are those of its checkpoint.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    past: Past
    mask: Mask | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Number of steps that led to it."""
        return int(self.values["step"])
