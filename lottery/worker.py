"""The process that `lottery run --jobs N` starts N times: a request comes in on stdin, events go out on stdout."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lottery.errors import Interrupted, LotteryError
from lottery.signals import Stop


def main() -> int:
    """Take part in one run. Exit code 0 also when jobs failed: the events say so."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # a print in somebody's model must not mix with the events

    stop = Stop()

    def say(message: dict[str, Any]) -> None:
        try:
            out.write(json.dumps(message) + "\n")
        except BrokenPipeError:  # the parent is gone, and `_watch_parent` sees to the rest
            stop.signal = stop.signal or signal.SIGTERM

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, frame: setattr(stop, "signal", received))
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
    try:
        _work(request, stop, say)
    except Interrupted as interrupted:
        say({"end": "interrupted", "message": str(interrupted), "exit_code": interrupted.exit_code})
    except LotteryError as error:
        say({"end": "error", "message": str(error), "exit_code": error.exit_code})
    except Exception:
        say({"end": "bug", "message": traceback.format_exc(), "exit_code": 70})
    else:
        say({"end": "done"})
    return 0


def _work(request: dict[str, Any], stop: Stop, say: Callable[[dict[str, Any]], None]) -> None:
    from lottery.recipe import restore_recipe
    from lottery.work import Request, prepare, work

    for plugin in request.pop("plugins"):
        importlib.import_module(plugin)
    recipe = restore_recipe(request.pop("recipe"))
    data, store = Path(request.pop("data")), Path(request.pop("store"))
    for event in work(prepare(Request(recipe, data, store, **request), stop)):
        say(event.as_dict())


def _watch_parent(stop: Stop) -> None:
    """The parent holds our stdin open as long as it lives."""
    while os.read(0, 4096):
        pass
    if stop.signal is None:
        stop.signal = signal.SIGTERM


if __name__ == "__main__":
    sys.exit(main())
