"""The demands on a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lottery.errors import BrokenMask
from lottery.network.build import build_model, on_device, prunable
from lottery.network.plain_weights import changed_weights
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.registry import Entry
from lottery.testing.examples import BATCH, Examples, copied, equal
from lottery.values import Component

STEPS = 3
CLOSE = 1e-4  # between outputs of an example alone and in a batch, relative to the largest


def problems(entry: Entry[Any], arguments: Mapping[str, Any], examples: Examples) -> Iterator[str]:
    """Yield what is wrong with a model."""
    component = Component(entry.name, dict(arguments))

    def build() -> nn.Module:
        return build_model(component, examples.shape, examples.classes, init=Component("torch"), seed=0)

    model, (x, y) = build(), examples.all()
    if not equal(model.state_dict(), build().state_dict()):
        yield "two networks of one seed differ; draw with torch alone, and make nothing of the time or of other state"
    weights = prunable(model)
    if not weights:
        yield "has no weight that can be pruned"
        return
    for name, layer in changed_weights(model):
        yield f"{name} ({type(layer).__name__}) changes its weight before it uses it: a pruned weight would not be zero"
    outputs = model.train()(x[:BATCH])
    wanted = (BATCH, examples.classes)
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != wanted:
        given = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        yield f"gives {given} for {BATCH} examples; it has to give a tensor of shape {wanted}"
        return
    nn.functional.cross_entropy(outputs, y[:BATCH]).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and (parameter.grad is None or not bool(torch.isfinite(parameter.grad).all())):
            yield f"{name} gets no finite gradient; leave it out, or make it a buffer"
    yield from _evaluated(model.eval(), x)
    yield from _held(model, x, y)
    if [*on_device(model, "meta").state_dict()] != [*model.state_dict()]:
        yield "a copy of it has other names; keep parameters in modules, and nothing that deepcopy cannot copy"


@torch.no_grad()
def _evaluated(model: nn.Module, x: Tensor) -> Iterator[str]:
    before = copied(model.state_dict())
    whole, again, alone = model(x), model(x), model(x[:1])
    if not torch.equal(whole, again):
        yield "two passes of the same examples in evaluation mode differ; switch off what draws where not self.training"
    if not torch.allclose(whole[:1], alone, rtol=CLOSE, atol=CLOSE * float(whole.abs().max())):
        yield "in evaluation mode an example's outputs depend on the others of its batch"
    if not equal(before, model.state_dict()):
        yield "a pass in evaluation mode changes its state"


def _held(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[str]:
    """Yield that half of the weights, pruned, do not stay zero in a few steps."""
    draws = torch.Generator().manual_seed(1)
    alive = {name: torch.rand(value.shape, generator=draws) < 0.5 for name, value in prunable(model).items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    try:
        with masked(model.train(), Mask(alive), optimizer):
            for _ in range(STEPS):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    except BrokenMask as error:
        yield f"its forward pass changes weights: {error}"
