"""Stages of `make gpu` that end well, hang, raise and die, and what trains beside others in their tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.stage import Measurement, NotHere, Setting


def read(file: Path) -> list[Measurement]:
    lines = (json.loads(line) for line in file.read_text().splitlines())
    return [Measurement(**line["measurement"]) for line in lines if "measurement" in line]


def good(setting: Setting) -> None:
    setting.tell_environment({"device": "made up"})
    setting.tell(Measurement("one", 2.0, "ms a step", ratio=3.0, against="another"))


def hangs(setting: Setting) -> None:
    """Write something down, start a process, and do not heed SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "60"])
    setting.tell(Measurement("process", float(child.pid)))
    time.sleep(60)


def raises(setting: Setting) -> None:
    setting.tell(Measurement("before", 1.0))
    raise RuntimeError("no such kernel")


def dies(setting: Setting) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fails_a_check(setting: Setting) -> None:
    setting.check("two is two", lambda: "")
    setting.attempt("a part", lambda: setting.tell(Measurement("never", 1 / 0)))
    setting.attempt("another part", lambda: setting.tell(Measurement("all the same", 1.0)))


def cannot(setting: Setting) -> None:
    raise NotHere("no such machine")


def main() -> None:
    """Answer as a process that trains beside others does: 10 steps a second."""
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"steps": 5, "seconds": 0.5}), flush=True)


if __name__ == "__main__":
    main()
