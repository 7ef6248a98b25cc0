"""Pruning criteria: a score for each weight, high means keep; selection is `mask.keep_top`'s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.registry import criteria

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Context:
    """What a criterion may look at beside the trained weights."""

    generator: torch.Generator  # the seed's stream for this level


@criteria.register("magnitude", source="Han et al. 2015; Frankle & Carbin 2019")
def magnitude(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """Absolute value of the trained weight."""
    return {name: weight.abs() for name, weight in weights.items()}


@criteria.register("random", source="Frankle & Carbin 2019 (control)")
def random(weights: Mapping[str, Tensor], context: Context) -> dict[str, Tensor]:
    """Uniform random scores: which weights survive is chance."""
    import torch

    return {name: torch.rand(weight.shape, generator=context.generator) for name, weight in weights.items()}
