"""What a level costs beside its training steps: `python benchmarks/overheads.py`.

Trains LeNet for about 10 seconds a level, checkpoints at every chance they get, and takes apart where the time of a
ticket's job goes: steps, their batches and the loop that takes one to the other; evaluation; hashing and commit;
checkpoints; all the rest (reading what it starts from, pruning, logging, events). Needs MNIST in $LOTTERY_DATA."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from logbook import keep

from lottery.data.loader import Data
from lottery.paths import data_root
from lottery.recipe.load import parse_recipe
from lottery.runner import execute
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.training.engine import DenseEngine
from lottery.training.trainer import Training

TEXT = """
name: overheads
data: {name: mnist, validation: 5000}
model: lenet
init: glorot_normal
train: {optimizer: {name: adam, lr: 1.2e-3}, batch_size: 60, length: %dit, evaluate_every: 1ep, engine: dense}
prune: {fraction: 0.2, levels: 2}
rewind: init
seeds: 1
"""
PARTS = {  # what is timed, and as what
    "steps": [(DenseEngine, "step")],
    "evaluation": [(Training, "_evaluate"), (Training, "metrics")],
    "commit": [(Store, "commit")],
    "checkpoints": [(Store, "save_checkpoint"), (Training, "state")],
}


TRAINING = ("steps", "batches", "loop")


class Meter:
    """Seconds by part; a part inside another counts for the outer one."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys([*PARTS, *TRAINING], 0.0)
        self._inside = False

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            if self._inside:
                return function(*args, **named)
            self._inside, began = True, time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self._inside = False
                self.seconds[part] += time.perf_counter() - began

        return call

    def batches(self, epoch: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def call(*args: Any) -> Iterator[Any]:
            source = epoch(*args)
            take = self.timed("batches", lambda: next(source, None))
            while (batch := take()) is not None:
                yield batch

        return call

    def loop(self, advance: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """What is neither a step nor any other part, while a training goes on."""

        def call(*args: Any) -> Iterator[Any]:
            source = advance(*args)
            while True:
                before, began = sum(self.seconds.values()), time.perf_counter()
                progress = next(source, None)
                taken = time.perf_counter() - began
                self.seconds["loop"] += taken - (sum(self.seconds.values()) - before)
                if progress is None:
                    return
                yield progress

        return call


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=5000)
    options.add_argument("--checkpoint-seconds", type=float, default=60.0)
    given = options.parse_args()
    meter = Meter()
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, meter.timed(part, getattr(owner, name)))
    Data.epoch = meter.batches(Data.epoch)  # type: ignore[method-assign]
    execute._advance = meter.loop(execute._advance)
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as store:
        recipe = parse_recipe(TEXT % given.steps, "overheads")
        context = prepare(Request(recipe, data_root(), Path(store), checkpoint_seconds=given.checkpoint_seconds))
        for event in work(context):
            if event.kind == "start":
                meter.seconds, began = dict.fromkeys(meter.seconds, 0.0), time.perf_counter()
            elif event.kind == "done" and context.plan.jobs[event.key].kind == "ticket":
                whole = time.perf_counter() - began
                training = sum(meter.seconds[part] for part in TRAINING)
                beside = {part: seconds for part, seconds in meter.seconds.items() if part not in TRAINING}
                beside["rest"] = whole - training - sum(beside.values())
                shares = {part: round(seconds / training, 5) for part, seconds in beside.items()}
                share = sum(beside.values()) / training
                told = ", ".join(f"{part} {100 * value:.2f} %" for part, value in shares.items())
                print(
                    f"{event.label}: {training:.1f} s of training, {100 * share:.2f} % beside it: {told}; "
                    f"of the training the loop is {100 * meter.seconds['loop'] / training:.2f} %",
                    flush=True,
                )
                results.append(
                    {
                        "case": event.label,
                        "training_seconds": round(training, 3),
                        "share": round(share, 5),
                        **shares,
                        "loop_of_training": round(meter.seconds["loop"] / training, 5),
                    }
                )
    keep("overheads", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
