"""The cases of `lottery bench`: how much faster this machine trains and measures than with a bare loop.

Ratios of two times taken in one run, one after the other and again: other work on the machine slows both.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lottery.benchmark import baseline
from lottery.benchmark.analyses import analysis_cases
from lottery.benchmark.case import Case, Turn
from lottery.benchmark.executors import executor_cases
from lottery.benchmark.ranks import ranks_turn
from lottery.benchmark.results import Result
from lottery.benchmark.starts import start_cases
from lottery.benchmark.steps import step_cases
from lottery.benchmark.thousands import thousands_cases
from lottery.benchmark.traffic import traffic_cases
from lottery.data.load import load
from lottery.data.splits import Splits
from lottery.device import computes_bf16, machine, prepared
from lottery.errors import MachineError, UsageError
from lottery.network.build import build_model
from lottery.recipe.load import parse_recipe
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

LENET = """
name: bench
data: {name: mnist, validation: 5000}
model: lenet
init: glorot_normal
train: {optimizer: {name: sgd, lr: 0.1}, batch_size: 128, length: 3000it, evaluate_every: 750it}
prune: {fraction: 0.2, levels: 0}
rewind: init
seeds: 1
"""
RESNET = """
name: bench
data: {name: cifar10, validation: 1000}
model: resnet20
init: kaiming_normal
train: {optimizer: {name: momentum, lr: 0.03}, batch_size: 128, length: 12it, evaluate_every: 12it}
prune: {fraction: 0.2, levels: 0}
rewind: init
seeds: 1
"""
ONE_LEVEL = ("train.evaluate_every=1it", "prune.levels=1")
DENSITIES = (0.2, 0.05, 0.02)
LEVELS, SEEDS = 20, 8


def cases(only: Sequence[str] = (), images: str = "cifar10", device: str = "cpu") -> list[Case]:
    """Return the cases that are named; all where none is.

    Those of bf16 are left out of all where the processor has no instructions for it, and so are those that take long.

    Args:
        only: Names of cases.
        images: What ResNet-20 trains on, a data set as a recipe names it.
        device: `cpu`, or `cuda`, on which dense trainings are measured and nothing else.

    Raises:
        UsageError: For a case that is not there, or not on this device.
    """
    adam = ("train.optimizer={name: adam, lr: 1.2e-3}", "train.batch_size=60")
    dense = ("train.engine=dense",)
    fp32 = (f"data={images}", "data.validation=1000")
    bf16 = (*fp32, "train.precision=bf16")
    mnist, pictures = _reads(LENET), _reads(RESNET, *fp32)
    trained = partial(Case, on_gpu=True)
    found = [
        trained("lenet", "LeNet, dense, SGD 128", 1.6, partial(_one, LENET, device, ()), mnist),
        trained("lenet-adam", "LeNet, dense, Adam 60", 1.4, partial(_one, LENET, device, adam), mnist),
        Case("lenet-dense", "LeNet, dense engine, SGD 128", 1.0, partial(_one, LENET, "cpu", dense), mnist),
        *(_ticket(density, least, mnist) for density, least in zip(DENSITIES, (1.9, 3.5, 4.5), strict=True)),
        trained("lenet-levels", f"LeNet, {1 + LEVELS} levels, one run", 2.5, partial(_levels, device), mnist),
        Case("lenet-seeds", f"LeNet, {SEEDS} seeds, {1 + LEVELS} levels, all cores", 3.5, _seeds, mnist),
        trained("resnet20", "ResNet-20, fp32", 1.35, partial(_one, RESNET, device, fp32), pictures),
        trained("resnet20-bf16", "ResNet-20, bf16 against fp32", 2.0, partial(_one, RESNET, device, bf16), pictures),
        Case(
            "ranks", "ResNet-20, a step on two ranks", 1 / 1.15, lambda data: ranks_turn(RESNET, data, *fp32), pictures
        ),
        *step_cases(RESNET, fp32, pictures),
        *start_cases(mnist, _bare),
        *thousands_cases(),
        *analysis_cases(images, mnist),
        *executor_cases(mnist),
        *traffic_cases(),
    ]
    names = [case.name for case in found]
    for name in only:
        if name not in names:
            raise UsageError(f"bench has no case {name}; there are {', '.join(names)}")
    if device == "cuda":
        found = [case for case in found if case.on_gpu]
        if missing := set(only) - {case.name for case in found}:
            there = ", ".join(case.name for case in found)
            raise UsageError(f"bench --device cuda has no case {min(missing)}, which is of a CPU; there are {there}")
    able = computes_bf16(machine(device).device)
    every = [case for case in found if not case.named_only and (able or not case.name.endswith("bf16"))]
    return [case for case in found if case.name in only] if only else every


def measure(
    chosen: Sequence[Case], data: Path, turns: int, told: Callable[[str], None], device: str = "cpu"
) -> list[Result]:
    """Measure each case in turns, and return a result for each.

    Args:
        chosen: The cases.
        data: Folder of the data sets.
        turns: Number of times that each case is measured.
        told: Called with a line of text after every turn.
        device: `cpu` or `cuda`: what is compiled for a CPU is made ready there only.

    Raises:
        DataError: Where MNIST or CIFAR-10 are not there.
    """
    taken: dict[str, list[Turn]] = {case.name: [] for case in chosen}
    for ready in dict.fromkeys(case.ready for case in chosen):  # before anything is measured: it may not be there
        ready(data)
    if device == "cpu" and any(case.name.startswith(("lenet", "on-", "between-")) for case in chosen):
        for engine in ("sparse", "background"):  # compiled once on a machine, and loaded once in a process
            seconds_by_job(
                parse_recipe(LENET, "bench", [f"train.engine={engine}", "train.length=1it", *ONE_LEVEL]), data
            )
        from lottery.engines.compiled.ahead import NAMES, make_ready

        for name in NAMES:  # compiled once on a machine, and loaded once in a process
            for threads in {1, min(machine(device).threads, 2)}:
                make_ready(name, threads)
    for turn in range(turns):
        for case in chosen:
            base, ours, peak = case.turn(data)
            taken[case.name].append((base, ours, peak))
            pair = f"{base:.2f} {case.unit} and {ours:.2f} {case.unit}"
            told(f"{turn + 1}/{turns} {case.what}: {pair}, {base / ours:.2f}x")
    return [_result(case, taken[case.name]) for case in chosen]


def _result(case: Case, turns: Sequence[Turn]) -> Result:
    """Return the result of a case over these turns."""
    ratios = [base / ours for base, ours, _ in turns]
    base, ours = statistics.median(turn[0] for turn in turns), statistics.median(turn[1] for turn in turns)
    peaks = [peak for _, _, peak in turns if peak is not None]
    return Result(case, statistics.median(ratios), min(ratios), max(ratios), base, ours, max(peaks, default=None))


def _one(text: str, device: str, overrides: Sequence[str], data: Path) -> Turn:
    """Measure the dense network of a recipe; the bare loop computes in fp32, whatever the recipe says."""
    recipe = parse_recipe(text, "bench", overrides)
    return _bare(recipe, data, device), sum(seconds_by_job(recipe, data, device).values()), None


def _reads(text: str, *overrides: str) -> Callable[[Path], object]:
    """Return what reads the data of a recipe."""
    return lambda data: load(parse_recipe(text, "bench", overrides).data.component, data)


def _ticket(density: float, least: float, ready: Callable[[Path], object]) -> Case:
    """Return the case of a ticket against its dense network as the dense engine trains it, both with the framework."""

    def turn(data: Path) -> Turn:
        dense = seconds_by_job(parse_recipe(LENET, "bench", ["train.engine=dense"]), data)
        recipe = parse_recipe(LENET, "bench", [f"prune={{one_shot: [{density}]}}"])
        return sum(dense.values()), seconds_by_job(recipe, data)["ticket", 1], None

    return Case(f"lenet-{density:g}", f"LeNet, ticket of {100 * density:g} %", least, turn, ready)


def _levels(device: str, data: Path) -> Turn:
    """Measure a run of all levels in one process."""
    recipe = parse_recipe(LENET, "bench", [f"prune.levels={LEVELS}"])
    return (1 + LEVELS) * _bare(recipe, data, device), sum(seconds_by_job(recipe, data, device).values()), None


def _seeds(data: Path) -> Turn:
    """Measure `lottery run` over several seeds.

    Processes, imports and loading of the data are part of its time; of the bare loop's they are not.
    """
    recipe = parse_recipe(LENET, "bench", [f"prune.levels={LEVELS}", f"seeds={SEEDS}"])
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "bench.yaml"
        written.write_text(json.dumps(recipe.canonical()), encoding="utf-8")
        options = ("--jobs", "auto", "--device", "cpu", "--data", str(data), "--store", folder)
        run = [sys.executable, "-m", "lottery", "run", str(written), *options]
        # through a small process: a child inherits the peak memory of the one that starts it
        small = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2); "
        small += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", small, *run], capture_output=True, text=True)
        seconds = time.perf_counter() - began
    if done.returncode:
        raise MachineError(f"lottery run: {done.stderr.strip().splitlines()[-1]}")
    return SEEDS * (1 + LEVELS) * _bare(recipe, data), seconds, int(done.stdout) * 1024


def seconds_by_job(recipe: Recipe, data: Path, device: str = "cpu") -> dict[tuple[str, int], float]:
    """Return the seconds of each job by kind and level, commits included, in this process with all its threads.

    Raises:
        MachineError: A job fails.
    """
    seconds: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as store:
        context = prepare(Request(recipe, data, Path(store), device))
        for event in work(context):
            if event.kind == "start":
                began = time.perf_counter()
            elif event.kind not in ("progress", "done"):
                raise MachineError(
                    f"a training of the benchmark {event.kind}: {event.about.get('message', event.label)}"
                )
            elif event.kind == "done":
                job = context.plan.jobs[event.key]
                seconds[job.kind.value, job.level] = time.perf_counter() - began
    return seconds


def _bare(recipe: Recipe, data: Path, device: str = "cpu") -> float:
    """Return the seconds of the bare loop for the dense network: the same steps, the same evaluation.

    On a GPU it has our switches for fp32, or its convolutions would be those of tf32, by torch's default.
    """
    where = machine(device)
    splits = load(recipe.data.component, data)
    training, test = (_normalized(splits, part, where.device) for part in ("train", "test"))
    held_out = tuple(part[: recipe.data.validation] for part in training)
    rest = tuple(part[recipe.data.validation :] for part in training)
    shape = tuple(splits.train_x.shape[1:])
    model = baseline.lenet()
    if recipe.model.name != "lenet":
        model = build_model(recipe.model, shape, splits.classes, init=recipe.init, seed=recipe.seeds[0])
    (optimizer,) = recipe.train.optimizer
    kinds = {"sgd": torch.optim.SGD, "momentum": torch.optim.SGD, "adam": torch.optim.Adam}
    momentum = {"momentum": 0.9} if optimizer.name == "momentum" else {}
    made = kinds[optimizer.name](model.to(where.device).parameters(), lr=optimizer.args["lr"], **momentum)
    steps, every = int(recipe.train.length.value), int(recipe.train.evaluate_every.value)
    size = recipe.train.batch_size
    assert isinstance(size, int)
    torch.set_num_threads(where.threads)
    with prepared(where, "fp32") if device == "cuda" else nullcontext():
        began = time.perf_counter()
        baseline.train(model, made, rest, held_out, steps=steps, batch_size=size, evaluate_every=every)  # type: ignore[arg-type]
        for _ in range(2):  # at the end and at the early-stop step
            baseline.evaluate(model, test)
        return time.perf_counter() - began


def _normalized(splits: Splits, part: str, device: torch.device) -> baseline.Split:
    """Return inputs and classes of a part on the device, the inputs with mean 0 and deviation 1 by channel."""
    x, y = getattr(splits, f"{part}_x").float() / 255, getattr(splits, f"{part}_y")
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (splits.mean, splits.std))
    return ((x - mean) / std).to(device), y.to(device)
