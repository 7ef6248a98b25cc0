"""Stages that measure no time: whether steps can be recorded, and whether they compute what dense steps do."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.child import HARMLESS
from benchmarks.gpu.drive import ROOT
from benchmarks.gpu.networks import (
    DENSENET,
    LENET_DROPOUT,
    RESNET,
    Kind,
    errors_for_warnings,
    graph_engine,
    network,
    recorder,
)
from benchmarks.gpu.stage import Measurement, NotHere, Setting
from lottery.device import Machine, prepared

OPTIMIZERS = (
    *("sgd", "momentum", "nesterov", "adam", "adamw", "amsgrad"),  # fused: a CPU can record them, too
    *("adadelta", "rmsprop", "adamax", "nadam"),
)
FUSED = 6
SAME_BYTES = "same_bytes"  # in the names of the tests that run a study twice
NO_PLUGINS = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
TESTS = ("tests/engines/test_gpu.py", "tests/data/test_splits.py", "tests/landscape/test_surface.py")
STOPPED = "tests/runner/test_resume_optimizers.py"


def poisoned(setting: Setting) -> None:
    """Fail to record a step that draws random numbers, then draw, record and replay as if nothing had happened."""
    device = setting.device
    records = recorder(device)
    x, drawn = torch.ones(4096, device=device), torch.empty(4096, device=device)

    def draw() -> None:
        drawn.copy_(functional.dropout(x))

    def fails() -> None:
        draw()
        drawn.sum().item()  # the host may not read while a step is recorded

    def failing() -> str:
        try:
            records.record(fails)
        except RuntimeError as error:
            return str(error).strip().partition("\n")[0]
        raise AssertionError("the host has read a value of a step that was being recorded")

    def draws() -> str:
        torch.manual_seed(0)
        draw()
        if not torch.equal(drawn, wanted):
            raise AssertionError("other random numbers than before")
        return ""

    def replays() -> str:
        replay, found = records.record(draw), list[Tensor]()
        torch.manual_seed(0)
        for _ in range(2):
            replay()
            found.append(drawn.clone())
        if torch.equal(*found):
            raise AssertionError("two replays drew the same random numbers")
        if not torch.equal(found[0], wanted):
            raise AssertionError("a replay draws other random numbers than the step itself")
        return ""

    torch.manual_seed(0)
    draw()
    wanted = drawn.clone()
    setting.check("a recording that reads a value raises", failing)
    setting.check("random numbers after it are those of before", draws)
    setting.check("a step is recorded and replayed after it", replays)
    if device.type == "cuda":  # last: nothing mends the generator afterwards
        torch.cuda.synchronize()
        setting.tell(Measurement("torch alone, after a failed recording", note=_torch_alone(fails, draw)))


def _torch_alone(fails: Callable[[], None], draw: Callable[[], None]) -> str:
    """Return how torch's own generator fares where nobody puts it right."""
    current = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            fails()
    except RuntimeError:
        pass
    finally:
        torch.cuda.set_stream(current)
    try:
        draw()
        torch.cuda.synchronize()
    except RuntimeError as error:
        return f"draws raise: {str(error).partition(chr(10))[0]}"
    return "draws work"


def recording(setting: Setting) -> None:
    """Record and replay steps of several networks by several optimizers; a warning counts as a failure."""
    errors_for_warnings()
    precisions = ("fp32", "tf32", "bf16")
    networks = [(kind, precision, kind.optimizer) for kind in (RESNET, DENSENET) for precision in precisions]
    perceptrons = [(LENET_DROPOUT, "fp32", name) for name in OPTIMIZERS[: setting.sized(None, FUSED)]]
    for kind, precision, optimizer in (*perceptrons, *networks[: setting.sized(None, 1)]):
        what = f"{kind.label}, {optimizer}, {precision}: steps are recorded"
        setting.check(what, partial(_recorded, setting, kind, precision, optimizer))


