"""`lottery run lenet-mnist-fast` against a bare loop doing the same training steps: `python benchmarks/fast_recipe.py`.

Wall time in all: start of the process, loading, evaluation, checkpoints, hashing and commits against nothing but
steps. One seed, a few levels (`--levels`), in turns; needs MNIST in $LOTTERY_DATA. Figures to hold: at most 1.15x the
bare loop, and under 1.2 GB resident."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from logbook import keep

from lottery.api import data_root
from lottery.benchmark import baseline
from lottery.data.load import load
from lottery.plan.expand import plan
from lottery.recipe.load import Recipe, load_recipe

LIMIT, MEMORY_LIMIT = 1.15, 1.2e9


def framework(overrides: list[str]) -> tuple[float, int]:
    """Seconds and peak resident bytes of the command in a process of its own, on a new store."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "lottery", "run", "lenet-mnist-fast", "--store", store]
        for override in overrides:
            command += ["--set", override]
        began = time.perf_counter()
        # through a small process: a child inherits the peak memory of the one that starts it
        small = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
        small += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        done = subprocess.run([sys.executable, "-c", small, *command], check=True, capture_output=True, text=True)
        return time.perf_counter() - began, int(done.stdout) * 1024


def loop(recipe: Recipe) -> float:
    """Seconds of the bare loop for as many trainings, its data normalized in memory beforehand and not counted."""
    splits = load(recipe.data.component, data_root())
    x = (splits.train_x[: len(splits.train_x) - recipe.data.validation].float() / 255 - 0.1307) / 0.3081
    y = splits.train_y[: len(x)]
    trainings = sum(job.kind != "rewind" for job in plan(recipe, ""))
    began = time.perf_counter()
    for _ in range(trainings):
        model = baseline.lenet()
        optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3)
        baseline.train(model, optimizer, (x, y), steps=recipe.train.length.value, batch_size=recipe.train.batch_size)
    return time.perf_counter() - began


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--levels", type=int, default=4)
    options.add_argument("--turns", type=int, default=3)
    given = options.parse_args()
    overrides = ["seeds=1", f"prune.levels={given.levels}"]
    recipe = load_recipe("lenet-mnist-fast", overrides)
    ratios, memory = [], 0
    for _ in range(given.turns):
        bare_seconds = loop(recipe)
        seconds, peak = framework(overrides)
        ratios.append(seconds / bare_seconds)
        memory = max(memory, peak)
        print(f"bare {bare_seconds:.1f} s, lottery run {seconds:.1f} s, {seconds / bare_seconds:.3f}x", flush=True)
    ratio = statistics.median(ratios)
    print(f"lenet-mnist-fast: {ratio:.3f}x of the bare loop (limit {LIMIT}), peak {memory / 1e9:.2f} GB resident")
    case = f"lenet-mnist-fast, 1 seed, {given.levels} levels, {recipe.train.length}"
    keep(
        "fast_recipe",
        [{"case": case, "ratio": round(ratio, 4), "limit": LIMIT, "turns": given.turns, "peak_bytes": memory}],
    )
    return int(ratio > LIMIT or memory > MEMORY_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
