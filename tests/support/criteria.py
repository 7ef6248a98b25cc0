"""Networks whose weights are drawn, and what a criterion is given to score them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lottery.network.build import effective
from lottery.pruning.scoring import Context
from lottery.registry import criteria
from tests.support.draws import generator

CROSS_ENTROPY = nn.CrossEntropyLoss()


def draw(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with weights from an own generator, in float64 so that differences can be exact."""
    draws = generator(seed)
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return network.eval()


def context(build: Callable[[], nn.Module], x: Tensor, y: Tensor, parts: int = 2, **more: Any) -> Context:
    def examples(count: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        count = count or len(x)
        yield from zip(x[:count].split(-(-count // parts)), y[:count].split(-(-count // parts)), strict=True)

    def balanced(per_class: int) -> Iterator[tuple[Tensor, Tensor]]:
        return examples(None)  # how they are chosen is the data's

    return Context(generator(2), network=build, loss=CROSS_ENTROPY, examples=examples, balanced=balanced, **more)


def score(name: str, build: Callable[[], nn.Module], given: Context, **args: Any) -> dict[str, Tensor]:
    return dict(criteria[name].make(effective(build()), given, **args))
