"""The demands on a criterion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lottery.network.build import effective, prunable
from lottery.pruning.scoring import Context
from lottery.registry import Entry
from lottery.testing.examples import Examples, copied, equal, generator_untouched


def problems(entry: Entry[Any], arguments: Mapping[str, Any], examples: Examples) -> Iterator[str]:
    """Yield what is wrong with a criterion."""
    network = examples.network().eval()
    weights = copied(effective(network))
    given, found = copied(weights), list[str]()

    def score(seed: int) -> dict[str, Tensor]:
        return dict(entry.checked(entry.make(weights, _context(examples, seed), **arguments), Mapping))  # type: ignore[type-abstract]

    with generator_untouched(found.append):
        scores = score(0)
    yield from found
    if scores.keys() != weights.keys():
        lost, more = sorted(weights.keys() - scores.keys()), sorted(scores.keys() - weights.keys())
        yield f"has to score each weight that it is given and no other: missing {lost}, beside them {more}"
        return
    for name, value in scores.items():
        if not isinstance(value, Tensor) or value.shape != weights[name].shape:
            yield f"the scores of {name} have to be a tensor of shape {tuple(weights[name].shape)}"
            return
        if not bool(torch.isfinite(value).all()):
            yield f"the scores of {name} are not all finite"
        if value.requires_grad:
            yield f"the scores of {name} hold a graph; detach them"
    if not equal(weights, given):
        yield "changes the weights that it is given; work on copies"
    if not equal(dict(scores), score(0)):
        yield "scores differ for equal weights and an equal generator; draw from context.generator alone"
    if entry.traits.draws is False and not equal(dict(scores), score(1)):
        yield "scores depend on the generator, which its trait `draws=False` denies"


def _context(examples: Examples, seed: int) -> Context:
    x, y = examples.all()
    network = examples.network(seed=1)
    initial = copied(effective(network))
    alive = {name: torch.ones(value.shape, dtype=torch.bool) for name, value in prunable(network).items()}

    def balanced(count: int) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = [index for number in range(examples.classes) for index in (y == number).nonzero().flatten()[:count]]
        yield x[torch.stack(chosen)], y[torch.stack(chosen)]

    return Context(
        torch.Generator().manual_seed(seed),
        initial=initial,
        network=lambda: examples.network().eval(),
        loss=nn.CrossEntropyLoss(),
        examples=lambda count: iter([(x[:count], y[:count])]),
        balanced=balanced,
        alive=alive,
    )
