"""One worker as the child of a process of Ray or Dask, which may run on another machine.

A process of its own takes signals, threads and the GPUs that the library hands out as on a command line, and what kills
it leaves the library's process to say how it ended. If that one dies, the end of stdin has the worker save and leave.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Launch

Order = tuple[tuple[str, ...], str, dict[str, str], str]  # arguments of `Child`: plain values, which travel


def order(launch: Launch, number: int, variables: Mapping[str, str]) -> Order:
    """Return what makes a child of this launch elsewhere.

    Args:
        launch: The worker's command.
        number: The worker's, for the name of its log.
        variables: Of its environment, beside the launch's.
    """
    log = launch.logs / f"worker-{number}.log"
    return launch.command, str(launch.folder), {**variables, **launch.environment}, str(log)


class Child:
    """One worker, started by `run` in the process that calls it."""

    def __init__(self, command: Sequence[str], folder: str, environment: Mapping[str, str], log: str):
        # this machine's Python is not where the other one has it
        self._command = (sys.executable, *command[1:], "--tied")
        self._folder, self._environment, self._log = folder, environment, Path(log)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self) -> int:
        """Run the worker and return its exit code, minus the number for a signal that killed it."""
        with self._lock:
            if self._stopped:
                return 0
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env={**os.environ, **self._environment},
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        return self._process.wait()

    def stop(self) -> None:
        """Tell the worker to save and leave, once; one that has not been started never is."""
        with self._lock:
            told, self._stopped = self._stopped, True
            if self._process is not None and not told:
                self._process.send_signal(signal.SIGTERM)
