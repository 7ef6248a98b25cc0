"""The choice of the engine that computes a training's steps.

There are torch with one matrix library or another, kernels that skip pruned weights or background, and CUDA graphs.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from lottery.device import Machine
from lottery.engines import cuda_graph
from lottery.engines.choices import Candidate, Choices, not_compiled
from lottery.engines.support import no_background, no_other_library, unsupported
from lottery.errors import MachineError, UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.engine import DenseEngine, Engine, OneDnnEngine
from lottery.training.objective import Batch, Objective

Wanted = Literal["auto", "dense", "onednn", "sparse", "background", "graph"]
Make = Callable[..., Engine]  # of a candidate, an objective, an optimizer and a number of threads
LEAST_STEPS = 1000  # left to a run, for a choice by measurement to be worth its time
TIMED_STEPS = 6  # of each engine
WORTH_IT = 1.1  # times as fast, for another matrix library: sums have another order for it
SPARSE_ENOUGH = 0.5  # density, where nothing may be decided by the clock


def engine_for(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    mask: Mask | None,
    wanted: Wanted,
    machine: Machine,
    batches: Callable[[], Iterable[Batch]],
    *,
    steps: int,
    batch_size: int = 0,
    choices: Choices | None = None,
    background: Tensor | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Engine:
    """Return the engine that computes the steps of a training; where its arithmetic is compiled, it is ready.

    A graph is taken only where it is asked for, and not for a mask that changes: it is recorded with the step. The
    sparse engine trains no dense network. `auto` takes the engine that is the fastest in a few steps, on copies, where
    training or run have steps enough; with `deterministic`, where the training has, the sparse engine at densities of
    0.5 or less, and the dense engine else.

    Args:
        objective: Network and loss.
        optimizer: The optimizer that steps over the network's parameters.
        mask: Mask of the training; None where it changes on the way.
        wanted: Engine that the recipe asks for.
        machine: Device, threads, and whether equal jobs give equal bytes.
        batches: Yields training batches to time the engines on.
        steps: Number of steps of the training.
        batch_size: Examples in a batch, which trainings that take the same engine have in common.
        choices: What was taken so far.
        background: The inputs of a black image; None where examples are no images.
        stopped: True when the run has been told to stop.

    Raises:
        UsageError: The engine asked for by name cannot train this; see `refuse`.
        MachineError: The engine asked for by name cannot be compiled here; `auto` takes the dense one with a warning.
        Stopped: The run is told to stop while something is compiled.
    """
    dense = DenseEngine(objective, optimizer)
    if wanted == "dense" or mask is None:
        return dense
    refuse(objective, optimizer, wanted, background)
    if wanted == "graph":
        return cuda_graph.GraphEngine(objective, optimizer, cuda_graph.CudaGraphs(machine.device))
    if wanted == "sparse" and mask.density == 1:
        return dense
    make = partial(_made, mask=mask, background=background, stopped=stopped)
    if wanted == "auto":
        try:
            about = (objective, optimizer, mask, machine, batches, steps, batch_size, choices or Choices())
            chosen, threads = _chosen(*about, background, make)
            engine = dense if chosen is None else make(chosen, objective, optimizer, threads)
            engine.threads = threads
            return engine
        except MachineError as error:
            warnings.warn(f"{error}; dense steps in its place", stacklevel=2)
            return dense
    return make(wanted, objective, optimizer, machine.threads)


def refuse(
    objective: Objective, optimizer: torch.optim.Optimizer, wanted: Wanted, background: Tensor | None = None
) -> None:
    """Refuse an engine that cannot train this network with this optimizer on examples of this kind.

    Raises:
        UsageError: It cannot; the message says why.
    """
    if wanted in ("auto", "dense"):
        return
    judges = {"graph": cuda_graph.unsupported, "onednn": no_other_library}
    why = judges.get(wanted, unsupported)(objective, optimizer)
    if wanted == "background" and why is None:
        why = no_background(objective, background)
    if why is not None:
        raise UsageError(f"train.engine: {wanted} {why}; write auto, which takes another engine here")


def _chosen(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    mask: Mask,
    machine: Machine,
    batches: Callable[[], Iterable[Batch]],
    steps: int,
    batch_size: int,
    choices: Choices,
    background: Tensor | None,
    make: Make,
) -> tuple[Candidate | None, int]:
    """Return the fastest engine, None where it is the dense one, and its number of threads; torch then has it, too."""
    if machine.deterministic:  # by the training alone: in other company it must come out the same
        able = steps >= LEAST_STEPS and unsupported(objective, optimizer) is None
        return ("sparse" if able and mask.density <= SPARSE_ENOUGH else None), machine.threads
    if max(steps, choices.steps or 0) < LEAST_STEPS:
        return None, machine.threads
    able = unsupported(objective, optimizer) is None
    names: list[Candidate] = ["sparse"] if able and mask.density < 1 else []
    names += ["background"] if able and no_background(objective, background) is None else []
    names += ["onednn"] if no_other_library(objective, optimizer) is None else []
    ready, threads = choices.ready(names, steps, machine.threads)
    if threads < machine.threads:
        torch.set_num_threads(threads)  # until `lottery.device.prepared` puts its number back
    shapes = [list(parameter.shape) for parameter in objective.parameters]
    kind = {"shapes": shapes, "optimizer": type(optimizer).__qualname__, "batch_size": batch_size, "threads": threads}
    measure = partial(_fastest, objective, optimizer, mask, batches, partial(make, threads=threads))
    return choices.fastest(kind, mask.density, [None, *ready], measure), threads


def _fastest(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    mask: Mask,
    batches: Callable[[], Iterable[Batch]],
    make: Make,
    names: Sequence[Candidate | None],
) -> Candidate | None:
    """Return the engine whose steps take the least time, on copies; None where it is the dense one."""
    copies = [copy.deepcopy((objective, optimizer)) for _ in names]
    with ExitStack() as stack:
        engines: dict[Candidate | None, Engine] = {}
        for name, (copied, its_optimizer) in zip(names, copies, strict=True):
            if name is None:
                stack.enter_context(masked(copied.model, mask, its_optimizer))
                engines[name] = DenseEngine(copied, its_optimizer)
            else:
                engines[name] = make(name, copied, its_optimizer)
        # Torch's first step of an optimizer imports its compiler, for a second: no such step is needed where a whole
        # step of another engine takes less than torch's gradient.
        parts = {name: e.gradient if isinstance(e, DenseEngine) else e.step for name, e in engines.items()}
        found = _least(batches, parts)
        if not isinstance(engines[found], DenseEngine):
            return found
        return _least(batches, {name: engine.step for name, engine in engines.items()})


def _least(
    batches: Callable[[], Iterable[Batch]], steps: Mapping[Candidate | None, Callable[[Tensor, Tensor], object]]
) -> Candidate | None:
    """Return the name of the step that takes the least time."""
    seconds: dict[Candidate | None, float] = dict.fromkeys(steps, math.inf)
    for x, y in islice(batches(), TIMED_STEPS):
        for name, step in steps.items():
            began = time.perf_counter()
            step(x, y)
            taken = (time.perf_counter() - began) * (WORTH_IT if name == "onednn" else 1)
            seconds[name] = min(seconds[name], taken)
    return min(seconds, key=lambda name: seconds[name])


def _made(
    name: Candidate,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    threads: int,
    mask: Mask,
    background: Tensor | None,
    stopped: Callable[[], bool],
) -> Engine:
    if name == "onednn":
        return OneDnnEngine(objective, optimizer)
    try:
        from lottery.engines.compiled.ahead import compile_apart, make_ready
        from lottery.engines.compiled.background import BackgroundEngine
        from lottery.engines.compiled.base import stoppable
        from lottery.engines.compiled.sparse import SparseEngine
    except (ImportError, RuntimeError, OSError) as error:  # or it may keep nothing that it compiled
        raise not_compiled(error) from error
    compile_apart(name, min(threads, 2), stopped)
    with stoppable(stopped):
        make_ready(name, min(threads, 2))
    if name == "sparse":
        return SparseEngine(objective, optimizer, mask, threads)
    assert background is not None
    return BackgroundEngine(objective, optimizer, mask, threads, background)
