"""Which engine is taken, and the one with another matrix library; the others have tests of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor, nn

from lottery.catalogue.models._perceptron import Perceptron
from lottery.device import Machine
from lottery.engines import choose
from lottery.engines.choices import Choices
from lottery.engines.choose import LEAST_STEPS, engine_for
from lottery.engines.compiled import ahead
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from lottery.results.study import study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.training.engine import DenseEngine, OneDnnEngine, onednn_is_exact
from lottery.training.objective import Objective
from lottery.training.trainer import Stopped
from tests.support.micro import micro
from tests.support.perceptrons import OPTIMIZERS, STUDY, batch, mask_of, network, values
from tests.support.restarts import contents, run_until_stopped

MKLDNN: Any = torch.backends.mkldnn
AHEAD = [sys.executable, "-m", "lottery.engines.compiled.ahead", "2"]
exact = pytest.mark.skipif(not onednn_is_exact(), reason="oneDNN rounds to bfloat16 on this processor")


@exact
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_with_onednn_are_the_dense_ones_within_rounding(optimizer: str) -> None:
    trained = []
    for kind in (DenseEngine, OneDnnEngine):
        made = network(optimizer, False)
        with masked(made[0], mask_of(made[0]), made[1]):
            engine = kind(made[2], made[1])
            for number in range(20):
                engine.step(*batch(number))
        trained.append([*values(made), engine.outputs(batch(99)[0])])
    for one, other in zip(*trained, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_torch_has_its_precision_back_whatever_happens() -> None:
    products = MKLDNN.matmul
    before = products.fp32_precision
    model, optimizer, objective = network("sgd", False)
    seen = []
    model.register_forward_pre_hook(lambda *_: seen.append(products.fp32_precision))
    engine = OneDnnEngine(objective, optimizer)
    engine.step(*batch(1))
    engine.outputs(batch(1)[0])
    with pytest.raises(RuntimeError):
        engine.outputs(torch.zeros(1, 3))
    assert seen == ["bf16"] * 3 and products.fp32_precision == before


def test_products_that_are_rounded_to_bfloat16_are_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    product = Tensor.__matmul__

    def rounded(a: Tensor, b: Tensor) -> Tensor:
        if a.dtype == torch.float32 and MKLDNN.matmul.fp32_precision == "bf16":
            a, b = a.bfloat16().float(), b.bfloat16().float()
        return product(a, b)

    monkeypatch.setattr(Tensor, "__matmul__", rounded)
    assert not onednn_is_exact.__wrapped__()


@exact
@pytest.mark.parametrize(("dense", "taken"), [(1.2, "onednn"), (1.05, "dense")])
def test_auto_takes_the_other_library_where_it_is_faster_by_a_tenth(
    step_seconds: dict[str, float], dense: float, taken: str
) -> None:
    step_seconds |= {"dense": dense, "onednn": 1.0}
    model = Perceptron((20,), 5, (16,), "batch", "tanh", 0.0, False)  # one that no kernel of ours trains
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mask = Mask.dense({name: p for name, p in model.named_parameters() if p.dim() == 2})
    batches = [(torch.randn(16, 20), torch.randint(5, (16,))) for _ in range(8)]

    def name(deterministic: bool) -> str:
        machine = Machine(torch.device("cpu"), 1, deterministic)
        found = engine_for(objective, optimizer, mask, "auto", machine, lambda: batches, steps=LEAST_STEPS)
        return found.name

    assert name(False) == taken
    assert name(True) == "dense"  # where bytes must come out equal no clock decides


def taken(choices: Choices, *, density: float = 0.25, steps: int = 10, deterministic: bool = False) -> str:
    """The engine of a short training of a run that has chosen some before."""
    model = Perceptron((20,), 5, (16,), "none", "relu", 0.0, False)
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    draws = torch.Generator().manual_seed(0)
    weights = {name: p for name, p in model.named_parameters() if p.dim() == 2}
    mask = Mask({name: torch.rand(p.shape, generator=draws) < density for name, p in weights.items()})
    batches = [(torch.randn(16, 20), torch.randint(5, (16,))) for _ in range(8)]
    machine = Machine(torch.device("cpu"), 1, deterministic)
    return engine_for(objective, optimizer, mask, "auto", machine, lambda: batches, steps=steps, choices=choices).name


class Stub(DenseEngine):
    """What stands for an engine whose kernels are not needed to measure it."""

    name = "sparse"


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Engines whose kernels are said to be kept on disk; nothing is compiled."""
    made = choose._made
    monkeypatch.setattr(
        choose,
        "_made",
        lambda name, *about, **more: Stub(*about[:2]) if name == "sparse" else made(name, *about, **more),
    )
    found = {"sparse", "background"}
    monkeypatch.setattr(ahead, "is_kept", lambda name, threads: name in found)
    monkeypatch.setattr(subprocess, "Popen", Process)
    started.clear()
    return found


started: list[object] = []


