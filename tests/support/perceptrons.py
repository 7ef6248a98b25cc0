"""Small fully connected networks with optimizers, masks and batches that are the same at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.catalogue.models._perceptron import Perceptron
from lottery.pruning.mask import Mask
from lottery.training.engine import DenseEngine, Engine
from lottery.training.objective import Objective

OPTIMIZERS = {
    "sgd": {"lr": 0.1, "weight_decay": 1e-3},
    "momentum": {"lr": 0.05, "weight_decay": 1e-3},
    "nesterov": {"lr": 0.05, "weight_decay": 1e-3},
    "adam": {"lr": 1e-3, "weight_decay": 1e-3},
    "adamw": {"lr": 1e-3, "weight_decay": 1e-2},
}
INPUTS, CLASSES, BATCH = 50, 7, 33
STUDY = (  # of two optimizers, one of them at a branch, long enough to be stopped in each of its trainings
    "model.widths=[24, 12]",
    "train.optimizer=[{name: adam, lr: 3e-3}, {name: momentum, lr: 0.05}]",
    "train.batch_size=32",
    "train.length=40it",
    "train.evaluate_every=10it",
    "prune={scope: layer, fraction: 0.4, levels: 2}",
    "rewind=15it",
    "branches=[reinit]",
)
Trained = tuple[Perceptron, torch.optim.Optimizer, Objective]


def network(
    optimizer: str, residual: bool, dtype: torch.dtype = torch.float32, seed: int = 0, **objective: Any
) -> Trained:
    """A network that is the same at each call with a seed, its optimizer from the catalogue, and its smoothed loss."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        widths = (60, 60, 60) if residual else (60, 40)
        model = Perceptron((INPUTS,), CLASSES, widths, "none", "relu", 0.0, residual).to(dtype)
    made = registry.optimizers[optimizer].make(model, **OPTIMIZERS[optimizer])
    assert isinstance(made, torch.optim.Optimizer)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    return model, made, Objective(model, loss, lambda: iter(()), steps_per_epoch=1, **objective)


def mask_of(model: nn.Module, density: float = 0.3) -> Mask:
    """A random mask under which one hidden unit has no input and one no output."""
    draws = torch.Generator().manual_seed(3)
    weights = {name: p for name, p in model.named_parameters() if name.endswith("weight")}
    bits = {name: torch.rand(weight.shape, generator=draws) < density for name, weight in weights.items()}
    bits["fc1.weight"][4], bits["output.weight"][:, 9] = False, False
    return Mask(bits)


def batch(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(step)
    size = BATCH if step % 5 else 11  # the last batch of a pass is a smaller one
    x = torch.randn(size, INPUTS, generator=draws, dtype=torch.float64)
    return x.to(dtype), torch.randint(CLASSES, (size,), generator=draws)


def values(trained: Trained) -> list[Tensor]:
    """All parameters and what the optimizer keeps of each."""
    model, optimizer, _ = trained
    kept = [value for p in model.parameters() for _, value in sorted(optimizer.state.get(p, {}).items())]
    return [value.detach().double() for value in (*model.parameters(), *kept)]


def assert_as_close_as_dense_steps(
    engine: Engine, ours: Trained, dense: Trained, exact: Trained, batch: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """Train by an engine, by dense steps and by dense steps in double precision, and hold the first to the other two.

    Losses, outputs, parameters and the optimizer's state may be further from double precision than those of dense steps
    by a factor of four; pruned weights are 0 in all of them.
    """
    plain, reference = DenseEngine(dense[2], dense[1]), DenseEngine(exact[2], exact[1])
    rate = dense[1].param_groups[0]["lr"]
    for step in range(20):
        for _, optimizer, _ in (dense, ours, exact):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / 40)  # as a schedule does
        losses = [each.step(*batch(step)).item() for each in (plain, engine)]
        assert losses == pytest.approx([reference.step(*batch(step, torch.float64)).item()] * 2, abs=2e-6)
    outputs = [each.outputs(batch(99)[0]).double() for each in (plain, engine)]
    right = exact[0](batch(99, torch.float64)[0])
    engine.flush()
    assert (outputs[1] - right).abs().max() <= 4 * (outputs[0] - right).abs().max() + 1e-7
    for here, there, wanted in zip(values(ours), values(dense), values(exact), strict=True):
        assert (here - wanted).abs().max() <= 4 * (there - wanted).abs().max() + 1e-7
        assert torch.equal(here == 0, there == 0) or here.ndim == 1  # pruned is zero, in the state as well
