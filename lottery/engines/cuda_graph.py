"""Training steps recorded once and replayed: on a CUDA device the whole step is one launch of a CUDA graph.

Small networks leave a GPU idle while the host launches a few hundred kernels for each step. A graph has forward pass,
loss, backward pass, masking hooks, clipping and optimizer in one, on the addresses that they had when it was recorded:
batches are copied into buffers that stay, and the learning rate is a tensor. Source: the notes on CUDA graphs in
PyTorch's documentation ("whole-network capture").
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor

from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective

WARM_UP = 3  # steps before a recording: lazy state is made, algorithms are chosen (the number of PyTorch's notes)

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)  # kernels that read the learning rate on the device
CAPTURABLE = (torch.optim.Adadelta, torch.optim.RMSprop, torch.optim.Adamax, torch.optim.NAdam)
COUNTERS = ("step", "mu_product")  # what torch keeps on the host where a step is not to be captured


class Recorder(Protocol):
    """Records what a function does on the device."""

    def run(self, call: Callable[[], None]) -> None:
        """Call the function where a recording of it will be made."""

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Return a function that repeats all that the call does on the device; nothing is done there now.

        Raises:
            RuntimeError: It cannot be recorded; torch raises this.
        """

    def side_by_side(self, calls: Sequence[Callable[[], None]]) -> None:
        """Call the functions, none of which reads what another writes, so that the device may do them at once."""


@cache
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of a device on which steps are recorded in this process.

    Libraries keep work space for each stream, and never free it: a stream for each training would add up.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@cache
