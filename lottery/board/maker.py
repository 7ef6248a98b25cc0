"""The process that makes tables and figures, so that neither the page nor a training waits for them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

NICENESS = 5  # it gives way to trainings, but is not starved by as many of them as there are cores


class MakerLost(Exception):
    """The process died, or raised what it should not."""


class Maker:
    """A process beside this one, started when it is first asked for something; it is used by one thread.

    Args:
        store: Name of the store, of which it only reads.
        plugins: Modules that it imports.
    """

    def __init__(self, store: str, plugins: Sequence[str]):
        self._about = store, tuple(plugins)
        self._process: Any = None
        self._line: Connection | None = None

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what a method of `lottery.board.results.Answers` returns there.

        Raises:
            MakerLost: The process died or could not answer; the next question starts another one.
        """
        try:
            line = self._line or self._start()
            line.send((method, arguments))
            fine, answer = line.recv()
        except (EOFError, OSError) as error:
            raise MakerLost(f"the process that makes tables and figures died{self._forget()}") from error
        if not fine:
            raise MakerLost(answer)
        return answer

    def close(self) -> None:
        """End the process, whatever it is at; a question that another thread asks fails."""
        if (process := self._process) is not None:
            process.terminate()

    def _forget(self) -> str:
        """Let go of a process that answers no more; return what its end may mean."""
        process, line = self._process, self._line
        self._process = self._line = None
        if line is not None:
            line.close()
        if process is None:
            return ""
        process.join(timeout=2)
        killed = process.exitcode == -signal.SIGKILL
        process.kill()
        return " (memory may have run out)" if killed else ""

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, *self._about), daemon=True, name="lottery-board")
        self._process.start()
        theirs.close()
        return self._line


def serve(line: Connection, store: str, plugins: Sequence[str]) -> None:
    """Answer questions until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the board, which then closes the line
    with suppress(OSError):
        os.nice(NICENESS)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    from lottery.board.results import Answers
    from lottery.store.read_only import read_only_store

    answers = Answers(read_only_store(store), plugins)
    while True:
        try:
            method, arguments = line.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, getattr(answers, method)(*arguments)
        except Exception:
            answer = False, traceback.format_exc()
        try:
            line.send(answer)
        except OSError:
            return
