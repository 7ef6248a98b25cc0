"""The process that `lottery run --jobs N` starts: it takes part in the run, or makes ready and forks those who do.

Its stdin is a socket: the request comes in on it, and the events go out, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lottery.collector import collector_paused
from lottery.errors import DataError, Interrupted, LotteryError
from lottery.signals import Stop

if TYPE_CHECKING:
    from lottery.runner.context import RunContext


class Line:
    """The connection to the process that started the run."""

    def __init__(self, channel: socket.socket, stop: Stop):
        self.channel, self._stop = channel, stop
        self._out = channel.makefile("w", encoding="utf-8")

    def say(self, message: dict[str, Any]) -> None:
        """Send a message; where nobody is left to be told, stop as if told to."""
        try:
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()
        except ConnectionError:
            self._stop.signal = self._stop.signal or signal.SIGTERM

    def listen(self) -> None:
        """Note in `stop` each signal that is passed on, a byte; a worker whose parent is gone stops as if told to."""
        try:
            while number := self.channel.recv(1):
                self._stop.signal = number[0]
        except ConnectionError:
            pass
        self._stop.signal = self._stop.signal or signal.SIGTERM

    def another(self, channel: socket.socket) -> Line:
        """Return a line of this process's own, in place of the one that it was forked with."""
        self._out.close()
        self.channel.close()
        return Line(channel, self._stop)


def main() -> int:
    """Take part in one run. Exit code 0 also when jobs failed: the events say so."""
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, frame: setattr(stop, "signal", received))
    with open(0, "rb", buffering=0, closefd=False) as stdin:  # not a byte more than the line: fork takes the rest
        request = json.loads(stdin.readline())
        plans = _read_exactly(stdin, request.pop("plan_bytes"))
    line = Line(socket.socket(fileno=os.dup(0)), stop)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # what a model starts must not hold the line open
    os.dup2(2, 1)
    line.say(_last_words(lambda: _serve(request, plans, stop, line)))
    return 0


def _read_exactly(stdin: IO[bytes], count: int) -> bytes:
    """Return so many bytes; fewer where the process that sends them ends before."""
    parts, left = list[bytes](), count
    while left and (part := stdin.read(left)):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _serve(request: dict[str, Any], plans: bytes, stop: Stop, line: Line) -> dict[str, Any]:
    """Take part in a run with the plans of its first process; be the first process where there are none yet.

    Return what the last message says beside that it is the last: how each forked worker ended.
    """
    from lottery import registry

    for plugin in request.pop("plugins"):
        registry.plug_in(plugin)
    on_gpus = _take_gpu(request.pop("number"), request["device"])
    if plans:
        _take_part(_contexts(request, stop, on_gpus, json.loads(plans)), line)
        return {}
    from lottery.executors import fork
    from lottery.plan.handover import pack_plan
    from lottery.results.mixed_environments import foreseen

    threads = fork.hold_threads()
    contexts, able = fork.prepare_fork(_contexts(request, stop, on_gpus), fitting=request["jobs"] == "auto")

    def begin(own: Line) -> None:
        fork.release_threads(threads)
        own.say(_last_words(lambda: _take_part(contexts, own)))

    jobs = contexts[0].jobs
    mixed = [said for each in contexts for said in foreseen(each.plan, each.store, each.machine.environment())]
    made = [pack_plan(each.plan) for each in contexts]
    line.say({"prepared": {"plans": made, "jobs": jobs, "forks": able, "mixed": list(dict.fromkeys(mixed))}})
    if able:
        return {"exit_codes": fork.fork(jobs, line.channel, lambda own: begin(line.another(own)))}
    fork.release_threads(threads)
    _take_part(contexts, line)
    return {}


def _take_gpu(number: int, device: str) -> int:
    """Leave this process one GPU of its machine, another one than those of the other processes as far as there are.

    Where the run has named one, all of them have that. One that trains on the CPU is left none: torch's Adam would
    start CUDA there, which costs memory of the device, and which no fork may do after its parent.

    Returns:
        The number of GPUs that the processes are given out over; 0 where there are none.
    """
    from lottery.device import GPUS, gpus, share_of_gpus

    if device == "cpu":
        os.environ[GPUS] = ""
        return 0
    if ":" in device:
        return 1
    there = len(gpus())
    if (own := share_of_gpus(number)) is not None:
        os.environ[GPUS] = own
    return there


def _contexts(request: dict[str, Any], stop: Stop, on_gpus: int, packed: Sequence[str] = ()) -> list[RunContext]:
    """Load the data, and make the plans where none are handed over.

    Raises:
        DataError: the data are not those that the plans were made for.
    """
    with collector_paused():
        from lottery.plan.handover import unpack_plan
        from lottery.recipe.load import restore_recipe
        from lottery.runner.events import Request
        from lottery.runner.prepare import prepare_all

    about = {name: value for name, value in request.items() if name not in ("recipes", "data", "store")}
    recipes = [(point, restore_recipe(each)) for point, each in request["recipes"]]
    requests = [Request(each, Path(request["data"]), request["store"], point=point, **about) for point, each in recipes]
    plans = [unpack_plan(plan, recipe) for plan, (_, recipe) in zip(packed, recipes, strict=False)]
    contexts = prepare_all(requests, stop, known=plans, on_gpus=on_gpus)
    if plans and any(context.plan is not plan for context, plan in zip(contexts, plans, strict=True)):
        raise DataError(f"{request['data']}: the data were changed while this run was starting; start it again")
    return contexts


def _take_part(contexts: Sequence[RunContext], line: Line) -> None:
    from lottery.runner.run import work

    threading.Thread(target=line.listen, daemon=True).start()
    for event in work(*contexts):
        line.say(event.as_dict())


def _last_words(serve: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    try:
        return {"end": "done", **(serve() or {})}
    except Interrupted as interrupted:
        return {"end": "interrupted", "message": str(interrupted), "exit_code": interrupted.exit_code}
    except LotteryError as error:
        kind = type(error).__name__
        return {"end": "error", "kind": kind, "message": str(error), "exit_code": error.exit_code}
    except Exception as error:
        from lottery import registry
        from lottery.plugins.faults import plugin_failure, write_traceback

        if (theirs := plugin_failure(error, registry.plugins())) is not None:
            message = f"{theirs}; its traceback is in {write_traceback(error)}"
            return {"end": "error", "kind": "UsageError", "message": message, "exit_code": 2}
        return {"end": "bug", "message": traceback.format_exc(), "exit_code": 70}


if __name__ == "__main__":
    sys.exit(main())
