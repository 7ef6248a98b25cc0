"""A masked training step against the same dense step in a bare loop: `python benchmarks/masked_step.py`.

Figures to hold: at most 1.10x for LeNet-300-100 at batch 60 (Adam), 1.03x for ResNet-20 at batch 128 (momentum).
Both use torch's fused optimizers, as the catalogue does; see log/README.md for what others cost on a CPU."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice

import torch
from logbook import keep
from torch import Tensor, nn

import lottery
from lottery.benchmark.baseline import lenet, step
from lottery.network.build import build_model, prunable
from lottery.values import Component


def resnet20() -> nn.Module:
    return build_model(Component("resnet20"), (3, 32, 32), 10, init=Component("kaiming_normal"), seed=0)


def half(model: nn.Module) -> lottery.Mask:
    draws = torch.Generator().manual_seed(0)
    return lottery.Mask({name: torch.rand(p.shape, generator=draws) < 0.5 for name, p in prunable(model).items()})


def timed(run: Callable[[Tensor, Tensor], Tensor], batches: list[tuple[Tensor, Tensor]], steps: int) -> float:
    began = time.perf_counter()
    for x, y in islice(cycle(batches), steps):
        run(x, y)
    return (time.perf_counter() - began) / steps


def compare(
    name: str,
    make: Callable[[], nn.Module],
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    shape: tuple[int, ...],
    *,
    steps: int,
    turns: int,
    limit: float,
) -> dict[str, object]:
    """The ratio of medians over turns in which both take the same number of steps."""
    # enough random batches not to be learned by heart: gradients that vanish are denormal numbers, which are slow
    batches = [(torch.randn(shape), torch.randint(10, shape[:1])) for _ in range(100)]
    bare_model, masked_model = make(), make()
    bare_optimizer, masked_optimizer = optimizer(bare_model), optimizer(masked_model)
    times: dict[str, list[float]] = {"bare": [], "masked": []}
    with lottery.masked(masked_model, half(masked_model), masked_optimizer):
        for turn in range(turns + 1):
            bare = timed(lambda x, y: step(bare_model, bare_optimizer, x, y), batches, steps)
            masked = timed(lambda x, y: step(masked_model, masked_optimizer, x, y), batches, steps)
            if turn:  # the first one warms up
                times["bare"].append(bare)
                times["masked"].append(masked)
    ratio = statistics.median(m / b for m, b in zip(times["masked"], times["bare"], strict=True))
    print(
        f"{name}: masked/bare {ratio:.3f} (limit {limit}), bare {1e3 * statistics.median(times['bare']):.3f} ms a step"
    )
    return {"case": name, "ratio": round(ratio, 4), "limit": limit, "turns": turns, "steps": steps}


def main() -> int:
    results = [
        compare(
            "lenet-300-100 batch 60 adam",
            lenet,
            lambda m: torch.optim.Adam(m.parameters(), lr=1e-3, fused=True),
            (60, 1, 28, 28),
            steps=100,
            turns=41,
            limit=1.10,
        ),
        compare(
            "resnet-20 batch 128 momentum",
            resnet20,
            lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, fused=True),
            (128, 3, 32, 32),
            steps=4,
            turns=21,
            limit=1.03,
        ),
    ]
    keep("masked_step", results)
    return any(result["ratio"] > result["limit"] for result in results)  # type: ignore[operator]


if __name__ == "__main__":
    sys.exit(main())
