"""Memory of a large network's jobs: `python benchmarks/large_start.py [torchvision's arch]`.

The dense network is trained for a few steps as `lottery run` does it; then, in a process of its own, a ticket starts:
weights are read and selected over all layers together, rewound to step 1 (with the optimizer's state), put into a
network; and the whole job once more. Each phase has a peak of its own, above what torch and its imports take."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torchvision.models
from logbook import keep
from PIL import Image

from lottery.pruning.masking import masked
from lottery.recipe.load import parse_recipe
from lottery.runner.assemble import training_of
from lottery.runner.events import Request
from lottery.runner.execute import execute
from lottery.runner.prepare import prepare
from lottery.runner.starting_point import starting_point

RECIPE = """
name: large
data: {name: image_folder, folder: tiny, size: 64}
model: {name: torchvision, arch: %s}
init: kaiming_normal
train: {optimizer: {name: momentum, lr: 1e-3}, batch_size: 2, length: 3it, evaluate_every: 3it}
prune: {scope: global, fraction: 0.2, levels: 1}
rewind: 1it
seeds: 1
"""


def memory(field: str) -> int:
    """Bytes that Linux says this process holds (VmRSS), or has held at most since `fresh_peak` (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def fresh_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def images(root: Path) -> None:
    draw = np.random.default_rng(0)
    for part, name in ((part, name) for part in ("train", "test") for name in ("a", "b")):
        folder = root / "tiny" / part / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")


def measured(root: Path, arch: str, kinds: set[str]) -> list[dict[str, object]]:
    """Phases of the jobs of these kinds: peak bytes above what the process held before its first network, seconds."""
    assert arch in torchvision.models.list_models()  # and imported, before memory is looked at
    recipe = parse_recipe(RECIPE % arch, "large")
    base = memory("VmRSS")
    phases: list[dict[str, object]] = []

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        fresh_peak()
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        phases.append(
            {"phase": name, "seconds": seconds, "peak": memory("VmHWM") - base, "left": memory("VmRSS") - base}
        )

    with phase("the plan and a blank network"):
        context = prepare(Request(recipe, root, root / "runs", device="cpu"))
        weights = sum(value.nbytes for value in context.networks.blank().state_dict().values())
    for job in context.plan:
        if job.kind == "ticket" and "ticket" in kinds:
            with phase("ticket: starting point"):
                start = starting_point(context, job)
            with phase("ticket: network"):
                training = training_of(context, job, start)
            with phase("ticket: masks"), masked(training.model, start.mask, training.optimizer):
                pass
            del start, training
        if job.kind in kinds:
            with phase(f"{job.kind}: whole job"):
                for _ in execute(context, job):
                    pass
    return [{"arch": arch, "weights": weights, "base": base, **each} for each in phases]


def main(arch: str) -> None:
    results: list[dict[str, object]] = []
    with TemporaryDirectory() as root:
        images(Path(root))
        for kinds in ("rewind,dense", "ticket"):
            # a process of its own for each, or what one frees is there for the next
            done = subprocess.run([sys.executable, __file__, arch, root, kinds], stdout=subprocess.PIPE, check=True)
            results += json.loads(done.stdout)
    for each in results:
        peak, left = (each[name] / each["weights"] for name in ("peak", "left"))
        print(
            f"{arch} ({each['weights'] / 4e6:.1f} M), {each['phase']}: peak {peak:.2f} x weights, {left:.2f} left, "
            f"{each['seconds']:.1f} s"
        )
    keep("large_start", results)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(measured(Path(sys.argv[2]), sys.argv[1], set(sys.argv[3].split(",")))))
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "resnet50")
