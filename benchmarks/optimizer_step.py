"""The time of a step of each registered optimizer relative to sgd's: `python benchmarks/optimizer_step.py`.

LeNet-300-100 at batch 60 and ResNet-20 at batch 128, on random data of MNIST's and CIFAR-10's shape. Ratios are medians
over turns, in each of which sgd and the other take the same steps. What an optimizer does once in an epoch or more
rarely (the snapshot of svrg: a pass over the data every five) is not in them."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import cycle, islice

import torch
from logbook import keep
from torch import Tensor, nn

from lottery import registry
from lottery.network.build import build_model
from lottery.training.engine import DenseEngine, Engine
from lottery.training.objective import Objective
from lottery.values import Component

CASES = {"lenet": (60, (1, 28, 28), 20), "resnet20": (128, (3, 32, 32), 4)}  # batch, input, steps of a turn
Batches = list[tuple[Tensor, Tensor]]


def ready(name: str, model: str, shape: tuple[int, ...], batches: Batches) -> Engine:
    """The step of an optimizer at the lowest of its rates, on a network of its own."""
    entry = registry.optimizers[name]
    network = build_model(Component(model), shape, 10, init=Component("kaiming_normal"), seed=0)
    inner = {"optimizer": Component("momentum")} if "optimizer" in entry.schema.model_fields else {}
    optimizer = entry.make(network, lr=entry.traits.rates[0], **inner)

    def whole() -> Iterator[tuple[Tensor, Tensor]]:
        return iter(batches)

    return DenseEngine(Objective(network, nn.CrossEntropyLoss(), whole, steps_per_epoch=len(batches)), optimizer)


def timed(engine: Engine, batches: Batches) -> float:
    began = time.perf_counter()
    for x, y in batches:
        engine.step(x, y)
    return (time.perf_counter() - began) / len(batches)


def compare(name: str, model: str, turns: int, steps: int | None) -> dict[str, object]:
    """Seconds a step over sgd's, the two in turns after a first one that warms up."""
    size, shape, usual = CASES[model]
    steps = steps or usual
    draws = torch.Generator().manual_seed(0)
    # enough random batches not to be learned by heart: gradients that vanish are denormal numbers, which are slow
    batches = [
        (torch.randn(size, *shape, generator=draws), torch.randint(10, (size,), generator=draws)) for _ in range(100)
    ]
    plain, other = ready("sgd", model, shape, batches), ready(name, model, shape, batches)
    times: list[tuple[float, float]] = []
    for turn in range(turns + 1):
        part = list(islice(cycle(batches), turn * steps, (turn + 1) * steps))
        times.append((timed(plain, part), timed(other, part)))
    ratio = statistics.median(there / here for here, there in times[1:])
    milliseconds = 1e3 * statistics.median(there for _, there in times[1:])
    print(f"{model} batch {size} {name}: {ratio:.2f} of sgd, {milliseconds:.2f} ms a step", flush=True)
    return {
        "case": f"{model} batch {size} {name}",
        "ratio": round(ratio, 3),
        "ms": round(milliseconds, 3),
        "turns": turns,
        "steps": steps,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=[*CASES, "both"], default="both")
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--steps", type=int, help="of a turn; 20 for lenet and 4 for resnet20 where left out")
    parser.add_argument("--only", nargs="+", metavar="OPTIMIZER", help="these optimizers; all where left out")
    options = parser.parse_args()
    models = list(CASES) if options.model == "both" else [options.model]
    results: list[dict[str, object]] = []
    for entry in registry.optimizers:
        package = entry.traits.package
        if options.only and entry.name not in options.only:
            continue
        if package and importlib.util.find_spec(package) is None:
            print(f"{entry.name}: left out, {package} is not installed")
            continue
        results += [compare(entry.name, model, options.turns, options.steps) for model in models]
    keep("optimizer_step", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
