"""Stages of whole trainings: where their time goes, what memory they take, and how long a study would be."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.clock import synchronize
from benchmarks.gpu.drive import ROOT
from benchmarks.gpu.networks import LENET_DROPOUT, RESNET, Kind, graph_engine, network
from benchmarks.gpu.stage import Measurement, NotHere, Setting
from lottery import registry
from lottery.benchmark.cases import seconds_by_job
from lottery.device import Machine, prepared
from lottery.errors import MachineError
from lottery.paths import data_root
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.runner.estimate import dense_training
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work

IMAGES = "benchmarks.gpu.images"
SEEDS, LEVELS = 3, 20  # of the study whose time is extrapolated
RESNET_EPOCH, LENET_EPOCH = 391, 430  # steps of a pass: 50,000 images, and 60,000 but for 5,000
RESNET_RUN = """
name: gpu
data: {name: random_images, examples: 50000, augment: {crop: 4, flip: true}}
model: resnet20
init: kaiming_normal
train: {optimizer: {name: momentum, lr: 0.01}, batch_size: 128, length: 391it, evaluate_every: 391it, precision: bf16}
prune: {fraction: 0.2, levels: 0}
rewind: init
seeds: 1
"""
LENET_RUN = """
name: gpu
data: {name: random_images, channels: 1, side: 28, examples: 60000, validation: 5000}
model: lenet
init: glorot_normal
train: {optimizer: {name: sgd, lr: 0.1}, batch_size: 128, length: 430it, evaluate_every: 430it}
prune: {fraction: 0.2, levels: 0}
rewind: init
seeds: 1
"""
SMALL = {
    RESNET_RUN: ("data.examples=60", "data.augment={crop: 1}", "model={name: resnet20, width: 2}"),
    LENET_RUN: ("data.examples=60", "data.validation=20", "model={name: lenet, widths: [12, 8]}"),
}
GROWTH_BYTES = 2**21  # what the allocator hands out at once: less is no growth
MEMORY_BYTES, LARGE_BATCH = 2**30, 4096  # of the device that a training may take, and a batch that needs far more
ENGINES = ("dense", "graph")


def breakdown(setting: Setting) -> None:
    """Write down the share of a run's time in which kernels are at work, evaluations and data included."""
    for engine in setting.sized(ENGINES[::-1], ENGINES[:1]):
        for label, text in (("ResNet-20, bf16", RESNET_RUN), ("LeNet-300-100, fp32", LENET_RUN)):
            what = f"{label}, {engine} engine, a run"
            setting.attempt(what, partial(_broken_down, setting, text, engine, what))


def _broken_down(setting: Setting, text: str, engine: str, what: str) -> None:
    """Time steps of a run with two evaluations among them, and then look at as many with torch's profiler."""
    steps = setting.sized(100, 4)  # few: each of the profiler's events takes 37 µs to be read
    recipe = _recipe(setting, text, engine, f"train.length={4 * steps}it", f"train.evaluate_every={steps // 2}it")
    with _stepping(setting, recipe) as training:
        _through(training, steps)  # recorded, and all algorithms chosen
        synchronize(setting.device)
        began = time.perf_counter()
        _through(training, steps)
        synchronize(setting.device)
        seconds = time.perf_counter() - began
        if setting.dry:
            setting.skip(f"{what}: share of the time in kernels", "a CPU has none")
            return
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            _through(training, steps)
            synchronize(setting.device)
    _tell_kernels(setting, f"{what}, an evaluation every {steps // 2} steps", seen, seconds, steps)


def _through(training: Iterator[object], steps: int) -> None:
    for _ in range(steps):
        next(training)


def _tell_kernels(setting: Setting, what: str, seen: profile, seconds: float, steps: int) -> None:
    """Write down the time in which a kernel or a copy was at work, against the seconds of as many steps unprofiled."""
    events = seen.events() or ()  # type: ignore[no-untyped-call]
    found = [e for e in events if e.device_type == DeviceType.CUDA and not getattr(e, "is_user_annotation", False)]
    share = busy((e.time_range.start, e.time_range.end) for e in found) / 1e6 / seconds
    totals: dict[str, float] = {}
    for event in found:
        totals[event.name] = totals.get(event.name, 0.0) + event.time_range.elapsed_us()
    longest = sorted(totals, key=lambda name: -totals[name])[:3]
    whole = sum(totals.values()) or 1.0
    note = "most in " + ", ".join(f"{name[:60]} ({totals[name] / whole:.0%})" for name in longest)
    setting.tell(Measurement(f"{what}: share of the time in kernels", 100 * share, "%", note=note))
    setting.tell(Measurement(f"{what}: time of a step", 1e3 * seconds / steps, "ms"))
    setting.tell(Measurement(f"{what}: kernels and copies of a step", len(found) / steps))


