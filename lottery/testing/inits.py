"""The demands on an initialization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lottery.registry import Entry
from lottery.testing.examples import Examples, copied, equal, generator_untouched


def problems(entry: Entry[Any], arguments: Mapping[str, Any], examples: Examples) -> Iterator[str]:
    """Yield what is wrong with an initialization."""
    found: list[str] = []

    def drawn(network: int, seed: int) -> dict[str, Tensor]:
        model = examples.network(network)
        batch = [examples.all()] if entry.traits.batch else []
        entry.make(model, torch.Generator().manual_seed(seed), *batch, **arguments)
        return copied(model.state_dict())

    with generator_untouched(found.append):
        first = drawn(0, 0)
    yield from found
    for name, value in first.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            yield f"{name} is not finite"
    if not equal(first, drawn(0, 0)):
        yield "two networks of one generator differ; draw from the generator that it is given alone"
