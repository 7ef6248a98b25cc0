"""Times of what runs on a device: by its events on a GPU, by the clock on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.gpu.stage import Setting, median

REPEATS, REPEAT_SECONDS = 5, 0.15  # of each median
WARM_UP = 8  # calls that are left out: recordings begin after three on a batch, libraries choose algorithms
DRY_REPEATS, DRY_WARM_UP = 2, 4


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(call: Callable[[], object], device: torch.device, *, dry: bool = False) -> list[float]:
    """Return the seconds of a call, in several repeats of many calls each.

    Nothing waits between the calls of a repeat, as in training: the time is the device's or the host's, whichever is
    the longer. The first calls are left out.

    Args:
        call: What is measured; it leaves its work queued on the current stream.
        device: Where the work is done.
        dry: A few calls are enough.
    """
    for _ in range(DRY_WARM_UP if dry else WARM_UP):
        call()
    synchronize(device)
    began = time.perf_counter()
    call()
    synchronize(device)
    once = time.perf_counter() - began
    calls = 1 if dry else max(1, min(1000, round(REPEAT_SECONDS / max(once, 1e-6))))
    return [_seconds(call, calls, device) / calls for _ in range(DRY_REPEATS if dry else REPEATS)]


def _seconds(call: Callable[[], object], calls: int, device: torch.device) -> float:
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - began
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    for _ in range(calls):
        call()
    last.record()
    torch.cuda.synchronize(device)
    return float(first.elapsed_time(last)) / 1e3


def tell_time(
    setting: Setting,
    what: str,
    call: Callable[[], object],
    base: float | None = None,
    against: str = "",
    unit: str = "ms a step",
) -> float:
    """Time a call, write its milliseconds down, and return their median.

    Args:
        setting: Where it is measured and written down.
        what: The call in words.
        call: What is measured.
        base: Milliseconds of what it is compared with; None for no comparison.
        against: What that is.
        unit: Unit of the milliseconds.
    """
    found = median([1e3 * each for each in seconds_per_call(call, setting.device, dry=setting.dry)])
    taken = found.value
    assert taken is not None
    if base is not None:
        found = replace(found, ratio=base / taken, against=against)
    setting.tell(replace(found, what=what, unit=unit))
    return taken
