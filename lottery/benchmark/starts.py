"""Cases of `lottery bench` that begin with a process: a short study from its start to its table, and a finished one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from lottery.benchmark.case import Case, Turn
from lottery.errors import MachineError
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe

LEVELS, FEW_LEVELS = 20, 5
STEPS = 2 * 55_000 // 128  # about two passes, which the bare loop is given as well
SHORT = f"""
name: bench
data: {{name: mnist, validation: 5000}}
model: lenet
init: glorot_normal
train: {{optimizer: {{name: sgd, lr: 0.1}}, batch_size: 128, length: {STEPS}it, evaluate_every: {STEPS // 2}it}}
prune: {{fraction: 0.2, levels: {LEVELS}}}
rewind: init
seeds: 1
"""
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"  # with it a checkout is compiled at each start; what is installed never is
WITH_VERDICTS = (
    *("data={name: mnist1d, validation: 500}", "model={name: mlp, widths: [50, 50]}", "seeds=5"),
    *("branches=[{name: random}]", "compare={margin: 1}"),
)
FINISHED_SECONDS = 0.6  # for the table of a recipe of which nothing is missing

Bare = Callable[[Recipe, Path], float]


def start_cases(ready: Callable[[Path], object], bare: Bare) -> Iterator[Case]:
    """Yield the cases; `ready` reads MNIST, and `bare` measures the bare loop for the dense network of a recipe."""
    study = f"LeNet, {1 + LEVELS} levels of 2 epochs, from the start of a process"
    yield Case("lenet-short", study, 2.5, partial(_short, bare, LEVELS, kept=True), ready)
    yield Case("lenet-first", f"{study}, kernels to compile", 1.2, partial(_short, bare, LEVELS, kept=False), ready)
    six = f"LeNet, {1 + FEW_LEVELS} trainings of 2 epochs, from the start of a process"
    yield Case("lenet-six", six, 1.13, partial(_short, bare, FEW_LEVELS, kept=True), ready)
    finished = f"{FINISHED_SECONDS:g} s against the run of a finished recipe"
    yield Case("finished", finished, 1.0, partial(_finished, ()), ready)
    claims = f"{finished} on MNIST-1D, five seeds with verdicts"
    yield Case("finished-verdicts", claims, 1.0, partial(_finished, WITH_VERDICTS), ready)


def _short(bare: Bare, levels: int, data: Path, *, kept: bool) -> Turn:
    """Measure the bare loop for each level, and the whole command; without `kept` nothing compiled is there."""
    recipe = parse_recipe(SHORT, "bench", [f"prune.levels={levels}"])
    with tempfile.TemporaryDirectory() as folder:
        place = {} if kept else {"NUMBA_CACHE_DIR": str(Path(folder) / "kernels")}
        return (1 + levels) * bare(recipe, data), _seconds(recipe, data, Path(folder), place), None


def _finished(changes: Sequence[str], data: Path) -> Turn:
    """Measure the command when nothing is missing any more of the recipe under these changes."""
    few = ["prune.levels=2", "train.length=20it", "train.evaluate_every=10it"]
    recipe = parse_recipe(SHORT, "bench", [*few, *changes])
    with tempfile.TemporaryDirectory() as folder:
        _seconds(recipe, data, Path(folder))
        return FINISHED_SECONDS, _seconds(recipe, data, Path(folder)), None


def _seconds(recipe: Recipe, data: Path, folder: Path, variables: Mapping[str, str] | None = None) -> float:
    """Return the seconds of `lottery run`, from the start of its process to its end."""
    written = folder / "bench.json"
    written.write_text(json.dumps(recipe.canonical()), encoding="utf-8")
    places = ["--store", str(folder / "runs"), "--data", str(data), "--device", "cpu"]
    return timed([sys.executable, "-m", "lottery", "run", str(written), *places], variables)


def timed(command: Sequence[str], variables: Mapping[str, str] | None = None) -> float:
    """Return the seconds of a command, from the start of its process to its end.

    Raises:
        MachineError: It fails.
    """
    here = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**here, **(variables or {})})
    seconds = time.perf_counter() - began
    if done.returncode:
        raise MachineError(f"lottery {command[3]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return seconds