def _branch_of(device: torch.device, number: int) -> torch.cuda.Stream:
    """Return a further stream of a device, for calls side by side."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class CudaGraphs:
    """Records CUDA graphs that share one pool of memory: none leaves anything there that a later one reads."""

    def __init__(self, device: torch.device):
        self._device = device
        # autograd keeps a place to add up gradients for each stream as well: what runs before a recording runs on the
        # stream of the recording
        self._stream = _stream_of(device)
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, call: Callable[[], None]) -> None:
        """Call the function on the stream of the recordings, between what is queued now and what will be."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            call()
        current.wait_stream(self._stream)

    def record(self, call: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of a graph.

        It draws random numbers as the call would: from the seed and offset of torch's generator at the replay.
        """
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(self._device)
        try:
            # thread_local: a thread that pins batches of a streamed data set must not break the recording
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                call()
        except BaseException:
            _release_generator(self._device)
            self._leave_pool()
            raise
        finally:
            torch.cuda.set_stream(current)  # some versions stay on the other stream where a recording fails
        return graph.replay

    def _leave_pool(self) -> None:
        """End the allocator's part of a recording that failed, and take another pool: torch before 2.12 does neither.

        The allocator would take the recording to go on for ever: it would refuse the next one that shares the pool, and
        free nothing that it keeps where memory runs out (pytorch pull request 180395).
        """
        device = _number(self._device)
        with suppress(RuntimeError, AttributeError):  # torch has ended it by itself, or has no such functions any more
            torch._C._cuda_endAllocateToPool(device, self._pool)
            torch._C._cuda_releasePool(device, self._pool)
        self._pool = torch.cuda.graph_pool_handle()

    def side_by_side(self, calls: Sequence[Callable[[], None]]) -> None:
        """Call each function on a stream of its own, between what is queued now and what will be."""
        current = torch.cuda.current_stream(self._device)
        streams = [_branch_of(self._device, number) for number in range(len(calls))]
        for stream, call in zip(streams, calls, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                call()
        for stream in streams:
            current.wait_stream(stream)


def _release_generator(device: torch.device) -> None:
    """Take the device's generator out of a recording that failed: torch before 2.13 leaves it there.

    Each later draw would raise `Offset increment outside graph capture`. The generator gets a copy of its state, with
    the same seed and offset, which takes part in no recording.
    """
    generator = torch.cuda.default_generators[_number(device)]
    generator.graphsafe_set_state(generator.clone_state())


def _number(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


@dataclass
class _Batch:
    """The buffers of batches of one shape, the steps done on them, and the step as it is replayed."""

    x: Tensor
    y: Tensor
    steps: int = 0
    replay: Callable[[], None] | None = None


class GraphEngine:
    """An `Engine` that replays recorded steps.

    They compute what the steps of `DenseEngine` do, but for the learning rate, rounded to float32, and the bias
    corrections of adamax and nadam, which are then computed in float32.

    The first steps on batches of a shape are ordinary steps; then one is recorded. The smaller last batch of an epoch
    has a recording of its own: with few batches in an epoch, launching its kernels one by one would cost as much as all
    replays together. Where recording fails, a warning says why, all recordings are dropped, since the generator that
    they draw from is another one then, and the same operations are launched one by one: the results are the same bits,
    so that a training may be stopped and go on either way. `name` says which of both was done.

    The optimizer must be one that `unsupported` accepts.

    Attributes:
        recorded: Number of recordings.
        replayed: Number of steps that were replayed.
    """

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer, recorder: Recorder):
        self.recorded, self.replayed = 0, 0
        self.threads: int | None = None
        self._dense, self._optimizer, self._recorder = DenseEngine(objective, optimizer), optimizer, recorder
        weight = objective.parameters[0]
        self._loss = torch.zeros((), dtype=weight.dtype, device=weight.device)
        self._rates = [torch.zeros((), device=weight.device) for _ in optimizer.param_groups]
        self._filled = [0.0 for _ in optimizer.param_groups]
        self._batches: dict[tuple[torch.Size, torch.Size], _Batch] = {}
        self._recording = True
        for group in optimizer.param_groups:
            if "capturable" in group:
                group["capturable"] = True
        self.load()

    @property
    def name(self) -> str:
        """The engine that did the steps: `graph`, or `graph, launched` where a step could not be recorded."""
        return "graph" if self._recording else "graph, launched"

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """Do one training step on a batch; see `Engine`."""
        self._fill_rates()
        batch = self._batch(x, y)
        batch.x.copy_(x)
        batch.y.copy_(y)
        if batch.replay is None and self._recording and batch.steps >= WARM_UP:
            self._record(batch)
        if batch.replay is not None:
            batch.replay()
            self.replayed += 1
        elif self._recording:
            self._recorder.run(partial(self._train, batch))
            batch.steps += 1
        else:
            self._train(batch)
        return self._loss

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs of a batch; see `Engine`."""
        return self._dense.outputs(x)

    def load(self) -> None:
        """Forget recordings, which know addresses of the earlier state, and have its counters on the device."""
        self._batches.clear()
        for weight, values in self._optimizer.state.items():
            for name in COUNTERS:
                if name in values:
                    values[name] = values[name].to(weight.device)

    def flush(self) -> None:
        """Do nothing: the weights are where they are."""

    def _fill_rates(self) -> None:
        """Copy the schedule's rates into their tensors, without waiting for the device."""
        for place, (group, tensor) in enumerate(zip(self._optimizer.param_groups, self._rates, strict=True)):
            if group["lr"] != self._filled[place]:
                self._filled[place] = group["lr"]
                tensor.fill_(group["lr"])

    def _batch(self, x: Tensor, y: Tensor) -> _Batch:
        shape = x.shape, y.shape
        if shape not in self._batches:
            self._batches[shape] = _Batch(torch.empty_like(x), torch.empty_like(y))
        return self._batches[shape]

    def _record(self, batch: _Batch) -> None:
        try:
            batch.replay = self._recorder.record(partial(self._train, batch))
            self.recorded += 1
        except RuntimeError as error:
            self._recording = False
            for each in self._batches.values():
                each.replay = None
            reason = str(error.__context__ or error).strip().partition("\n")[0]  # ending a broken recording raises too
            warnings.warn(
                f"train.engine: this training's steps cannot be recorded as a graph ({reason}); "
                "they are launched operation by operation",
                stacklevel=3,
            )

    def _train(self, batch: _Batch) -> None:
        """Do a step on the buffers with the rates in tensors; outside it the groups hold numbers, as checkpoints do."""
        groups = self._optimizer.param_groups
        numbers = [group["lr"] for group in groups]
        for group, tensor in zip(groups, self._rates, strict=True):
            group["lr"] = tensor
        try:
            self._loss.copy_(self._dense.step(batch.x, batch.y))
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number


def unsupported(objective: Objective, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why no graph can be made of this optimizer's steps, in words; None where one can."""
    if not all(p.device.type == "cuda" for p in objective.model.parameters()):
        return "works on a CUDA device only"
    if not capturable(optimizer):
        return (
            "knows the optimizers gd, sgd, momentum, nesterov, adam, adamw, amsgrad, adadelta, rmsprop, adamax and "
            "nadam only: others decide or count on the host"
        )
    return None


def capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Return True if a step does the same operations each time, with all that changes between steps on the device.

    Not radam: its form for graphs computes the rectification in float32, by cancellation, and is off by up to 0.6 % in
    the first steps. Not adagrad, which counts on the host, nor torch's SGD unless fused, which reads the rate there.
    """
    if type(optimizer) in FUSED:
        return all(bool(group["fused"]) for group in optimizer.param_groups)
    return type(optimizer) in CAPTURABLE
