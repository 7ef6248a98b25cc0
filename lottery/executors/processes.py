"""Several processes on one machine, each doing the same: take the next job of the plan that nobody has."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from lottery.errors import Interrupted, LotteryError, MachineError
from lottery.work import Event, Request

if TYPE_CHECKING:
    from lottery.signals import Stop

ENDED = None  # what a reader thread puts last


def processes(request: Request, stop: Stop, plugins: Sequence[str] = ()) -> Iterator[Event]:
    """Run the request in `request.jobs` processes and yield their events as they come.

    A signal noted in `stop` is passed on, and Interrupted raised when all have saved and left. A worker that dies is
    not replaced: the others take over its job; MachineError is raised where none is left to do so."""
    events: queue.Queue[tuple[int, Any]] = queue.Queue()
    workers: list[subprocess.Popen[str]] = []
    try:
        for number in range(request.jobs):
            worker = _start(request, plugins)
            workers.append(worker)
            assert worker.stdout is not None
            threading.Thread(target=_read, args=(number, worker.stdout, events), daemon=True).start()
        yield from _collect(workers, events, stop)
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()  # a worker whose parent is gone stops as if told to
        for worker in workers:
            worker.wait()


def _start(request: Request, plugins: Sequence[str]) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", "lottery.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on once
    )
    assert worker.stdin is not None
    message = {
        "recipe": request.recipe.canonical(),
        "data": str(request.data),
        "store": str(request.store),
        "device": request.device,
        "jobs": request.jobs,
        "deterministic": request.deterministic,
        "checkpoint_seconds": request.checkpoint_seconds,
        "plugins": list(plugins),
    }
    worker.stdin.write(json.dumps(message) + "\n")
    worker.stdin.flush()
    return worker


def _read(number: int, lines: IO[str], events: queue.Queue[tuple[int, Any]]) -> None:
    try:
        for line in lines:
            if line.endswith("\n"):  # a worker that was killed may leave half a line
                events.put((number, json.loads(line)))
    finally:
        events.put((number, ENDED))


def _collect(workers: list[subprocess.Popen[str]], events: queue.Queue[tuple[int, Any]], stop: Stop) -> Iterator[Event]:
    running, passed_on = set(range(len(workers))), False
    last_words: dict[int, dict[str, Any]] = {}
    while running:
        if stop.signal is not None and not passed_on:
            passed_on = True
            for number in running:
                workers[number].send_signal(stop.signal)
        try:
            number, message = events.get(timeout=0.1)
        except queue.Empty:
            continue
        if message is ENDED:
            running.discard(number)
        elif "end" in message:
            last_words[number] = message
        else:
            yield Event(**message)
    _judge([last_words.get(number) for number in range(len(workers))], workers, stop)


def _judge(last_words: list[dict[str, Any] | None], workers: list[subprocess.Popen[str]], stop: Stop) -> None:
    """Raises what ended the run early, if anything did."""
    if stop.signal is not None:
        raise Interrupted(stop.signal)
    for words in last_words:
        if words is not None and words["end"] != "done":
            error = LotteryError(words["message"]) if words["exit_code"] != 3 else MachineError(words["message"])
            error.exit_code = words["exit_code"]
            raise error
    if all(words is None for words in last_words):
        codes = ", ".join(str(worker.wait()) for worker in workers)
        raise MachineError(f"every worker process died (exit codes {codes}); out of memory? Run again to go on")
