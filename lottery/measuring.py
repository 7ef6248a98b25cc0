"""Kept weights measured again, as at the end of a training, but by torch's own operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from lottery.build import evaluating
from lottery.device import prepared
from lottery.evaluation import Classes, Squares
from lottery.layout import load
from lottery.objective import autocast

if TYPE_CHECKING:
    from lottery.bench import Bench

PARTS: tuple[Literal["validation", "test"], ...] = ("validation", "test")


@torch.no_grad()
def measured(bench: Bench, seed: int, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Return what a network of the bench's model with these weights, pruned ones 0, gives on validation and test split.

    The names are those of a finished training: test_loss, test_accuracy (test_r2 for regression), the recipe's metrics,
    and the same of the validation split where there is one. Which engine trained the weights makes no difference beyond
    rounding."""
    recipe, data, device = bench.plan.recipe, bench.data(seed), bench.machine.device
    model = bench.blank()
    load(model, weights)
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    found = dict[str, float]()
    with prepared(bench.machine, recipe.train.precision), evaluating(model):
        for part in PARTS if data.validation_size else PARTS[1:]:
            tally = Squares(device) if data.regression else Classes(device, data.classes, recipe.metrics)
            for x, y in data.evaluation(part):
                with autocast(recipe.train.precision, x.device):
                    outputs: Tensor = model(x)
                tally.add(outputs.float(), y)
            found |= {f"{part}_{name}": value for name, value in tally.result().items()}
    return found
