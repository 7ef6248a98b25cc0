"""Named streams of randomness: every draw comes from (seed, purpose, index), none from a global generator."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def stream(seed: int, purpose: str, index: int = 0) -> int:
    """Return a 63-bit seed for a purpose ("init", "order", "augment", "dropout", "mask", ...) and an index."""
    digest = hashlib.sha256(f"lottery:{seed}:{purpose}:{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: str, index: int = 0) -> torch.Generator:
    """Return a CPU generator for one purpose and index: the same draws on every device and after every restart."""
    import torch

    return torch.Generator().manual_seed(stream(seed, purpose, index))


def noisy(purpose: str, noise: int) -> str:
    """Return the name of a training's stream ("order", "augment", "dropout") under a noise of its own.

    Trainings of one seed that differ in their noise alone share all else that is drawn: initialization, split, masks.
    Noise 0 is the seed's own, whose streams have the plain names. Source: Frankle et al. 2020.
    """
    return f"{purpose} noise {noise}" if noise else purpose


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's process-wide generators: that of the CPU, and on another device those of all devices.

    `torch.manual_seed` would do both, but where no GPU is in use it writes down the stack of calls, to seed one later:
    2 ms a call, and the stacks are kept.
    """
    import torch

    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
