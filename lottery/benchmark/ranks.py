"""The case of `lottery bench` that trains one network on two ranks, against one process with as many threads.

Run as a module it is one of the processes that are measured: it trains a few steps and writes the seconds of one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lottery.benchmark.case import Turn
from lottery.device import prepared
from lottery.distributed.launch import launch
from lottery.distributed.place import place_of_environment
from lottery.errors import MachineError
from lottery.plan.kinds import Kind
from lottery.recipe.load import parse_recipe, restore_recipe
from lottery.recipe.schema import Recipe
from lottery.runner.assemble import training_of
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.ranks import opened

RANKS = 2
SKIPPED = 3  # steps that are not measured: the first allocate memory


def ranks_turn(text: str, data: Path, *overrides: str) -> Turn:
    """Measure a step of the dense network of a recipe in one process with all its threads, and on two ranks."""
    recipe = parse_recipe(text, "bench", ["train.engine=dense", *overrides])
    with tempfile.TemporaryDirectory() as folder:
        written, out = Path(folder) / "recipe.json", Path(folder) / "seconds"
        written.write_text(json.dumps(recipe.canonical()), encoding="utf-8")
        command = [sys.executable, "-m", "lottery.benchmark.ranks", str(written), str(data), str(out)]
        alone = subprocess.run(command, capture_output=True, text=True)
        if alone.returncode:
            raise MachineError(f"a training of the benchmark failed: {alone.stderr.strip().splitlines()[-1]}")
        base = float(out.read_text())
        if code := launch(RANKS, command):
            raise MachineError(f"a training of the benchmark on {RANKS} ranks failed with exit code {code}")
        return base, float(out.read_text()), None


def _seconds(recipe: Recipe, data: Path) -> float | None:
    """Return the median seconds of a step; None on a rank above 0."""
    with opened(place_of_environment(), "cpu") as group, tempfile.TemporaryDirectory() as store:
        context = prepare(Request(recipe, data, Path(store), device="cpu"), group=group)
        (job,) = (job for job in context.plan if job.kind is Kind.DENSE)
        taken = []
        with prepared(context.machine, recipe.train.precision):
            began = time.perf_counter()
            for _ in training_of(context, job).steps():
                now = time.perf_counter()
                taken.append(now - began)
                began = now
        return statistics.median(taken[SKIPPED:-1]) if group.rank == 0 else None  # the last one evaluates


if __name__ == "__main__":
    found = _seconds(restore_recipe(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), Path(sys.argv[2]))
    if found is not None:
        Path(sys.argv[3]).write_text(str(found), encoding="utf-8")
