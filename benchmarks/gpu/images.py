"""A data set of random images, for machines to which no data were brought: a step takes as long on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.registry import datasets

if TYPE_CHECKING:
    from lottery.data.splits import Splits

Count = Annotated[int, Field(ge=1)]


@datasets.register("random_images", source="benchmarks/gpu")
def random_images(root: Path, *, channels: Count = 3, side: Count = 32, examples: Count = 50_000) -> Splits:
    """Square images of random bytes in 10 random classes, and a fifth as many for the test."""
    import torch

    from lottery.data.splits import Splits
    from lottery.seed import generator

    draws, tested = generator(0, "random images"), max(1, examples // 5)
    x = torch.randint(256, (examples + tested, channels, side, side), generator=draws, dtype=torch.uint8)
    y = torch.randint(10, (examples + tested,), generator=draws)
    half, spread = (0.5,) * channels, (0.29,) * channels
    return Splits(x[:examples], y[:examples], x[examples:], y[examples:], classes=10, mean=half, std=spread)
