"""Several processes on one machine, each doing the same: take the best job of the plan that nobody has."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from lottery import errors
from lottery.errors import Interrupted, LotteryError, MachineError
from lottery.plan.handover import unpack_plan
from lottery.runner.events import Event, Request

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.signals import Stop

ENDED = None  # the last message of a reader thread


@contextmanager
def processes(
    requests: Sequence[Request], stop: Stop, plugins: Sequence[str] = ()
) -> Iterator[tuple[list[Plan], list[str], Iterator[Event]]]:
    """Run a request, or those of the points of a sweep, in `jobs` processes.

    Yields the plans, what `results.mixed_environments` has to say before any training, and the events as they come.

    The first process reads the data, makes the plans and checks them. Then it forks the workers. Where it cannot fork
    (a GPU, another system than Linux, threads that a plugin started), it takes part itself, beside others like it that
    are handed its plans. A worker that dies is not replaced: the others take over its job.

    Args:
        requests: what is to be run, all in one place.
        stop: where a signal is noted, which is passed on.
        plugins: modules that each process imports.

    Raises:
        Interrupted: a signal was noted, and all have saved and left.
        MachineError: all workers died, or one met what the machine refuses.
        LotteryError: the first process met it, or a worker.
    """
    crew = _Crew(requests, plugins, stop)
    try:
        prepared = crew.prepared()
        packed = prepared["plans"]
        planned = [unpack_plan(plan, request.recipe) for plan, request in zip(packed, requests, strict=True)]
        yield planned, prepared["mixed"], crew.run(prepared["jobs"], json.dumps(packed), forks=prepared["forks"])
    finally:
        crew.close()


class _Crew:
    """The processes of one run. Member 0 makes ready, and is a worker itself if it does not fork them."""

    def __init__(self, requests: Sequence[Request], plugins: Sequence[str], stop: Stop):
        self._requests, self._plugins, self._stop = requests, plugins, stop
        self._news: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._lines: list[socket.socket] = []
        self._readers: list[threading.Thread] = []
        self._started: list[subprocess.Popen[bytes]] = []
        self._words: dict[int, dict[str, Any]] = {}
        self._begun = False
        self._start("")

    def prepared(self) -> dict[str, Any]:
        """Return what the first process says when it is ready. Raises what it met, and Interrupted."""
        while True:
            if self._stop.signal is not None:
                raise Interrupted(self._stop.signal)
            with suppress(queue.Empty):
                _, message = self._news.get(timeout=0.1)
                if message is ENDED:
                    code = self._started[0].wait()
                    raise MachineError(f"the process that reads the data died (exit code {code}); out of memory?")
                if "prepared" in message:
                    return dict(message["prepared"])
                _raise(message)

    def run(self, jobs: int, plans: str, *, forks: bool) -> Iterator[Event]:
        """Yield the events of so many workers until all have ended.

        They are forked by the first process, or started beside it and handed the plans that it made.
        """
        for _ in range(jobs if forks else jobs - 1):
            if forks:
                self._fork()
            else:
                self._start(plans)
        self._begun = True
        workers = range(1 if forks else 0, len(self._lines))
        yield from self._collect(workers)
        self._judge(workers)

    def close(self) -> None:
        """Wait until all have left, which those at work do as if told to."""
        if not self._begun:
            self._started[0].kill()  # there is nothing that it could lose
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_WR)
        for reader in self._readers:
            reader.join()
        for process in self._started:
            process.wait()

    def _start(self, plans: str) -> None:
        """Start a process and send it what is to be run; it is the first one where no plan is made yet."""
        with self._connect() as theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "lottery.executors.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on once
            )
        self._started.append(process)
        first = self._requests[0]
        message = {
            "recipes": [[each.point, each.recipe.canonical()] for each in self._requests],
            "data": str(first.data),
            "store": str(first.store),
            "device": first.device,
            "jobs": first.jobs,
            "deterministic": first.deterministic,
            "checkpoint_seconds": first.checkpoint_seconds,
            "lockstep": first.lockstep,
            "plugins": list(self._plugins),
            "number": len(self._started) - 1,
            "plan_bytes": len(plans.encode()),
        }
        with suppress(ConnectionError):  # it died: its reader tells
            self._lines[-1].sendall(json.dumps(message).encode() + b"\n" + plans.encode())

    def _fork(self) -> None:
        with self._connect() as theirs, suppress(ConnectionError):
            socket.send_fds(self._lines[0], [b"f"], [theirs.fileno()])

    def _connect(self) -> socket.socket:
        """Return the other end of a new member's line, whose messages a thread reads from now on."""
        ours, theirs = socket.socketpair()
        number = len(self._lines)
        self._lines.append(ours)
        reader = threading.Thread(target=_read, args=(number, ours.makefile(encoding="utf-8"), self._news), daemon=True)
        reader.start()
        self._readers.append(reader)
        return theirs

    def _collect(self, workers: Sequence[int]) -> Iterator[Event]:
        running, passed_on = set(range(len(self._lines))), False
        while running:
            if self._stop.signal is not None and not passed_on:
                passed_on = True
                for number in running.intersection(workers):
                    with suppress(ConnectionError):
                        self._lines[number].sendall(bytes([self._stop.signal]))
            try:
                number, message = self._news.get(timeout=0.1)
            except queue.Empty:
                continue
            if message is ENDED:
                running.discard(number)
            elif "end" in message:
                self._words[number] = message
            else:
                yield Event(**message)

    def _judge(self, workers: Sequence[int]) -> None:
        """Raise what ended the run early, if anything did."""
        if self._stop.signal is not None:
            raise Interrupted(self._stop.signal)
        for words in self._words.values():
            _raise(words)
        if not any(number in self._words for number in workers):
            forked = self._words.get(0, {}).get("exit_codes")
            codes = ", ".join(map(str, forked or [process.wait() for process in self._started]))
            raise MachineError(f"every worker process died (exit codes {codes}); out of memory? Run again to go on")


def _read(number: int, lines: IO[str], news: queue.Queue[tuple[int, Any]]) -> None:
    try:
        with suppress(ConnectionError):
            for line in lines:
                if line.endswith("\n"):  # a worker that was killed may leave half a line
                    news.put((number, json.loads(line)))
    finally:
        news.put((number, ENDED))


def _raise(words: dict[str, Any]) -> None:
    if words["end"] != "done":
        kind = {each.__name__: each for each in (errors.UsageError, errors.DataError, MachineError)}
        error = kind.get(words.get("kind", ""), LotteryError)(words["message"])
        error.exit_code = words["exit_code"]
        raise error
