"""The machine: device, driver, versions, and what a launch costs; it goes with each measurement of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu.clock import seconds_per_call
from benchmarks.gpu.mps import CONTROL
from benchmarks.gpu.stage import Setting, median
from lottery.device import cores, machine

ASKED = ("driver_version", "power.limit", "clocks.max.sm", "compute_mode", "mig.mode.current")


def facts(setting: Setting) -> None:
    """Write down what the machine is, then how long it takes to launch an operation on the smallest tensor."""
    setting.tell_environment(environment(setting.device))
    small = torch.zeros((), device=setting.device)
    launches = seconds_per_call(lambda: small.add_(1), setting.device, dry=setting.dry)
    setting.tell(replace(median([1e6 * each for each in launches]), what="launch of one operation", unit="µs"))


def environment(device: torch.device) -> dict[str, Any]:
    """Return what the log keeps of the machine: as `lottery bench` does, and driver and versions of a GPU beside it."""
    known: dict[str, Any] = machine(device.type).environment()
    known |= {"cuda": torch.version.cuda, "cores": cores()}
    if device.type != "cuda":
        return known
    about = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return {
        **known,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "capability": f"{about.major}.{about.minor}",
        "multiprocessors": about.multi_processor_count,
        "memory_gb": round(total / 1e9, 1),
        "used_by_others_gb": round((total - free - torch.cuda.memory_reserved(device)) / 1e9, 1),
        "devices": torch.cuda.device_count(),
        "mps_control": shutil.which(CONTROL) is not None,
        **_of_the_driver(),
    }


def _of_the_driver() -> dict[str, str]:
    """Return what nvidia-smi says of the first visible device; nothing where it is not there or refuses."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0] or "0"
    command = ["nvidia-smi", f"--id={visible}", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.strip().partition("\n")[0].split(",")]
    return dict(zip(ASKED, values, strict=True)) if done.returncode == 0 and len(values) == len(ASKED) else {}
