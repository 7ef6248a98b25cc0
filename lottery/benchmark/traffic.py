"""Cases of trainings on several ranks: bytes of gradients handed to reductions under a mask."""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

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
SHAPES = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32)}


def traffic_cases() -> list[Case]:
    """Return the cases: the density's part of the dense traffic over what is sent, of two networks.

    Biases and normalizations, which no mask has, are sent whole: 0.15 % of the parameters of LeNet and 0.5 % of those
    of ResNet-20, which are a tenth of what is left of it.
    """
    what = f"bytes sent by {RANKS} ranks at {100 * DENSITY:g} %"
    return [
        Case("lenet-bytes", f"LeNet, {what}", 1 / 1.05, partial(_turn, "lenet"), most=1.05, unit="kB"),
        Case("resnet20-bytes", f"ResNet-20, {what}", 1 / 1.12, partial(_turn, "resnet20"), most=1.05, unit="kB"),
    ]


def _turn(model: str, data: Path) -> Turn:
    """Measure a step of two ranks under a mask: kilobytes by density, and those that were sent."""
    dense, sent = bytes_of_a_step(model, DENSITY)
    return DENSITY * dense / 1e3, sent / 1e3, None


def bytes_of_a_step(model: str, density: float) -> tuple[int, int]:
    """Return the bytes that a rank would send in a dense step, and those that it sends under a mask of this density.

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
        dense, sent = json.loads(read_bytes(Path(folder) / "bytes.json"))
    return dense, sent


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
            counted = json.dumps([objective.hook.bytes_dense, objective.hook.bytes_sent])
            write_atomic(Path(folder) / "bytes.json", counted.encode())
