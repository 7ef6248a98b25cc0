"""A process that trains beside others: `python -m benchmarks.gpu.side dry|full`.

It makes its networks ready, says so, and then trains for as long as each line on its stdin asks: `{"load": ...,
"seconds": ...}`. It answers with a line of JSON each time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.child import errors_where_launched
from benchmarks.gpu.clock import synchronize
from benchmarks.gpu.networks import ENGINES, LENET, RESNET, Kind, network
from lottery.device import Machine, prepared

AT_ONCE = 20  # steps between two looks at the clock
LOADS: dict[str, tuple[Kind, str, str]] = {
    "LeNet-300-100, fp32, dense engine": (LENET, "fp32", "dense"),
    "LeNet-300-100, fp32, graph engine": (LENET, "fp32", "graph"),
    "ResNet-20, bf16, graph engine": (RESNET, "bf16", "graph"),
}


def main() -> None:
    """Serve until stdin ends."""
    errors_where_launched()
    dry = sys.argv[1] == "dry"
    device = torch.device("cpu" if dry else "cuda")
    steps = {name: _step(device, dry, *load) for name, load in LOADS.items()}
    for name in steps:
        _train(steps[name], LOADS[name][1], device, seconds=0.0)  # recorded, and all algorithms chosen
    _say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        done = _train(steps[asked["load"]], LOADS[asked["load"]][1], device, asked["seconds"])
        _say({"steps": done, "seconds": time.perf_counter() - began})


def _step(device: torch.device, dry: bool, kind: Kind, precision: str, engine: str) -> Callable[[], object]:
    found = network(kind, device, precision=precision, dry=dry)
    return found.stepping(ENGINES[engine](found, device))


def _train(step: Callable[[], object], precision: str, device: torch.device, seconds: float) -> int:
    """Train for so many seconds and return the number of steps that the device has done."""
    done, end = 0, time.perf_counter() + seconds
    with prepared(Machine(device, 1, deterministic=False), precision):
        while not done or time.perf_counter() < end:
            for _ in range(AT_ONCE):
                step()
            done += AT_ONCE
            synchronize(device)  # no more than these are queued
    return done


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
