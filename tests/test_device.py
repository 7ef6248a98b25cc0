"""The machine that a run finds: how many processors are its own, and which GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import lottery
from lottery import registry
from lottery.device import GPUS, PRODUCTS, UNCOMPILED_ATTRIBUTE, Machine, computes_bf16, cores, machine, prepared
from lottery.errors import UsageError
from lottery.executors import worker


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to processors")
def test_a_process_counts_the_processors_it_is_bound_to_and_no_others() -> None:
    bound = os.sched_getaffinity(0)
    assert cores() <= len(bound)
    try:
        os.sched_setaffinity(0, {min(bound)})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, bound)


def test_the_environment_can_lower_the_number_of_processors_and_never_raise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cores()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert cores() == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(here + 7))
    assert cores() == here


BACKENDS: Any = torch.backends
MEMORY: Any = torch.utils.deterministic


def products() -> dict[str, str]:
    """How torch computes products of float32, by library and operation."""
    places = {place: place.split(".") for place in PRODUCTS}
    return {
        place: getattr(getattr(torch.backends, library), operation).fp32_precision
        for place, (library, operation) in places.items()
    }


def older_switches() -> list[object]:
    """What the two older switches say; `raises` where they do not agree with the newer ones."""
    found: list[object] = []
    for switch in (torch.get_float32_matmul_precision, lambda: torch.backends.cudnn.allow_tf32):
        try:
            found.append(switch())
        except RuntimeError:
            found.append("raises")
    return found


@pytest.fixture
def own_switches() -> Iterator[None]:
    """Whatever a test sets, torch computes as it did before it."""
    yield
    BACKENDS.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for place in PRODUCTS:
        library, operation = place.split(".")
        getattr(getattr(torch.backends, library), operation).fp32_precision = "none"
    cudnn: Any = torch.backends.cudnn
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"


SWITCHES: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "the older one of products": lambda: torch.set_float32_matmul_precision("high"),
    "the older one of cuDNN": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "the newer one of all": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "the newer one of products": lambda: setattr(BACKENDS.cuda.matmul, "fp32_precision", "tf32"),
    "the newer one of convolutions": lambda: setattr(BACKENDS.cudnn.conv, "fp32_precision", "ieee"),
}


@pytest.mark.usefixtures("own_switches")
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("switch", SWITCHES)
def test_the_precision_is_that_of_the_recipe_whatever_switch_a_program_has_set_and_its_own_after_it(
    switch: str, precision: str
) -> None:
    SWITCHES[switch]()
    before = products(), older_switches()
    with prepared(Machine(torch.device("cpu"), 1, deterministic=False), precision):
        inside = products()
        assert {inside[place] for place in ("cuda.matmul", "cudnn.conv", "cudnn.rnn")} == {
            "ieee" if precision == "fp32" else "tf32"
        }
        assert precision != "fp32" or set(inside.values()) == {"ieee"}
        assert "raises" not in older_switches()  # torch itself reads them
        with torch.backends.cudnn.flags(enabled=False):
            pass
    if "raises" in before[1]:
        assert products() == before[0]
    else:
        assert (products(), older_switches()) == before


def test_new_memory_is_not_filled_in_a_deterministic_run(own_filling: bool) -> None:
    with prepared(Machine(torch.device("cpu"), 1, deterministic=True), "fp32"):
        assert torch.are_deterministic_algorithms_enabled()
        assert not MEMORY.fill_uninitialized_memory
    assert MEMORY.fill_uninitialized_memory is own_filling


@pytest.mark.parametrize("own", ["default", "warn", "error"])
@pytest.mark.parametrize("plugins", [{}, {"mynet": "0"}])
def test_a_programs_own_determinism_is_put_back(
    own: str, plugins: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "plugins", lambda: plugins)
    for deterministic in (True, False):
        torch.set_deterministic_debug_mode(own)
        mode = torch.get_deterministic_debug_mode()
        try:
            with prepared(Machine(torch.device("cpu"), 1, deterministic=deterministic), "fp32"):
                assert torch.are_deterministic_algorithms_enabled() is deterministic
                assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert torch.get_deterministic_debug_mode() == mode
        finally:
            torch.set_deterministic_debug_mode("default")


STEPPED = ("SGD", "Adam", "AdamW", "Adagrad", "Adadelta", "RMSprop", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop")


def test_no_optimizer_imports_the_compiler_of_torch() -> None:
    """It takes as long as importing torch, and 160 MB."""
    code = (
        "import sys, torch\n"
        "from lottery.device import machine, prepared\n"
        "for deterministic in (True, False):\n"
        "    with prepared(machine('cpu', deterministic=deterministic), 'fp32'):\n"
        f"        for name in {STEPPED}:\n"
        "            weight = torch.ones(1, requires_grad=True)\n"
        "            optimizer = getattr(torch.optim, name)([weight], lr=0.1)\n"
        "            optimizer.zero_grad()\n"
        "            optimizer.load_state_dict(optimizer.state_dict())\n"
        "            weight.sum().backward()\n"
        "            optimizer.step()\n"
        "            assert weight.item() != 1\n"
        "print({'torch._dynamo', 'torch._inductor', 'sympy'} & set(sys.modules))\n"
        "optimizer.step()\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "True"]  # outside it is torch's own way again


def test_a_run_that_ends_beside_another_leaves_nothing_of_its_own_in_the_methods_of_optimizers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)  # with which there is nothing to do
    method = torch.optim.Optimizer.zero_grad.__wrapped__  # type: ignore[attr-defined]
    vars(method).pop(UNCOMPILED_ATTRIBUTE, None)
    before = dict(vars(method))
    with pytest.raises(ZeroDivisionError), prepared(machine("cpu"), "fp32"):
        vars(method).pop(UNCOMPILED_ATTRIBUTE, None)  # as the other one does that began before and ends before
        raise ZeroDivisionError
    assert vars(method) == before


def test_a_step_without_the_compiler_is_torch_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)  # as before anything has imported it
    after: list[list[float]] = []

    def steps() -> None:
        weight = torch.linspace(-1, 1, 7, requires_grad=True)
        optimizer = torch.optim.Adam([weight], lr=0.1)
        optimizer.register_step_post_hook(lambda *_: after.append(weight.tolist()))

        def closure() -> torch.Tensor:
            with torch.enable_grad():
                optimizer.zero_grad()
                loss = (weight**4).sum()
                loss.backward()
            return loss

        for _ in range(3):
            assert optimizer.step(closure).requires_grad
            assert torch.is_grad_enabled()

    with prepared(machine("cpu"), "fp32"):
        steps()
    monkeypatch.undo()
    steps()
    assert len(after) == 6  # a hook is called once a step
    assert after[:3] == after[3:]


@pytest.fixture(params=[True, False])
def own_filling(request: pytest.FixtureRequest) -> Iterator[bool]:
    """What the program around a run has said of new memory."""
    before = MEMORY.fill_uninitialized_memory
    MEMORY.fill_uninitialized_memory = request.param
    yield request.param
    MEMORY.fill_uninitialized_memory = before


def test_a_gpu_that_only_makes_bfloat16_up_does_not_count_as_one_that_computes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not computes_bf16(torch.device("cuda"))


def test_the_work_space_of_cublas_is_fixed_before_the_first_product_of_a_process() -> None:
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]  # a deterministic run may come second


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand-ins for two GPUs; returns the numbers that were made the current one."""
    current = [0]
    for name, stand_in in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_name": lambda one: f"GPU {getattr(one, 'index', one)}",
        "current_device": lambda: current[-1],
        "set_device": current.append,
        "get_rng_state_all": list,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return current


