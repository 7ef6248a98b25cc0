"""A study with everything in it that a restart could lose, and what stops one and starts it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lottery.data.loader import Data
from lottery.errors import Interrupted
from lottery.files.write import DRAFT
from lottery.recipe.schema import Recipe
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.signals import Stop
from tests.support.calls import call_here
from tests.support.micro import micro, micro_text

EVERYTHING = (
    "data.augment={crop: 1, flip: true}",
    "model={name: lenet, widths: [24, 12], norm: batch, dropout: 0.2}",
    "train.optimizer=[{name: adam, lr: 3e-3}, {name: momentum, lr: 0.05, weight_decay: 1e-4}]",
    "train.schedule={name: cosine, warmup: 10it}",
    "train.batch_size=32",
    "train.evaluate_every=20it",
    "train.clip=1.0",
    "prune={scope: layer, fraction: 0.4, rates: {output: 0.5}, levels: 3}",
    "rewind=15it",
    "seeds=2",
    "branches=[reinit, shuffle]",
)


def full_recipe(length: int = 40, *changes: str) -> Recipe:
    """The study with trainings of `length` steps."""
    return micro(*EVERYTHING, f"train.length={length}it", *changes)


def write_full_recipe(folder: Path, length: int = 40, *changes: str) -> Path:
    """Write its recipe into the folder and return the path."""
    path = folder / "micro.yaml"
    path.write_text(micro_text(*EVERYTHING, f"train.length={length}it", *changes))
    return path


def run_arguments(recipe: Path, store: Path | str) -> list[str]:
    """The arguments of `lottery run`: on the CPU, deterministic, checkpoints as often as they may be."""
    own = ["--deterministic", "--checkpoint-seconds", "0", "--device", "cpu"]
    return ["run", str(recipe), "--store", str(store), *own]


def start(recipe: Path, store: Path | str, *options: str) -> subprocess.Popen[str]:
    """`lottery run` in a process of its own, see `run_arguments`."""
    return subprocess.Popen(
        [sys.executable, "-m", "lottery", *run_arguments(recipe, store), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(recipe: Path, store: Path | str, *options: str) -> str:
    """Run to the end; the table printed."""
    process = start(recipe, store, *options)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out


def finish_here(recipe: Path, store: Path | str, *options: str) -> str:
    """As `finish`, in this process, which has imported torch already."""
    done = call_here(*run_arguments(recipe, store), *options)
    assert done.code == 0, done.err
    return done.out


@dataclass(frozen=True)
class Undisturbed:
    """A run in this process that nothing stopped: its recipe, what it committed, and its table."""

    recipe: Path
    expected: dict[str, bytes]
    table: str

    @property
    def jobs(self) -> int:
        return sum(name.endswith("manifest.json") for name in self.expected)


def undisturbed(folder: Path, length: int, *changes: str) -> Undisturbed:
    """Run the study in a store in the folder."""
    recipe = write_full_recipe(folder, length, *changes)
    table = finish_here(recipe, folder / "store")
    return Undisturbed(recipe, contents(folder / "store"), table)


def finished_jobs(store: Path) -> int:
    return len(list((store / "jobs").rglob("manifest.json")))


def contents(store: Path) -> dict[str, bytes]:
    """All that finished jobs committed: bytes of each file by its path; of manifests what is no time and no machine.

    What a kill in the middle of a commit left beside them is no job; `lottery gc` removes it."""
    found: dict[str, bytes] = {}
    for path in sorted((store / "jobs").rglob("*")):
        name = str(path.relative_to(store / "jobs"))
        if any(DRAFT.search(part) for part in Path(name).parts):
            continue
        if path.name == "manifest.json":
            manifest = json.loads(path.read_bytes())
            kept = {key: manifest[key] for key in ("key", "kind", "status", "parent", "files")}
            found[name] = json.dumps(kept, sort_keys=True).encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def run_until_stopped(request: Request, steps: int) -> None:
    """A session that a signal reaches while it does its step number `steps`; it must save and leave."""
    stop, done = Stop(), 0
    original = Data.epoch

    def epoch(self: Data, *args: Any) -> Any:
        nonlocal done
        for batch in original(self, *args):
            done += 1
            if done == steps:
                stop.signal = 15
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Data, "epoch", epoch)
        with pytest.raises(Interrupted):
            list(work(prepare(request, stop)))
