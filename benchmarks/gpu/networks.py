"""The networks that are measured, with random batches, and what computes their steps."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.child import HARMLESS
from lottery import registry
from lottery.benchmark import baseline
from lottery.engines.cuda_graph import CudaGraphs, GraphEngine, Recorder
from lottery.training.engine import DenseEngine, Engine
from lottery.training.objective import Batch, Objective

BATCH, BATCHES, CLASSES = 128, 8, 10
RATE = 2**-9  # float32 has it: a rate in a tensor is the same number


@dataclass(frozen=True)
class Kind:
    """A network of the catalogue, and how it is trained.

    Attributes:
        label: Its name in tables.
        model: Its name in the catalogue.
        shape: Shape of an example.
        args: Arguments of the model.
        optimizer: Name of the optimizer.
        small: Arguments of the model in a dry run, in place of some.
    """

    label: str
    model: str
    shape: tuple[int, int, int]
    args: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "momentum"
    small: dict[str, Any] = field(default_factory=dict)


PLAIN = {"norm": "batch", "activation": "relu"}
LENET = Kind(
    "LeNet-300-100",
    "lenet",
    (1, 28, 28),
    {"widths": (300, 100), "norm": "none", "activation": "relu", "dropout": 0.0},
    "sgd",
    {"widths": (12, 8)},
)
LENET_DROPOUT = Kind(
    "LeNet with dropout",
    "lenet",
    (1, 28, 28),
    {"widths": (300, 100), **PLAIN, "dropout": 0.2},
    "adam",
    {"widths": (12, 8)},
)
RESNET = Kind("ResNet-20", "resnet20", (3, 32, 32), PLAIN, small={"width": 2})
DENSENET = Kind("DenseNet", "densenet", (3, 32, 32), PLAIN, small={"depth": 10, "growth": 2})


@dataclass
class Network:
    """A network on its device, to be trained.

    Attributes:
        model: The network.
        optimizer: Its optimizer, of the catalogue.
        objective: Its loss.
        batches: Random batches; `next_batch` hands them out again and again.
        precision: `fp32`, `tf32` or `bf16`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    batches: list[Batch]
    precision: str

    def __post_init__(self) -> None:
        self._turn = cycle(self.batches)

    def next_batch(self) -> Batch:
        """Return the next batch."""
        return next(self._turn)

    def stepping(self, engine: Engine) -> Callable[[], Tensor]:
        """Return a call that trains one step on the next batch."""
        return lambda: engine.step(*self.next_batch())

    def bare(self, model: nn.Module | None = None) -> Callable[[], Tensor]:
        """Return a call of the bare loop's step, with torch's own default optimizer.

        Args:
            model: What computes the outputs in the network's place, such as its compiled form.
        """
        momentum = max(group.get("momentum", 0.0) for group in self.optimizer.param_groups)
        made = torch.optim.SGD(self.model.parameters(), lr=RATE, momentum=momentum)
        step = partial(baseline.step, self.model if model is None else model, made, precision=self.precision)
        return lambda: step(*self.next_batch())


def network(
    kind: Kind,
    device: torch.device,
    *,
    precision: str = "fp32",
    channels_last: bool = True,
    dry: bool = False,
    optimizer: str = "",
    clip: float | None = None,
) -> Network:
    """Return a network of a kind with weights and batches that are the same each time.

    Args:
        kind: Which network.
        device: Where it is trained.
        precision: `train.precision`.
        channels_last: Whether images and weights lie channels last in memory (NHWC), else first (NCHW).
        dry: Whether a small one will do.
        optimizer: Name of another optimizer than the kind's.
        clip: Largest norm of a gradient.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        args = {**kind.args, **kind.small} if dry else kind.args
        model = registry.models[kind.model].make(kind.shape, CLASSES, **args)
        draws = torch.Generator().manual_seed(1)
        size = 8 if dry else BATCH
        x = torch.randn(BATCHES, size, *kind.shape, generator=draws)
        y = torch.randint(CLASSES, (BATCHES, size), generator=draws)
    model = model.to(device, memory_format=layout)
    batches = [(a.to(device, memory_format=layout), b.to(device)) for a, b in zip(x, y, strict=True)]
    made = registry.optimizers[optimizer or kind.optimizer].make(model, lr=RATE)
    objective = Objective(
        model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=BATCHES, precision=precision, clip=clip
    )
    return Network(model, made, objective, batches, precision)


def recorder(device: torch.device) -> Recorder:
    """Return what records steps on the device; on a CPU what stands in for it in the tests."""
    if device.type == "cuda":
        return CudaGraphs(device)
    from tests.support.recorder import Recordings

    return Recordings()


def graph_engine(found: Network, device: torch.device) -> GraphEngine:
    """Return the engine that replays the network's steps."""
    return GraphEngine(found.objective, found.optimizer, recorder(device))


def dense_engine(found: Network, device: torch.device) -> DenseEngine:
    """Return the engine that launches the network's steps operation by operation."""
    return DenseEngine(found.objective, found.optimizer)


ENGINES: dict[str, Callable[[Network, torch.device], Engine]] = {"dense": dense_engine, "graph": graph_engine}


def errors_for_warnings() -> None:
    """Have each warning raise in this process: a step that cannot be recorded is told of by one."""
    warnings.simplefilter("error", UserWarning)
    warnings.filterwarnings("ignore", HARMLESS, UserWarning)
