"""Cases of trainings on several ranks: bytes of gradients handed to reductions under a mask."""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.multiprocessing.spawn import spawn

from lottery.benchmark.case import Case, Turn
from lottery.distributed.group import open_group
from lottery.distributed.launch import QUIET
from lottery.distributed.share import Share
from lottery.errors import MachineError
from lottery.files.read import read_bytes
from lottery.files.write import write_atomic
from lottery.network.build import build_model, prunable
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.masking import masked
from lottery.training.shared import SharedObjective
from lottery.values import Component

DENSITY, RANKS, BATCH, CLASSES, JOIN_SECONDS = 0.05, 2, 16, 10, 120.0
FLOAT32 = 4  # bytes
SHAPES = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32)}


class Traffic(NamedTuple):
    """Bytes of gradients of one rank in a step.

    Attributes:
        dense: Those that the plain reduction is handed.
        alive: Those of all parameters that are not pruned, of which none can be left out.
        sent: Those that were handed to reductions.
    """

    dense: int
    alive: int
    sent: int


def traffic_cases() -> list[Case]:
    """Return the cases: what is sent under a mask against its density's part of the dense traffic, and the least.

    Biases and normalizations, which no mask has, are sent whole: 0.15 % of the parameters of LeNet and 0.6 % of those
    of ResNet-20, 1,578 of 272,474. At a density of 5 % these are a tenth of what is left, and (.05 x 270,896 + 1,578) /
    (.05 x 272,474) = 1.11 is the least that can be sent of ResNet-20.
    """
    what = f"bytes sent by {RANKS} ranks at {100 * DENSITY:g} %"
    names = {"lenet": ("LeNet", 1.05), "resnet20": ("ResNet-20", 1.12)}
    return [
        *(
            Case(f"{model}-bytes", f"{name}, {what}", 1 / most, partial(_turn, model), most=1.05, unit="kB")
            for model, (name, most) in names.items()
        ),
        *(
            Case(
                f"{model}-survivors",
                f"{name}, {what}, of all that is not pruned",
                1 / 1.001,
                partial(_turn_of_the_least, model),
                most=1.001,
                unit="kB",
            )
            for model, (name, _) in names.items()
        ),
    ]


def _turn(model: str, data: Path) -> Turn:
    """Measure a step of two ranks under a mask: kilobytes by density, and those that were sent."""
    traffic = bytes_of_a_step(model, DENSITY)
    return DENSITY * traffic.dense / 1e3, traffic.sent / 1e3, None


def _turn_of_the_least(model: str, data: Path) -> Turn:
    """Measure a step of two ranks under a mask: kilobytes of what is not pruned, and those that were sent."""
    traffic = bytes_of_a_step(model, DENSITY)
    return traffic.alive / 1e3, traffic.sent / 1e3, None


@cache  # a step sends what it sends, whenever it is measured
def bytes_of_a_step(model: str, density: float) -> Traffic:
    """Return the bytes of a step of two ranks under a mask of this density, counted in one.

    Raises:
        MachineError: The ranks do not come to an end.
    """
    os.environ.update(QUIET)
    with tempfile.TemporaryDirectory() as folder:
        ranks = spawn(_rank, (model, density, folder), RANKS, join=False)  # type: ignore[no-untyped-call]
        end = time.monotonic() + JOIN_SECONDS
        while not ranks.join(timeout=max(0.0, end - time.monotonic())):
            if time.monotonic() >= end:
                for process in ranks.processes:
                    process.kill()
                raise MachineError(f"bench: {RANKS} ranks took more than {JOIN_SECONDS:g} s for one step")
        return Traffic(**json.loads(read_bytes(Path(folder) / "bytes.json")))


def _rank(rank: int, model: str, density: float, folder: str) -> None:
    """Take one step as one of the ranks; the first writes down what it sent."""
    torch.set_num_threads(1)
    with open_group(rank, RANKS, rank, torch.device("cpu"), f"file://{folder}/meeting") as group:
        network = build_model(Component(model), SHAPES[model], CLASSES, init=Component("torch"), seed=0)
        scores = {name: weight.detach().abs() for name, weight in prunable(network).items()}
        mask = Mask.dense(scores)
        mask = keep_top(scores, mask, round(density * sum(mask.sizes().values())))
        share = Share(rank, RANKS)
        objective = SharedObjective(
            network, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1, group=group, share=share
        )
        draws = torch.Generator().manual_seed(0)
        own = share.among(BATCH)
        objective.batch = BATCH
        objective.x = torch.randn(BATCH, *SHAPES[model], generator=draws)[own]
        objective.y = torch.randint(CLASSES, (BATCH,), generator=draws)[own]
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        with masked(network, mask, optimizer, objective.hook.restrict):
            optimizer.step(objective.closure)
        if not rank:
            pruned = sum(int((~alive).sum()) for _, alive in mask.items())
            values = sum(parameter.numel() for parameter in network.parameters()) - pruned
            traffic = Traffic(objective.hook.bytes_dense, FLOAT32 * values, objective.hook.bytes_sent)
            write_atomic(Path(folder) / "bytes.json", json.dumps(traffic._asdict()).encode())