def busy(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of what intervals cover together: kernels on several streams overlap."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


@contextmanager
def _stepping(setting: Setting, recipe: Recipe) -> Iterator[Iterator[object]]:
    """Yield the steps of the dense network of a recipe."""
    with tempfile.TemporaryDirectory() as store:
        context = prepare(Request(recipe, Path(), Path(store), setting.device.type))
        with prepared(context.machine, recipe.train.precision):
            training = dense_training(context, 0)
            with masked(training.model, Mask({}), training.optimizer):
                yield training.steps()


def _recipe(setting: Setting, text: str, engine: str, *changes: str) -> Recipe:
    """Return a recipe over random images, of a small network in a dry run."""
    registry.plug_in(IMAGES)
    small = SMALL[text] if setting.dry else ()
    return parse_recipe(text, "gpu", [*small, f"train.engine={engine}", *changes])


def growth(setting: Setting) -> None:
    """Check that neither replays nor trainings one after another leave memory behind."""
    with prepared(Machine(setting.device, 1, deterministic=False), "bf16"):
        kinds = setting.sized((RESNET, LENET_DROPOUT), (LENET_DROPOUT,))
        found = network(kinds[0], setting.device, precision="bf16", dry=setting.dry)
        step = found.stepping(graph_engine(found, setting.device))
        replays = setting.sized(2000, 10)
        for _ in range(20):
            step()
        before = _memory(setting)
        for _ in range(replays):
            step()
        _tell_growth(setting, f"{kinds[0].label}, bf16: {replays} replays", before, _memory(setting))
        del found, step
        held = []
        for _ in range(setting.sized(8, 3)):
            for kind in kinds:
                _train_and_forget(setting, kind)
            held.append(_memory(setting))
        _tell_growth(setting, f"trainings of {len(kinds)} networks, {len(held)} times", held[1], held[-1])


def _train_and_forget(setting: Setting, kind: Kind) -> None:
    found = network(kind, setting.device, precision="bf16", dry=setting.dry)
    step = found.stepping(graph_engine(found, setting.device))
    for _ in range(8):
        step()


def _memory(setting: Setting) -> tuple[int, int]:
    """Return the bytes of the device that tensors have, and those that torch holds."""
    gc.collect()
    if setting.dry:
        return 0, 0
    synchronize(setting.device)
    return torch.cuda.memory_allocated(setting.device), torch.cuda.memory_reserved(setting.device)


def _tell_growth(setting: Setting, what: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    if setting.dry:
        setting.skip(what, "memory is counted on a GPU only")
        return
    for name, was, now in zip(("taken by tensors", "held by torch"), before, after, strict=True):
        grown = now - was
        setting.tell(Measurement(f"{what}: memory {name}", grown / 1e6, "MB more", holds=grown < GROWTH_BYTES))


def memory(setting: Setting) -> None:
    """Check that a training for which the device has too little memory says so.

    Raises:
        NotHere: There is no GPU, whose memory can be limited for one process.
    """
    if setting.dry:
        raise NotHere("only the memory of a GPU can be limited for a process")
    total = torch.cuda.get_device_properties(setting.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, MEMORY_BYTES / total))
    for engine in ENGINES:
        batch = f"train.batch_size={LARGE_BATCH}"
        recipe = _recipe(setting, RESNET_RUN, engine, batch, "data.examples=20000", "train.length=8it")
        setting.check(f"{engine} engine: out of memory is told as that", partial(_told, setting, recipe))


def _told(setting: Setting, recipe: Recipe) -> str:
    with tempfile.TemporaryDirectory() as store:
        try:
            ends = {event.kind for event in work(prepare(Request(recipe, Path(), Path(store), setting.device.type)))}
        except MachineError as error:
            if "out of memory" not in str(error):
                raise
            return str(error)[:160]
    raise AssertionError(f"it had to run out of memory, and ended with {sorted(ends)}")


def study(setting: Setting) -> None:
    """Extrapolate the time of a study of three seeds and twenty levels from two short ones."""
    cases = (
        ("ResNet-20, bf16, 160 epochs", RESNET_RUN, RESNET_EPOCH, 160),
        ("LeNet-300-100, fp32, 2 epochs", LENET_RUN, LENET_EPOCH, 2),
    )
    for engine in setting.sized(ENGINES[::-1], ENGINES[:1]):
        if engine == "dense":  # whose steps take the longest; what is worth more comes before
            setting.attempt("LeNet-300-100, seeds in lockstep", partial(_seeds, setting), least=15)
        for label, text, epoch, epochs in setting.sized(cases[::-1], cases[1:]):
            what = f"{label}, {engine} engine: {SEEDS} seeds, {LEVELS} levels, extrapolated"
            setting.attempt(what, partial(_extrapolated, setting, what, text, engine, epoch, epochs), least=15)


def _seeds(setting: Setting) -> None:
    """Time a level of several seeds, one after another and with `--lockstep`."""
    seeds, steps = setting.sized((8, 3 * LENET_EPOCH), (2, 8))
    changes = (f"seeds={seeds}", f"train.length={steps}it", f"train.evaluate_every={max(1, steps // 3)}it")
    base = None
    for said, engine, at_once in (("one after another", setting.sized("graph", "dense"), 1), ("", "auto", seeds)):
        what = f"LeNet-300-100, fp32, {seeds} seeds of {steps} steps, {said or f'--lockstep {seeds}'}"
        recipe = _recipe(setting, LENET_RUN, engine, *changes)
        with tempfile.TemporaryDirectory() as store:
            context = prepare(Request(recipe, Path(), Path(store), setting.device.type, lockstep=at_once))
            began = time.perf_counter()
            ends = {event.kind for event in work(context)}
            seconds = time.perf_counter() - began
        if not ends <= {"start", "progress", "done"}:
            raise RuntimeError(f"{what}: ended with {sorted(ends)}")
        ratio = None if base is None else base / seconds
        against = "" if base is None else "one after another"
        setting.tell(Measurement(what, seconds, "s", ratio=ratio, against=against))
        base = base or seconds


def _extrapolated(setting: Setting, what: str, text: str, engine: str, epoch: int, epochs: int) -> None:
    """Measure a level of one pass over the data and one of three, and write down what a study of `epochs` would take.

    Raises:
        NotHere: The longer level took no longer.
    """
    short, long = setting.sized((epoch, 3 * epoch), (4, 12))
    taken = {steps: _level_seconds(setting, text, engine, steps, short) for steps in (short, long)}
    said = f"levels of {short} and {long} steps: {taken[short]:.2f} s and {taken[long]:.2f} s"
    a_step = (taken[long] - taken[short]) / (long - short)
    if a_step <= 0:
        raise NotHere(f"{said}, too short to tell")
    level = max(taken[short] - short * a_step, 0.0) + epochs * epoch * a_step
    setting.tell(Measurement(what, SEEDS * (1 + LEVELS) * level / 3600, "hours", note=f"from {said}"))


def _level_seconds(setting: Setting, text: str, engine: str, steps: int, every: int) -> float:
    """Return the seconds of the second level of a study, all that is stored of it included."""
    lengths = (f"train.length={steps}it", f"train.evaluate_every={every}it", "prune.levels=2")
    return seconds_by_job(_recipe(setting, text, engine, *lengths), Path(), setting.device.type)["ticket", 2]


def bench(setting: Setting) -> None:
    """Run `lottery bench` on the device, for the cases whose data are there.

    Raises:
        NotHere: It is a dry run, or no data are there.
    """
    if setting.dry:
        raise NotHere("these are trainings of full size; `lottery bench` runs them on a CPU")
    cases = {"MNIST": ("lenet", "lenet-adam"), "cifar-10-batches-py": ("resnet20", "resnet20-bf16")}
    chosen = [case for folder, those in cases.items() if (data_root() / folder).is_dir() for case in those]
    if not chosen:
        raise NotHere(f"neither MNIST nor CIFAR-10 is in {data_root()}; LOTTERY_DATA names the folder")
    options = ("--device", "cuda", "--turns", "3", "--json", "--log", str(setting.log / "bench.jsonl"))
    done = subprocess.run(
        [sys.executable, "-m", "lottery", "bench", *chosen, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise RuntimeError(f"lottery bench left with exit code {done.returncode}")
    for row in json.loads(done.stdout):
        spread = {"low": row["base_seconds"] / row["high"], "high": row["base_seconds"] / row["low"]}
        against = {"ratio": row["ratio"], "against": "the bare loop"}
        setting.tell(Measurement(f"bench {row['case']}", row["seconds"], "s", repeats=3, **spread, **against))