class Process:
    """A process that compiles without end."""

    def __init__(self, *arguments: object, **options: object):
        started.append(arguments)

    def kill(self) -> None:
        """Nothing is there."""

    def poll(self) -> None:
        """It has not ended."""


@pytest.mark.usefixtures("kept")
def test_short_trainings_of_a_run_that_has_many_of_them_are_not_left_to_the_dense_engine(
    step_seconds: dict[str, float],
) -> None:
    step_seconds |= {"dense": 1.0, "onednn": 2.0, "sparse": 0.5}
    assert taken(Choices(LEAST_STEPS)) == "sparse"
    assert taken(Choices(LEAST_STEPS - 1)) == "dense"
    assert taken(Choices(LEAST_STEPS), deterministic=True) == "dense"  # alone or among others it must be the same


@pytest.mark.usefixtures("kept")
def test_trainings_alike_are_measured_once_in_a_run(step_seconds: dict[str, float]) -> None:
    choices = Choices(LEAST_STEPS)
    step_seconds |= {"dense": 1.0, "onednn": 2.0, "sparse": 0.5}
    assert taken(choices) == "sparse"
    step_seconds["sparse"] = 1.5
    assert taken(choices) == "sparse"  # the clock is not asked again
    assert taken(choices, density=0.9) == "dense"  # another density is another question
    step_seconds["sparse"] = 0.5
    assert taken(choices, density=0.9) == "dense" and taken(Choices(LEAST_STEPS), density=0.9) == "sparse"


def test_what_is_not_compiled_yet_is_not_waited_for_but_compiled_meanwhile_once(
    step_seconds: dict[str, float], kept: set[str]
) -> None:
    choices = Choices(LEAST_STEPS)
    step_seconds |= {"dense": 1.0, "onednn": 2.0, "sparse": 0.5}
    kept.clear()
    assert [taken(choices) for _ in range(3)] == ["dense"] * 3
    assert len(started) == 1
    kept.add("sparse")
    assert taken(choices) == "sparse" and len(started) == 1


@pytest.mark.slow
def test_kernels_compiled_beside_a_run_are_kept_for_the_next_process(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, stdin=subprocess.PIPE, capture_output=True, text=True
        )
        return done.stdout.strip()

    about = "from lottery.engines.compiled.ahead import NAMES, is_kept; "
    about += "print(*(is_kept(name, threads) for threads in (1, 2) for name in NAMES))"
    assert python("-c", about) == " ".join(["False"] * 4)
    process = subprocess.Popen(AHEAD, env=environment, stdin=subprocess.PIPE)
    assert process.wait(300) == 0
    assert python("-c", about) == " ".join(["True"] * 4)
    hits = "from lottery.engines.compiled import ahead, kernels; ahead.make_ready('sparse', 2); "
    assert python("-c", hits + "print(kernels.step(2).stats.cache_misses.total())") == "0"


@pytest.mark.slow
def test_kernels_that_are_waited_for_are_compiled_by_another_process(tmp_path: Path) -> None:
    program = """
from lottery.engines.compiled import ahead, kernels
ahead.compile_apart("sparse", 1, lambda: False)
ahead.make_ready("sparse", 1)
print(ahead.is_kept("sparse", 1), ahead.is_kept("background", 1), kernels.step(1).stats.cache_misses.total())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False", "0"], done.stderr


def test_a_run_that_is_told_to_stop_does_not_wait_for_who_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[subprocess.Popen[bytes]] = []

    def sleeper(threads: int, *names: str) -> subprocess.Popen[bytes]:
        found.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]))
        return found[0]

    monkeypatch.setattr(ahead, "is_kept", lambda name, threads: False)
    monkeypatch.setattr(ahead, "_started", sleeper)
    looks = iter([False, True])
    with pytest.raises(Stopped):
        ahead.compile_apart("sparse", 1, lambda: next(looks))
    assert found[0].returncode is not None and found[0].returncode != 0


def test_a_run_goes_on_as_soon_as_anybody_has_compiled_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    kept, looks = iter([False, False, True]), iter([False] * 5)  # after five looks this test fails
    monkeypatch.setattr(ahead, "is_kept", lambda name, threads: next(kept))
    monkeypatch.setattr(ahead, "_started", lambda threads, *names: sleeper)
    ahead.compile_apart("sparse", 1, lambda: next(looks))
    assert sleeper.returncode is not None and sleeper.returncode != 0


class Compiler:
    """The program that compiles, in this process: it notes what it was to compile and whether it had the lock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.lock = folder / "lock"
        self.done: list[tuple[str, int, bool]] = []
        self._patch = monkeypatch
        monkeypatch.setattr(ahead, "_lock", lambda: FileLock(self.lock))
        monkeypatch.setattr(ahead, "_leave_with_stdin", lambda: None)
        monkeypatch.setattr(ahead, "make_ready", self._make_ready)
        monkeypatch.setattr(ahead, "is_kept", lambda name, threads: (name, threads) in [one[:2] for one in self.done])
        monkeypatch.setattr(os, "nice", lambda by: None)

    def start(self, *words: str) -> threading.Thread:
        """Run it with these words in a thread."""
        self._patch.setattr(sys, "argv", ["ahead", *words])
        thread = threading.Thread(target=ahead._main, daemon=True)
        thread.start()
        return thread

    def _make_ready(self, name: str, threads: int) -> None:
        self.done.append((name, threads, ahead._is_compiling()))
        time.sleep(0.1)