def _recorded(setting: Setting, kind: Kind, precision: str, optimizer: str) -> str:
    steps = 8
    with prepared(Machine(setting.device, 1, deterministic=False), precision):
        found = network(kind, setting.device, precision=precision, optimizer=optimizer, dry=setting.dry, clip=1.0)
        engine = graph_engine(found, setting.device)
        step = found.stepping(engine)
        losses = [step().item() for _ in range(steps)]
    if (engine.name, engine.recorded) != ("graph", 1) or engine.replayed < 4:
        raise AssertionError(f"{engine.name}: {engine.recorded} recordings, {engine.replayed} replays of {steps} steps")
    if not all(loss == loss for loss in losses):
        raise AssertionError(f"losses {losses}")
    return f"{engine.replayed} of {steps} replayed"


def tests(setting: Setting) -> None:
    """Run the tests of a GPU, but those that run a study twice."""
    _run_tests(setting, f"not {SAME_BYTES}", TESTS)


def same_bytes(setting: Setting) -> None:
    """Run the tests that train a study twice, deterministic, and compare what was stored, byte by byte."""
    _run_tests(setting, SAME_BYTES, TESTS[:1])


def stopped(setting: Setting) -> None:
    """Run the tests that stop a training by each optimizer and compare what it continues to, byte by byte."""
    _run_tests(setting, SAME_BYTES, (STOPPED,))


def _run_tests(setting: Setting, chosen: str, files: Sequence[str]) -> None:
    """Run tests marked `gpu` with warnings as errors, and write down each as it ends, then how many passed.

    Raises:
        NotHere: pytest is not installed.
    """
    if importlib.util.find_spec("pytest") is None:
        raise NotHere("pytest is not installed in this environment")
    os.environ[NO_PLUGINS] = "1"  # others that are installed there have warnings of their own
    options = ["-p", "no:cacheprovider", "-W", "error::UserWarning", "-W", f"ignore:{HARMLESS}:UserWarning"]
    options += ["-m", "gpu", "-k", chosen, *files]
    if setting.dry:
        command = [sys.executable, "-m", "pytest", *options, "--collect-only", "-q"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"the tests cannot be collected: {done.stdout}{done.stderr}")
        collected = sum("::" in line for line in done.stdout.splitlines())
        setting.skip(f"{collected} tests, collected", "they need a GPU")
        return
    import pytest

    teller = Teller(setting)
    code = pytest.main([*options, "-v"], plugins=[teller])
    teller.tell_counts(int(code))


class Teller:
    """A plugin of pytest that writes down each test as soon as it ends: the stage may be cut before the last one.

    Args:
        setting: Where the tests are run and written down.
    """

    def __init__(self, setting: Setting):
        self._setting = setting
        self._counts = dict.fromkeys(("passed", "failed", "skipped"), 0)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Write down a test that has run, or could not."""
        if report.outcome == "passed" and report.when != "call":
            return
        self._counts[report.outcome] += 1
        crash = getattr(report.longrepr, "reprcrash", None)
        why = "" if report.outcome == "passed" else str(getattr(crash, "message", report.longrepr)).strip()
        name, note = f"test {report.nodeid.rpartition('::')[2]}", why.partition("\n")[0][:300]
        if report.outcome == "skipped":  # for want of a package that is not needed, say
            self._setting.skip(name, str(report.longrepr[-1]))
        else:
            holds = report.outcome == "passed"
            self._setting.tell(Measurement(name, report.duration, "s", holds=holds, note=note))

    def tell_counts(self, code: int) -> None:
        """Write down how many passed; `code` is pytest's exit code.

        Raises:
            RuntimeError: No test was run.
        """
        if not any(self._counts.values()):
            raise RuntimeError(f"pytest left with exit code {code} and ran no test")
        note = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        passed, good = self._counts["passed"], self._counts["passed"] > 0 and not self._counts["failed"]
        self._setting.tell(Measurement("tests that passed", float(passed), "tests", holds=good, note=note))
