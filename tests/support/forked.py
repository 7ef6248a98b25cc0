"""An executor for tests: workers that are forked from this process, which has imported torch, and so start at once."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import pytest

from lottery.catalogue.executors._workers import Ended, Launch, last_lines, told_once
from lottery.cli.main import main
from lottery.command_traits import ExecutorTraits
from lottery.registry import Entry, executors

Before = Callable[[int], None]  # is called in each worker with its number, from 1, before it begins


def command_here(arguments: list[str], log: int | None = None) -> NoReturn:
    """Be the command with these arguments from now on; its output goes to a file."""
    if log is not None:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    logging.getLogger().handlers.clear()  # pytest's
    sys.argv = ["lottery", *arguments]
    code: Any = 70
    try:
        main()
        code = 0
    except SystemExit as left:
        code = left.code or 0
    finally:
        with suppress(ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Forked:
    """The workers; they live on when the process that started them is gone."""

    def __init__(self, launch: Launch, before: Before):
        self.launch, self.before = launch, before
        self.living: dict[int, Any] = {}
        self.gone: list[Ended] = []
        self.started = 0

    def start(self, count: int) -> None:
        for _ in range(count):
            self.started += 1
            log = self.launch.logs / f"worker-{os.getpid()}-{self.started}.log"
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if (pid := os.fork()) == 0:
                try:
                    self.before(self.started)
                finally:
                    command_here([*self.launch.command[3:]], handle)
            os.close(handle)
            self.living[pid] = log

    def alive(self) -> int:
        for pid in list(self.living):
            with suppress(ChildProcessError):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    log = self.living.pop(pid)
                    self.gone.append(Ended(os.waitstatus_to_exitcode(status), str(log), last_lines(log)))
        return len(self.living)

    def ended(self) -> list[Ended]:
        self.alive()
        return told_once(self.gone)

    def stop(self) -> None:
        for pid in self.living:
            os.kill(pid, signal.SIGTERM)

    def close(self) -> None:
        pass

    def farewell(self) -> str:
        return "kill them"


def register_forked(patch: pytest.MonkeyPatch, before: Before = lambda number: None) -> list[Forked]:
    """Put the executor `forked` into the catalogue; the list has each that a run makes."""
    made: list[Forked] = []

    def forked(launch: Launch, *, workers: int = 2) -> Forked:
        made.append(Forked(launch, before))
        return made[-1]

    executors._load()
    entry = Entry("forked", forked, "here", 1, ExecutorTraits(detached=True), "executor")
    patch.setitem(executors._entries, "forked", entry)
    patch.setattr("lottery.executors.crew.LOOK_SECONDS", 0.0)
    patch.setattr("lottery.executors.drive.TICK_SECONDS", 0.02)
    return made
