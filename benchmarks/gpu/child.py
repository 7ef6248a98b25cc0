"""The process of one stage: `python -m benchmarks.gpu.child MODULE:FUNCTION SETTING`, the setting as JSON."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

from benchmarks.gpu.stage import Measurement, NotHere, Setting

NOT_HERE = 75  # exit code of a stage that this machine cannot run
HARMLESS = "Attempting to run cuBLAS, but there was no current CUDA context"  # torch makes it current by itself


def errors_where_launched() -> None:
    """Have a step that cannot be recorded raise in this process: what is timed as replayed has to be."""
    warnings.filterwarnings("error", "train.engine: ", UserWarning)


def main() -> int:
    """Run the stage; what it raises is printed as a traceback, with exit code 1."""
    module, _, function = sys.argv[1].partition(":")
    given = json.loads(sys.argv[2])
    setting = Setting(Path(given["file"]), given["dry"], given["limit"], Path(given["log"]))
    setting.began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what is open is closed
    errors_where_launched()
    try:
        getattr(importlib.import_module(module), function)(setting)
    except NotHere as reason:
        setting.tell(Measurement("the stage", note=f"not measured: {reason}"))
        return NOT_HERE
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
