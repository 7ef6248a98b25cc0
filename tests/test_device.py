"""The machine that a run finds: how many processors are its own, and which GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import lottery
from lottery.device import GPUS, cores, machine, prepared
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
