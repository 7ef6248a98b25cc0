"""What trainings in lockstep take beside dense steps of one network after the other: `python benchmarks/lockstep.py`.

LeNet on MNIST; steps of 1, 4 and 8 networks, in turns, on a CPU. Needs MNIST in $LOTTERY_DATA."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import torch
from logbook import keep
from torch import nn

from lottery import registry
from lottery.catalogue.models._perceptron import Perceptron
from lottery.data.loader import Data
from lottery.engines.lockstep import Lockstep, Member
from lottery.paths import data_root
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.training.engine import DenseEngine
from lottery.training.objective import Objective

TEXT = """
name: lockstep
data: {name: mnist, validation: 5000}
model: lenet
init: glorot_normal
train: {optimizer: {name: sgd, lr: 0.1}, batch_size: 128, length: 1ep}
prune: {fraction: 0.2, levels: 0}
rewind: init
seeds: 1
"""
SIZES, STEPS = (1, 4, 8), 160  # networks; steps of all of them together in a turn
OPTIMIZERS = {"sgd": (0.1, 128), "adam": (1.2e-3, 60)}  # learning rate, size of a batch


def member(seed: int, optimizer: str) -> Member:
    """Return a dense LeNet of a seed with its optimizer."""
    torch.manual_seed(seed)
    model = Perceptron((1, 28, 28), 10, (300, 100), "none", "relu", 0.0, False)
    made = registry.optimizers[optimizer].make(model, lr=OPTIMIZERS[optimizer][0])
    assert isinstance(made, torch.optim.Optimizer)
    return Member(Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1), made, Mask({}))


def turns(data: Data, optimizer: str, size: int, count: int) -> tuple[float, list[float]]:
    """Return the milliseconds of a dense step, and for each turn how many times as long it takes as one in lockstep."""
    batches = [list(islice(data.of_seed(seed).epoch(0, OPTIMIZERS[optimizer][1]), 100)) for seed in range(size)]
    together = [[torch.stack(parts) for parts in zip(*each, strict=True)] for each in zip(*batches, strict=True)]
    members = [member(seed, optimizer) for seed in range(size)]
    alone = [DenseEngine(each.objective, each.optimizer) for each in members]
    lockstep = Lockstep([member(seed, optimizer) for seed in range(size)])
    one_by_one, at_once = cycle(zip(*batches, strict=True)), cycle(together)

    def dense() -> None:
        for each in islice(one_by_one, STEPS // size):
            for engine, batch in zip(alone, each, strict=True):
                engine.step(*batch)

    def joint() -> None:
        for x, y in islice(at_once, STEPS // size):
            lockstep.step(x, y)

    seconds(dense), seconds(joint)
    found = [(seconds(dense), seconds(joint)) for _ in range(count)]
    return 1000 * statistics.median(first for first, _ in found) / STEPS, [first / second for first, second in found]


def seconds(call: Callable[[], None]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    """Measure all, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        recipe = parse_recipe(TEXT, "lockstep", ())
        data = prepare(Request(recipe, data_root(None), Path(store), "cpu")).data(0)
    torch.set_num_threads(args.threads)
    rows = list[dict[str, object]]()
    for optimizer in OPTIMIZERS:
        for size in SIZES:
            dense, ratios = turns(data, optimizer, size, args.turns)
            rows.append({"optimizer": optimizer, "networks": size, "dense_ms": dense, "ratios": ratios})
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{optimizer:5} {size} networks: {statistics.median(ratios):.2f} ({spread}), dense step {dense:.2f} ms"
            )
    keep("lockstep", rows)


if __name__ == "__main__":
    main()