def test_a_numbered_gpu_is_the_one_that_jobs_train_on_and_the_current_one_while_they_do(two_gpus: list[int]) -> None:
    second = machine("cuda:1")
    assert second.device == torch.device("cuda", 1) and second.environment()["device"] == "GPU 1"
    with prepared(second, "fp32"):
        assert torch.cuda.current_device() == 1
    assert two_gpus == [0, 1, 0]
    assert machine("cuda").device == machine("auto").device == torch.device("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"^--device cuda:2: there are cuda:0 \(GPU 0\), cuda:1 \(GPU 1\)$"):
        machine("cuda:2")
    with pytest.raises(UsageError, match="each of the ranks has a GPU of its own; write --device cuda"):
        machine("cuda:1", ranks=2, ranks_here=2, local_rank=0)


def test_without_gpus_a_number_is_none_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda:1: torch sees no CUDA device here; use --device cpu"):
        machine("cuda:1")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "auto:1", "cuda:1:2", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="there are auto, cpu, cuda, and cuda:1 for the GPU of that number"):
        machine(device)


@pytest.mark.usefixtures("two_gpus")
def test_processes_of_one_run_all_have_the_gpu_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(GPUS, raising=False)
    worker._take_gpu(1, "cuda:1")
    assert GPUS not in os.environ  # where it would be the only one, number 0


def test_a_numbered_gpu_is_refused_where_an_executor_gives_gpus_to_its_workers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--device cuda:1: the executor gives GPUs to its workers"):
        lottery.run("quickstart", store=tmp_path, device="cuda:1", on="local")
    assert not any(tmp_path.iterdir())
