"""Random draws that are the same each time."""

from __future__ import annotations

import torch


def generator(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)
