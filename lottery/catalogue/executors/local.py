"""Workers as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.executors._workers import Ended, last_lines
from lottery.registry import executors

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Launch, Workers


@executors.register("local", source="processes of the operating system")
def local(launch: Launch, *, workers: Annotated[int, Field(ge=1)] = 2) -> Workers:
    """Processes of this machine, each with its share of the cores; they leave when the command that started them does.

    `--jobs N` does the same from one process that has read the data once, and starts sooner; take this one where
    workers may die, of memory or of a plugin's fault: it starts them again.
    """
    return _Processes(launch, workers)


class _Processes:
    """The processes that one run has started."""

    def __init__(self, launch: Launch, workers: int):
        self._launch, self._workers = launch, workers
        self._living: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._gone: list[Ended] = []
        self._started, self._told = 0, False

    def start(self, count: int) -> None:
        """Start so many more."""
        for _ in range(0 if self._told else count):
            self._started += 1
            log = self._launch.logs / f"worker-{self._started}.log"
            with log.open("ab") as output:
                process = subprocess.Popen(
                    (*self._launch.command, "--tied"),
                    cwd=self._launch.folder,
                    env={**os.environ, **_share_of_cores(self._workers), **self._launch.environment},
                    stdin=subprocess.PIPE,  # its end tells a worker that this process is gone
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on once
                )
            self._living.append((process, log))

    def alive(self) -> int:
        """Return how many run."""
        self._reap()
        return len(self._living)

    def ended(self) -> list[Ended]:
        """Return those that have gone since the last call."""
        self._reap()
        gone, self._gone = self._gone, []
        return gone

    def stop(self) -> None:
        """Tell all that live to save and leave, once."""
        if not self._told:
            self._told = True
            for process, _ in self._living:
                process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Tell them, if nobody has, and wait until all have left."""
        self.stop()
        for process, _ in self._living:
            process.wait()
        self._reap()

    def farewell(self) -> str:
        """Return nothing: none outlives this process."""
        return ""

    def _reap(self) -> None:
        for process, log in [each for each in self._living if each[0].poll() is not None]:
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
            self._living.remove((process, log))
            self._gone.append(Ended(process.returncode, str(log), last_lines(log)))


def _share_of_cores(workers: int) -> dict[str, str]:
    """Return the variable by which each of so many processes takes its share of the cores, see `device.cores`."""
    from joblib import cpu_count

    return {"LOKY_MAX_CPU_COUNT": str(max(1, cpu_count() // workers))}