def test_who_compiles_does_not_wait_for_long_for_another_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler(tmp_path, monkeypatch)
    monkeypatch.setattr(ahead, "LOCK_SECONDS", 0.2, raising=False)
    with FileLock(compiler.lock):
        thread = compiler.start("2", "sparse")
        thread.join(10)
        assert not thread.is_alive() and compiler.done == [("sparse", 2, True)]
        beside = compiler.start("2")  # what nobody waits for is left to the other
        beside.join(10)
        assert not beside.is_alive() and len(compiler.done) == 1


def test_what_a_training_waits_for_is_compiled_before_what_it_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler(tmp_path, monkeypatch)
    beside = compiler.start("2")
    while not compiler.done:
        time.sleep(0.01)
    waiting = compiler.start("2", "background")
    for thread in (beside, waiting):
        thread.join(20)
        assert not thread.is_alive()
    assert compiler.done[:2] == [("sparse", 1, True), ("background", 2, True)]
    assert sorted(compiler.done[2:]) == [("background", 1, True), ("sparse", 2, True)]


@pytest.mark.slow
def test_who_compiles_leaves_with_the_run_that_started_it(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    process = subprocess.Popen(AHEAD, env=environment, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 1


@exact
def test_a_study_with_onednn_stopped_anywhere_continues_to_the_same_bytes_and_names_the_engine(tmp_path: Path) -> None:
    recipe = micro(*STUDY, "train.engine=onednn", "model.norm=batch")

    def request(store: str) -> Request:
        return Request(recipe, Path("nowhere"), tmp_path / store, device="cpu", deterministic=True)

    list(work(prepare(request("whole"))))
    for steps in (1, 18, 44, 61):
        run_until_stopped(request("broken"), steps)
    list(work(prepare(request("broken"))))
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    found = study(recipe, store=tmp_path / "whole").found
    assert {engine for record in found.values() for engine in record.manifest.engines} == {"onednn"}


def test_another_library_is_refused_where_it_is_of_no_use() -> None:
    def refused(objective: Objective, optimizer: torch.optim.Optimizer) -> str:
        machine = Machine(torch.device("cpu"), 1, True)
        mask = Mask.dense({name: p for name, p in objective.model.named_parameters() if p.dim() > 1})
        with pytest.raises(UsageError) as told:
            engine_for(objective, optimizer, mask, "onednn", machine, list, steps=1)
        return str(told.value)

    convolution = nn.Conv2d(1, 1, 3)
    objective = Objective(convolution, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    assert "train.engine: onednn is for fully connected networks" in refused(
        objective, torch.optim.SGD(convolution.parameters())
    )
    model, _, objective = network("sgd", False)
    assert "knows the optimizers" in refused(objective, torch.optim.RMSprop(model.parameters()))


def test_a_density_is_measured_only_among_engines_that_others_do_not_rule_out() -> None:
    asked = list[list[str | None]]()
    choices, names = Choices(), [None, "background", "sparse"]

    def fastest(density: float, found: str | None, among: Sequence[str | None] = names) -> str | None:
        def measure(left: Sequence[str | None]) -> str | None:
            asked.append(list(left))
            return found

        return choices.fastest({}, density, among, measure)  # type: ignore[arg-type]

    assert fastest(1, "background", names[:2]) == "background"
    assert fastest(0.8, "background") == "background"  # dense steps cost no less than before, so they are out
    assert fastest(0.75, "unasked") == "background"  # about the same density
    assert fastest(0.4, "sparse") == "sparse"
    assert fastest(0.02, "unasked") == "sparse"  # of all, its cost falls the most
    assert fastest(0.5, "background") == "background"
    assert fastest(0.9, "unasked") == "background"
    assert asked == [[None, "background"], ["background", "sparse"], ["background", "sparse"], ["background", "sparse"]]
    assert fastest(0.3, "onednn", [*names, "onednn"]) == "onednn"  # one that was not there before is measured


def test_a_run_of_dense_and_sparse_trainings_never_imports_torch_s_compiler(tmp_path: Path) -> None:
    """It takes about a second of a process, and 160 MB."""
    (tmp_path / "micro.json").write_text(json.dumps(micro("train.engine=sparse").canonical()))
    places = ["--store", str(tmp_path / "runs"), "--data", "nowhere", "--device", "cpu"]
    code = (
        "import sys\n"
        "from lottery.cli.main import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print({'torch', 'numba', 'torch._dynamo', 'sympy'} & set(sys.modules), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "run", str(tmp_path / "micro.json"), *places]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stderr.splitlines()[-1].strip("{}").split(", ")) == {"'torch'", "'numba'"}
