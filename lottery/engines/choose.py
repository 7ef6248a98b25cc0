"""The choice of the engine that computes a training's steps.

There are torch with one matrix library or another, kernels that skip pruned weights or background, and CUDA graphs.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from lottery.device import Machine
from lottery.engines import cuda_graph
from lottery.engines.support import no_background, no_other_library, unsupported
from lottery.errors import MachineError, UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.training.engine import DenseEngine, Engine, OneDnnEngine
from lottery.training.objective import Batch, Objective

if TYPE_CHECKING:
    from lottery.engines.compiled.ahead import Ahead

Wanted = Literal["auto", "dense", "onednn", "sparse", "background", "graph"]
Candidate = Literal["onednn", "sparse", "background"]
Make = Callable[..., Engine]  # of a candidate, an objective, an optimizer and a number of threads
LEAST_STEPS = 1000  # left to a run, for a choice by measurement to be worth its time
COMPILED_FOR = 20_000  # steps of one training for which it waits until what it needs is compiled
TIMED_STEPS = 6  # of each engine
WORTH_IT = 1.1  # times as fast, for another matrix library: sums have another order for it
SPARSE_ENOUGH = 0.5  # density, where nothing may be decided by the clock
# None is the dense engine; what each step costs falls the more with the density the later it stands here
BY_DENSITY: tuple[Candidate | None, ...] = (None, "onednn", "background", "sparse")


@dataclass(frozen=True)
class Measured:
    """The engine that was the fastest of some at a density."""

    density: float
    fastest: Candidate | None
    among: frozenset[Candidate | None]

    def rules_out(self, name: Candidate | None, density: float) -> bool:
        """Return True if an engine that was slower then is slower at this density, too.

        It is at a lower one if its cost falls less with the density than that of the fastest, at a higher one if its
        cost falls more.
        """
        later = BY_DENSITY.index(name) - BY_DENSITY.index(self.fastest)
        slower_here = (later < 0 and density <= self.density) or (later > 0 and density >= self.density)
        return name in self.among and slower_here


class Choices:
    """The engines that `auto` has found to be the fastest in one run, for trainings of one kind at some densities.

    Attributes:
        steps: Number of steps that the run has to train in this process; None where nobody has counted them yet.
    """

    def __init__(self, steps: int | None = None):
        self.steps = steps
        self._measured: dict[Hashable, list[Measured]] = {}
        self._ahead: Ahead | None = None

    def fastest(
        self,
        kind: Hashable,
        density: float,
        names: Sequence[Candidate | None],
        measure: Callable[[Sequence[Candidate | None]], Candidate | None],
    ) -> Candidate | None:
        """Return the engine to take of `names`, and measure only those that are not known to be slower than another.

        About the same density is measured once.
        """
        before = self._measured.setdefault(kind, [])
        left = [name for name in names if not any(each.rules_out(name, density) for each in before)]
        if len(left) < 2:
            return (left or names)[0]
        for each in before:
            if _half_octave(each.density) == _half_octave(density) and each.among >= set(left):
                return each.fastest
        found = measure(left)
        before.append(Measured(density, found, frozenset(left)))
        return found

    def ready(self, names: Sequence[Candidate], steps: int, threads: int) -> tuple[list[Candidate], int]:
        """Return the engines that need not be waited for, and the number of threads that a training has.

        Their kernels are kept, or the training is long enough to wait for them. Where they are not, they are compiled
        beside the trainings from now on, with one of their threads: with all of them busy it would take as long as the
        run.

        Raises:
            MachineError: They cannot be compiled here.
        """
        if steps >= COMPILED_FOR or all(name == "onednn" for name in names):
            return list(names), threads
        try:
            from lottery.engines.compiled import ahead
        except (ImportError, RuntimeError, OSError) as error:
            raise _not_compiled(error) from error

        def is_kept(name: Candidate, threads: int) -> bool:
            return name == "onednn" or ahead.is_kept(name, threads)

        self._ahead = self._ahead or ahead.Ahead()
        if not all(is_kept(name, threads) for name in names):
            self._ahead.start(threads)
        if self._ahead.compiling and threads > 1:
            threads -= 1
        return [name for name in names if is_kept(name, threads)], threads


def engine_for(
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    mask: Mask | None,
    wanted: Wanted,
    machine: Machine,
    batches: Callable[[], Iterable[Batch]],
    *,
    steps: int,
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
        choices: What the run has taken so far.
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
            about = (objective, optimizer, mask, machine, batches, steps, choices or Choices(), background, make)
            chosen, threads = _chosen(*about)
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
    kind = tuple(parameter.shape for parameter in objective.parameters), type(optimizer), threads
    measure = partial(_fastest, objective, optimizer, mask, batches, partial(make, threads=threads))
    return choices.fastest(kind, mask.density, [None, *ready], measure), threads


def _half_octave(density: float) -> float:
    """Return the same number for about the same density, another one for that of the dense network."""
    return -1 if density == 1 else round(-2 * math.log2(density)) if density else math.inf


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
        raise _not_compiled(error) from error
    compile_apart(name, min(threads, 2), stopped)
    with stoppable(stopped):
        make_ready(name, min(threads, 2))
    if name == "sparse":
        return SparseEngine(objective, optimizer, mask, threads)
    assert background is not None
    return BackgroundEngine(objective, optimizer, mask, threads, background)


def _not_compiled(error: Exception) -> MachineError:
    return MachineError(
        f"train.engine: numba cannot work here: {error}; name a folder it may write to as NUMBA_CACHE_DIR"
    )
