"""Every registered optimizer, ready to run: example arguments, and a small data set with its loss."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.training.objective import Batch, Objective
from lottery.values import Component


def _case(entry: registry.Entry[Any]) -> Any:
    """A case of a parametrized test, skipped where the package it needs is not installed."""
    package = entry.traits.package
    missing = package is not None and importlib.util.find_spec(package) is None
    return pytest.param(entry.name, marks=[pytest.mark.skip(reason=f"needs {package}")] if missing else [])


OPTIMIZERS = [_case(entry) for entry in registry.optimizers]


def arguments(name: str) -> dict[str, Any]:
    """Working keys of an optimizer: a learning rate in the middle of its range, momentum where it needs another one."""
    entry = registry.optimizers[name]
    assert entry.traits.rates is not None
    low, high = entry.traits.rates
    args: dict[str, Any] = {"lr": math.sqrt(low * high)}
    if "optimizer" in entry.schema.model_fields:
        args["optimizer"] = Component("momentum")
    return args


def make(name: str, model: nn.Module, **overrides: Any) -> torch.optim.Optimizer:
    """The optimizer over the model's parameters, its keys those of `arguments` but for `overrides`."""
    optimizer = registry.optimizers[name].make(model, **{**arguments(name), **overrides})
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def refuses(name: str, setting: str) -> bool:
    """The optimizer cannot work with this setting of a training."""
    return setting in registry.optimizers[name].traits.refuses


class Study:
    """A classification of 64 random inputs in batches of 16; one batch of all where the optimizer asks for that."""

    def __init__(self, name: str, shape: tuple[int, ...], classes: int, dtype: torch.dtype = torch.float32):
        draws = torch.Generator().manual_seed(3)
        self.name = name
        self.x = torch.randn(64, *shape, generator=draws, dtype=dtype)
        self.y = torch.randint(classes, (64,), generator=draws)
        self.size = 64 if refuses(name, "batch_size") else 16
        self.steps_per_epoch = 64 // self.size

    def batch(self, step: int) -> Batch:
        """The batch of this step: the same order in each epoch."""
        part = slice(start := step % self.steps_per_epoch * self.size, start + self.size)
        return self.x[part], self.y[part]

    def whole(self) -> Iterator[Batch]:
        """The training set in two parts of unequal size."""
        yield self.x[:40], self.y[:40]
        yield self.x[40:], self.y[40:]

    def objective(self, model: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None = None) -> Objective:
        """The loss of the model; the optimizer is given it where it has use for more than a closure."""
        objective = Objective(
            model,
            nn.CrossEntropyLoss(),
            self.whole,
            steps_per_epoch=self.steps_per_epoch,
            clip=None if refuses(self.name, "clip") else clip,
        )
        if hasattr(optimizer, "objective"):
            optimizer.objective = objective
        return objective


def weights(model: nn.Module) -> Tensor:
    """All parameters in one vector, copied."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])
