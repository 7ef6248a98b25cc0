"""Global magnitude pruning of 100 million weights: `python benchmarks/prune.py`.

Figures to hold: at most 10 s, and 1 GB at the peak beyond the weights themselves, on two cores, at the first level and
at one with a density of 0.2. LeNet-300-100 beside it, since a small network must not pay for the large one."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from logbook import keep
from torch import Tensor

from lottery.catalogue import criteria
from lottery.pruning.mask import Mask, keep_top
from lottery.pruning.scoring import Context

LENET = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "output.weight": (10, 100)}
LARGE = {f"layer{i}.weight": (1000, 2000) for i in range(50)}
CASES = {  # shapes, density, turns, most seconds, most bytes
    "100M, first level": (LARGE, 1.0, 3, 10.0, 10**9),
    "100M, density .2": (LARGE, 0.2, 3, 10.0, 10**9),
    "one layer of 100M, first level": ({"layer.weight": (25_000, 4_000)}, 1.0, 3, 10.0, 10**9),
    "lenet, first level": (LENET, 1.0, 101, None, None),
    "lenet, density .2": (LENET, 0.2, 101, None, None),
}


def made(shapes: dict[str, tuple[int, ...]], density: float) -> tuple[dict[str, Tensor], Mask]:
    """Normal weights of which those that the mask prunes are zero; the mask first, since making it takes more."""
    draws = torch.Generator().manual_seed(0)
    if density == 1:
        alive = Mask.dense({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    else:
        alive = Mask({name: torch.rand(shape, generator=draws) < density for name, shape in shapes.items()})
    weights = {name: torch.empty(shape).normal_(generator=draws) for name, shape in shapes.items()}
    if density < 1:
        for name, weight in weights.items():
            weight.mul_(alive[name])
    return weights, alive


def pruned(weights: dict[str, Tensor], alive: Mask) -> Mask:
    """A fifth of what is alive goes, over all layers together, as a job does it: scores, selection, packed bits."""
    scores = criteria.magnitude(weights, Context(torch.Generator()))
    kept = keep_top(scores, alive, round(0.8 * sum(alive.alive().values())))
    kept.pack()
    return kept


def measured(name: str) -> dict[str, object]:
    """Median seconds and peak bytes above those held before, in this process."""
    shapes, density, turns, *_ = CASES[name]
    pruned(*made(LENET, density))  # what torch sets up at its first calls is not the method's
    weights, alive = made(shapes, density)
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(turns):
        began = time.perf_counter()
        pruned(weights, alive)
        times.append(time.perf_counter() - began)
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {"case": name, "seconds": statistics.median(times), "peak_bytes": peak, "turns": turns}


def main() -> int:
    results, failed = [], False
    for name, (*_, seconds, peak) in CASES.items():
        # a process of its own for each: a peak is that of the whole life of a process
        done = subprocess.run([sys.executable, __file__, name], stdout=subprocess.PIPE, check=True)
        result = json.loads(done.stdout)
        print(f"{name}: {1e3 * result['seconds']:.1f} ms, {result['peak_bytes'] / 1e6:.0f} MB above the weights")
        results.append(result)
        failed |= seconds is not None and result["seconds"] > seconds
        failed |= peak is not None and result["peak_bytes"] > peak
    keep("prune", results)
    return failed


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measured(sys.argv[1])))
    else:
        sys.exit(main())
