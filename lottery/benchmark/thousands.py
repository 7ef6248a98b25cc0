"""Cases of `lottery bench` on a study of 1,976 finished jobs: its table of layers, its report, its plan."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.benchmark.case import Case, Turn
from lottery.benchmark.starts import timed
from lottery.plan.expand import plan
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE
from lottery.recipe.load import parse_recipe
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.resume import as_json
from lottery.runner.run import work
from lottery.store.store import Store

if TYPE_CHECKING:
    from lottery.plan.jobs import Job
    from lottery.recipe.schema import Recipe

TRAINED, SEEDS = 2, 26  # seeds that are trained, and all of them: the others' files are made of theirs
STUDY = """
name: bench
data: {name: mnist1d, samples: 500, validation: 100}
model: {name: mlp, widths: [16]}
init: glorot_normal
train:
  optimizer: [{name: adam, lr: 1e-3}, {name: momentum, lr: 0.05}]
  batch_size: 50
  length: 4it
  evaluate_every: 2it
prune: {fraction: 0.2, levels: 9}
rewind: 1it
branches: [reinit, shuffle, random]
compare: {margin: 1}
"""
COMMANDS: Mapping[str, tuple[float, tuple[str, ...]]] = {  # by case: seconds that it is held to, and the words
    "layers": (2.0, ("table", "--view", "layers")),
    "report": (5.0, ("report",)),
    "plan": (1.0, ("plan",)),
}


def thousands_cases() -> Iterator[Case]:
    """Yield the cases. What makes them ready trains two seeds and takes less than a minute."""
    for name, (seconds, words) in COMMANDS.items():
        what = f"{seconds:g} s against {name} of {SEEDS * 76:,} finished jobs"
        yield Case(name, what, 1.0, partial(_measured, seconds, words), _made)


def _measured(seconds: float, words: tuple[str, ...], data: Path) -> Turn:
    """Measure a command on the study from the start of its process."""
    folder = Path(_made(data).name)
    written = ("-o", str(folder / "report")) if words == ("report",) else ()
    places = ("--store", str(folder / "store"), "--data", str(data))
    command = [sys.executable, "-m", "lottery", *words, str(folder / "bench.json"), *places, *written]
    return seconds, timed(command), None


@cache
def _made(data: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a folder with the recipe and the store of the study, made once and removed when the process ends."""
    folder = tempfile.TemporaryDirectory()
    recipe = parse_recipe(STUDY, "bench", [f"seeds={SEEDS}"])
    (Path(folder.name) / "bench.json").write_text(json.dumps(recipe.canonical()), encoding="utf-8")
    make_finished(recipe, TRAINED, data, Path(folder.name) / "store")
    return folder


def make_finished(recipe: Recipe, trained: int, data: Path, folder: Path) -> None:
    """Make a store in which all jobs of a recipe are finished.

    The first `trained` seeds are trained. The jobs of each other seed are those of one of them under its own keys, with
    slightly different training losses: seeds with equal curves would count as one.
    """
    store = Store(folder)
    few = recipe.model_copy(update={"seeds": recipe.seeds[:trained]})
    context = prepare(Request(few, data, folder, "cpu"), store=store)
    for _ in work(context):
        pass
    ran = context.plan
    models = {_place(job, recipe.seeds.index(job.seed)): job for job in ran}
    for job in plan(recipe, ran.fingerprint, ran.others):
        number = recipe.seeds.index(job.seed)
        if number >= trained:
            _commit(store, job, models[_place(job, number % trained)], number)


def _place(job: Job, number: int) -> tuple[object, ...]:
    """Return what tells a job from the others of a plan, with the number of its seed."""
    return job.kind, number, job.optimizer_index, job.rewind, job.level, job.branch, job.sample


def _commit(store: Store, job: Job, model: Job, number: int) -> None:
    """Keep a job with the files of a finished one of another seed."""
    manifest = store.find(model.key)
    assert manifest is not None
    files = {name: store.read(model.key, name) for name in manifest.files}
    files[IDENTITY_FILE] = as_json(job.identity)
    if METRICS_FILE in files:
        files[METRICS_FILE] = as_json(_shifted(json.loads(files[METRICS_FILE]), 1 + 1e-6 * number))
    store.commit(
        job.key,
        files,
        kind=manifest.kind,
        status=manifest.status,
        parent=job.parent,
        label=job.label,
        seconds=manifest.seconds,
        environment=manifest.environment,
    )


def _shifted(value: Any, factor: float) -> Any:
    """Return metrics with each training loss times a factor."""
    if isinstance(value, dict):
        return {
            name: factor * each if name == "train_loss" and each is not None else _shifted(each, factor)
            for name, each in value.items()
        }
    return [_shifted(each, factor) for each in value] if isinstance(value, list) else value
