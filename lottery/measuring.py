"""Kept weights measured again, as at the end of a training, but by torch's own operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lottery.build import evaluating
from lottery.device import prepared
from lottery.evaluation import Classes, Squares
from lottery.layout import load
from lottery.objective import autocast

if TYPE_CHECKING:
    from lottery.bench import Bench


@torch.no_grad()
def measured(bench: Bench, seed: int, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Return what a network of the bench's model with these weights, pruned ones 0, gives on the test split.

    The names are those of a finished training: test_loss, test_accuracy (test_r2 for regression) and the recipe's
    metrics. Which engine trained the weights makes no difference beyond rounding."""
    recipe, data, device = bench.plan.recipe, bench.data(seed), bench.machine.device
    model = bench.blank()
    load(model, weights)
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)
    tally = Squares(device) if data.regression else Classes(device, data.classes, recipe.metrics)
    with prepared(bench.machine, recipe.train.precision), evaluating(model):
        for x, y in data.evaluation("test"):
            with autocast(recipe.train.precision, x.device):
                outputs: Tensor = model(x)
            tally.add(outputs.float(), y)
    return {f"test_{name}": value for name, value in tally.result().items()}
