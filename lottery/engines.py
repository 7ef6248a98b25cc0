"""Which engine computes a training's steps: torch on all weights, kernels on those that survive, or a CUDA graph."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Literal

import torch
from torch import nn

from lottery import graphs
from lottery.device import Machine
from lottery.errors import MachineError, UsageError
from lottery.mask import Mask, masked
from lottery.models._perceptron import Perceptron
from lottery.objective import Batch, Objective
from lottery.step import DenseEngine, Engine

Rule = Literal["sgd", "momentum", "nesterov", "adam"]
Wanted = Literal["auto", "dense", "sparse", "graph"]
LEAST_STEPS = 1000  # of a training, for a choice by measurement to be worth its time
TIMED_STEPS = 6  # of each engine
SPARSE_ENOUGH = 0.3  # density, where nothing may be decided by the clock


def engine_for(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    mask: Mask | None,
    wanted: Wanted,
    machine: Machine,
    batches: Callable[[], Iterable[Batch]],
    *,
    steps: int,
) -> Engine:
    """What computes the `steps` of a training. `mask` is None where it changes on the way.

    A graph is taken only where it is asked for, and not for a mask that changes: it is recorded with the step. Else a
    dense network trains with the dense engine, and `auto` takes the sparse one for a pruned network where a few steps
    on `batches`, of copies, show that it is faster; with `deterministic`, where a density of 0.3 or less lets expect
    it.
    Where `wanted` is sparse or graph, raises UsageError as `refuse` does. Where sparse is wanted and nothing can be
    compiled here, raises MachineError; `auto` takes the dense engine then, with a warning."""
    dense = DenseEngine(objective, optimizer)
    if wanted == "dense":
        return dense
    if wanted == "graph":
        refuse(objective, optimizer, wanted)
        if mask is None:
            return dense
        return graphs.GraphEngine(objective, optimizer, graphs.CudaGraphs(machine.device))
    if mask is not None and mask.density == 1:
        return dense
    if wanted == "sparse":
        refuse(objective, optimizer, wanted)
    if mask is None or unsupported(objective, optimizer) is not None:
        return dense
    if wanted == "auto":
        if steps < LEAST_STEPS:
            return dense
        if machine.deterministic and mask.density > SPARSE_ENOUGH:
            return dense
        try:
            if not machine.deterministic and not _faster(objective, optimizer, mask, machine, batches):
                return dense
            return _sparse(objective, optimizer, mask, machine)
        except MachineError as error:
            warnings.warn(f"{error}; dense steps in its place", stacklevel=2)
            return dense
    return _sparse(objective, optimizer, mask, machine)


def refuse(objective: Objective, optimizer: torch.optim.Optimizer, wanted: Literal["sparse", "graph"]) -> None:
    """Raises UsageError where the engine cannot train this network with this optimizer."""
    why = (graphs.unsupported if wanted == "graph" else unsupported)(objective, optimizer)
    if why is not None:
        raise UsageError(f"train.engine: {wanted} {why}; write auto, which takes another engine here")


def _sparse(objective: Objective, optimizer: torch.optim.Optimizer, mask: Mask, machine: Machine) -> Engine:
    try:
        from lottery.sparse import SparseEngine
    except (ImportError, RuntimeError) as error:  # RuntimeError: numba has no folder to keep what it compiled in
        raise MachineError(
            f"train.engine: numba cannot work here: {error}; name a folder it may write to as NUMBA_CACHE_DIR"
        ) from error
    return SparseEngine(objective, optimizer, mask, machine.threads)


def _faster(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    mask: Mask,
    machine: Machine,
    batches: Callable[[], Iterable[Batch]],
) -> bool:
    """Whether the shortest of some steps of the sparse engine is shorter than that of the dense one, in turns."""
    (one, its_optimizer), (other, others_optimizer) = (copy.deepcopy((objective, optimizer)) for _ in range(2))
    with masked(one.model, mask, its_optimizer):
        engines = DenseEngine(one, its_optimizer), _sparse(other, others_optimizer, mask, machine)
        times: tuple[list[float], list[float]] = ([], [])
        for x, y in islice(batches(), TIMED_STEPS):
            for engine, seconds in zip(engines, times, strict=True):
                began = time.perf_counter()
                engine.step(x, y)
                seconds.append(time.perf_counter() - began)
    return min(times[1]) < min(times[0])


def unsupported(objective: Objective, optimizer: torch.optim.Optimizer) -> str | None:
    """Why the sparse engine cannot train this network with this optimizer, in words; None where it can."""
    model, loss = objective.model, objective.loss
    if not isinstance(model, Perceptron):
        return "trains fully connected networks only"
    if any(not _plain(after) for name, after in model.named_children() if name.startswith("after")):
        return "trains networks of rectifiers without normalization and dropout only"
    if any(type(layer) is not nn.Linear for layer in layers(model).values()):
        return "trains plain layers only"
    if not all(p.device.type == "cpu" and p.dtype == torch.float32 and p.requires_grad for p in model.parameters()):
        return "trains float32 weights on a CPU only"
    if type(loss) is not nn.CrossEntropyLoss or loss.weight is not None or loss.reduction != "mean":
        return "knows no loss but cross-entropy"
    if objective.clip is not None or objective.accumulate > 1 or objective.precision != "fp32":
        return "knows no train.clip, no train.accumulate and no precision but fp32"
    if rule(optimizer) is None:
        return "knows the optimizers sgd, momentum, nesterov, adam and adamw only"
    return None


def layers(model: Perceptron) -> dict[str, nn.Linear]:
    """The linear layers by name, in the order that an example passes them."""
    names = [*(f"fc{i}" for i in range(1, model.depth + 1)), "output"]
    return {name: getattr(model, name) for name in names}


def rule(optimizer: torch.optim.Optimizer) -> Rule | None:
    """What the compiled kernels call an optimizer; None for one that they do not have."""
    kind, groups = type(optimizer), optimizer.param_groups
    if len(groups) != 1 or groups[0].get("maximize") or groups[0].get("dampening") or groups[0].get("amsgrad"):
        return None
    if kind is torch.optim.SGD:
        return "nesterov" if groups[0]["nesterov"] else "momentum" if groups[0]["momentum"] else "sgd"
    return "adam" if kind in (torch.optim.Adam, torch.optim.AdamW) else None


def _plain(after: nn.Module) -> bool:
    """What follows a layer is a rectifier and nothing else."""
    return [type(part) for part in after.children()] == [nn.Identity, nn.ReLU]
