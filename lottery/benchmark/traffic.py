"""Cases of trainings on several ranks: the bytes of gradients that they hand to reductions under a mask."""

from __future__ import annotations

DENSITY, RANKS, BATCH, JOIN_SECONDS = 0.05, 2, 16, 120.0
SHAPES = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32)}
