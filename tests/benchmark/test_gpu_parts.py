"""Parts of the stages of `make gpu` that only a GPU reaches, with stand-ins for its tools."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu import clock, facts, mps, runs, together
from benchmarks.gpu.mps import PIPES, service
from benchmarks.gpu.stage import NotHere, Setting
from tests.support.gpu_stages import read

CONTROL = """#!/bin/sh
echo "$1 $CUDA_MPS_PIPE_DIRECTORY" >> {folder}/calls
if [ "$1" = -f ]; then
    [ -e {folder}/refuse ] && echo "not permitted" && exit 1
    touch "$CUDA_MPS_PIPE_DIRECTORY/up"
    while [ ! -e "$CUDA_MPS_PIPE_DIRECTORY/quit" ]; do sleep 0.05; done
    exit 0
fi
[ -e "$CUDA_MPS_PIPE_DIRECTORY/up" ] || exit 1
read command
[ "$command" = quit ] && touch "$CUDA_MPS_PIPE_DIRECTORY/quit"
[ "$command" = get_server_list ] && echo 4711
exit 0
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for NVIDIA's daemon on the path; returns its folder."""
    script = tmp_path / mps.CONTROL
    script.write_text(CONTROL.format(folder=tmp_path))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def test_the_service_of_nvidia_runs_in_folders_of_its_own_and_is_ended(control: Path) -> None:
    with service() as variables:
        pipes = Path(variables[PIPES])
        assert pipes.is_dir() and mps.servers(variables) == "4711"
    calls = (control / "calls").read_text().splitlines()
    assert f"-f {pipes}" in calls and {call.split()[-1] for call in calls} == {str(pipes)}
    assert not pipes.exists()


def test_where_the_service_cannot_be_started_the_reason_is_told(control: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (control / "refuse").touch()
    with pytest.raises(NotHere, match="left with exit code 1: not permitted"), service():
        pass
    monkeypatch.setenv("PATH", str(control / "nowhere"))
    with pytest.raises(NotHere, match="nvidia-cuda-mps-control cannot be started: No such file"), service():
        pass


def test_processes_side_by_side_are_added_up_without_and_with_the_service(
    control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "SIDE", "tests.support.gpu_stages")
    monkeypatch.setattr(together, "LOADS", {"a network": None})
    setting = Setting(tmp_path / "found", True, 60.0, tmp_path)
    together.processes(setting)
    *rates, served = read(setting.file)
    assert [(each.what, each.value, each.ratio) for each in rates] == [
        ("a network, 1 process", 10.0, None),
        ("a network, 2 processes", 20.0, 2.0),
        ("a network, 2 processes, with MPS", 20.0, 2.0),
    ]
    assert (served.holds, served.note) == (True, "4711")


def test_time_in_which_several_kernels_overlap_counts_once() -> None:
    draws = random.Random(0)
    starts = [draws.randrange(200) for _ in range(40)]
    intervals = [(start, start + draws.randrange(1, 9)) for start in starts]
    ticks = {tick for start, end in intervals for tick in range(start, end)}
    assert runs.busy((float(start), float(end)) for start, end in intervals) == len(ticks)
    assert runs.busy([]) == 0


class Event:
    """What torch's profiler tells of a kernel, as far as it is read; times in µs."""

    def __init__(self, name: str, start: float, end: float, device: DeviceType, annotation: bool = False):
        self.name, self.device_type, self.is_user_annotation = name, device, annotation
        self.time_range = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)


def test_the_share_of_kernels_is_of_the_time_without_the_profiler_and_annotations_are_none(tmp_path: Path) -> None:
    events = [
        Event("gemm", 0, 40, DeviceType.CUDA),
        Event("copy", 30, 50, DeviceType.CUDA),  # at the same time, in part
        Event("gemm", 80, 100, DeviceType.CUDA),
        Event("Optimizer.step", 0, 100, DeviceType.CUDA, annotation=True),
        Event("cudaGraphLaunch", 0, 100, DeviceType.CPU),
    ]
    setting = Setting(tmp_path / "found", False, 10.0, tmp_path)
    runs._tell_kernels(setting, "a run", SimpleNamespace(events=lambda: events), seconds=200e-6, steps=2)  # type: ignore[arg-type]
    share, step, kernels = read(setting.file)
    assert share.value == pytest.approx(35) and share.note == "most in gemm (75%), copy (25%)"
    assert (step.value, kernels.value) == (pytest.approx(0.1), 1.5)


def test_memory_that_grows_does_not_hold(tmp_path: Path) -> None:
    setting = Setting(tmp_path / "found", False, 10.0, tmp_path)
    runs._tell_growth(setting, "replays", (0, 10**6), (10**6, 10**7))
    assert [(each.holds, each.value) for each in read(setting.file)] == [(True, 1.0), (False, 9.0)]


@pytest.mark.parametrize("left", [4.0, 6.0])
def test_a_part_of_a_stage_is_left_out_where_its_time_is_up(tmp_path: Path, left: float) -> None:
    setting, done = Setting(tmp_path / "found", False, 5 + left, tmp_path), list[str]()
    setting.file.touch()
    setting.attempt("a part", lambda: done.append("a part"))
    assert bool(done) == (left > 5)
    assert [each.note for each in read(setting.file)] == ([] if done else ["not measured: no time was left"])


def test_the_time_of_a_call_is_that_of_its_repeats_by_the_events_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class Timer:
        def __init__(self, enable_timing: bool):
            self.at = -1

        def record(self) -> None:
            self.at = len(calls)

        def elapsed_time(self, other: Timer) -> float:
            return 3.0 * (other.at - self.at)  # ms

    monkeypatch.setattr(torch.cuda, "Event", Timer)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    found = clock.seconds_per_call(lambda: calls.append(1), torch.device("cuda"))
    assert found == pytest.approx([3e-3] * clock.REPEATS)
    assert len(calls) == clock.WARM_UP + 1 + 1000 * clock.REPEATS


SMI = """#!/bin/sh
echo "$@" > {folder}/asked
echo "570.1, 700.00 W, 1980 MHz, Default, Disabled"
"""


def test_the_facts_of_a_gpu_have_device_driver_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(SMI.format(folder=tmp_path))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    about = SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    for name, value in {
        "is_available": True,
        "device_count": 2,
        "get_device_name": "made up",
        "get_device_properties": about,
        "mem_get_info": (90 * 10**9, 100 * 10**9),
        "memory_reserved": 10**9,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *given, value=value: value)
    found = facts.environment(torch.device("cuda"))
    assert (found["device"], found["driver_version"], found["compute_mode"]) == ("made up", "570.1", "Default")
    assert (found["capability"], found["memory_gb"], found["used_by_others_gb"]) == ("9.0", 100.0, 9.0)
    assert {"torch", "cuda", "cudnn", "python"} <= found.keys()
    assert "--id=3" in (tmp_path / "asked").read_text()
    script.write_text("#!/bin/sh\nexit 9\n")
    assert "driver_version" not in facts.environment(torch.device("cuda"))
