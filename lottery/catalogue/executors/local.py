"""Workers as processes of this machine."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from lottery.catalogue.executors._workers import Ended, last_lines, told_once
from lottery.errors import UsageError
from lottery.registry import executors
from lottery.words import counted

GPUS = "CUDA_VISIBLE_DEVICES"

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Launch, Workers


@executors.register("local", source="processes of this machine")
def local(
    launch: Launch, *, workers: Annotated[int, Field(ge=1)] = 2, gpus: Annotated[int, Field(ge=0)] | None = None
) -> Workers:
    """Processes of this machine, each with its share of the cores; they leave when the command that started them does.

    `gpus` is the number of GPUs of each worker, its own; 0 hides them all. Without it each has one as long as there are
    enough, and more workers than GPUs share them. `--jobs N` does the same from one process that has read the data
    once, and starts sooner; take this one where workers may die, of memory or of a plugin's fault: others are started.
    """
    return _Processes(launch, workers, [] if "cpu" in launch.command else _gpus(workers, gpus))


class _Processes:
    """The processes that one run has started.

    `gpus` has the value of CUDA_VISIBLE_DEVICES for each of the workers, None where it stays as it is; it is empty
    where they train on processors.
    """

    def __init__(self, launch: Launch, workers: int, gpus: list[str | None]):
        self._launch, self._workers, self._gpus = launch, workers, gpus
        self._living: list[tuple[subprocess.Popen[bytes], Path, int]] = []
        self._gone: list[Ended] = []
        self._started, self._told = 0, False

    def start(self, count: int) -> None:
        """Start so many more."""
        for _ in range(0 if self._told else count):
            self._started += 1
            place = min(set(range(len(self._living) + 1)) - {place for _, _, place in self._living})
            log = self._launch.logs / f"worker-{self._started}.log"
            with log.open("ab") as output:
                process = subprocess.Popen(
                    (*self._launch.command, "--tied"),
                    cwd=self._launch.folder,
                    env={**os.environ, **self._share(place), **self._launch.environment},
                    stdin=subprocess.PIPE,  # its end tells a worker that this process is gone
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C in the terminal reaches this process only, which passes it on once
                )
            self._living.append((process, log, place))

    def alive(self) -> int:
        """Return how many run."""
        self._reap()
        return len(self._living)

    def ended(self) -> list[Ended]:
        """Return those that have gone since the last call."""
        self._reap()
        return told_once(self._gone)

    def stop(self) -> None:
        """Tell all that live to save and leave, once."""
        if not self._told:
            self._told = True
            for process, _, _ in self._living:
                process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Tell them, if nobody has, and wait until all have left."""
        self.stop()
        for process, _, _ in self._living:
            process.wait()
        self._reap()

    def farewell(self) -> str:
        """Return nothing: none outlives this process."""
        return ""

    def _reap(self) -> None:
        for each in [each for each in self._living if each[0].poll() is not None]:
            process, log, _ = each
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.close()
            self._living.remove(each)
            self._gone.append(Ended(process.returncode, str(log), last_lines(log)))

    def _share(self, place: int) -> dict[str, str]:
        """Return the variables by which a worker takes its share of the cores, see `device.cores`, and of the GPUs."""
        from joblib import cpu_count

        own = self._gpus[place % len(self._gpus)] if self._gpus else None
        cores = {"LOKY_MAX_CPU_COUNT": str(max(1, cpu_count() // self._workers))}
        return cores if own is None else {**cores, GPUS: own}


def _gpus(workers: int, each: int | None) -> list[str | None]:
    """Return the value of CUDA_VISIBLE_DEVICES for each worker, None where it stays as it is.

    Raises:
        UsageError: There are not as many GPUs as are asked for.
    """
    if each == 0:
        return [""]
    from lottery.device import gpus, share_of_gpus

    there = len(gpus())
    if each is not None and workers * each > there:
        raise UsageError(
            f"executor local: {workers} workers of gpus: {each} need {workers * each} GPUs, {there} are here; ask for "
            "fewer, or leave `gpus` out and they share"
        )
    if 0 < there < workers:
        logging.getLogger("lottery").warning("%d workers share %s", workers, counted(there, "GPU"))
    return [share_of_gpus(place, each or 1) for place in range(workers)]
