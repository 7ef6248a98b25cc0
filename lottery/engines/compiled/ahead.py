"""Compilation of the engines' kernels before a training needs them, in a process of its own that keeps them on disk.

Only that process has the memory of the compiler. `python -m lottery.engines.compiled.ahead THREADS` compiles what is
missing for so many threads, beside trainings; with the name of an engine after it, that one's, for a training that
waits. It ends when its standard input does.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numba
import torch
from filelock import FileLock, Timeout
from torch import nn

from lottery.catalogue.models._perceptron import Perceptron
from lottery.device import without_compiler
from lottery.engines.compiled.background import BackgroundEngine
from lottery.engines.compiled.jit import STAMP
from lottery.engines.compiled.kernels import transpose
from lottery.engines.compiled.sparse import SparseEngine
from lottery.network.build import prunable
from lottery.pruning.mask import Mask
from lottery.training.objective import Objective
from lottery.training.trainer import Stopped

Name = Literal["sparse", "background"]
NAMES: tuple[Name, ...] = ("sparse", "background")
NICENESS = 5  # beside trainings of one thread on all cores, of which it gets a quarter of one: at 19 it is never done
LOOK_SECONDS = 0.05  # between two looks at whether the run is told to stop
LOCK_SECONDS = 60.0  # that a process waits for another that compiles: it may be suspended
PAUSE_SECONDS = 0.2  # that the lock is free between two engines; who waits for it looks four times meanwhile


@cache
def make_ready(name: Name, threads: int) -> None:
    """Compile all that an engine runs, or load it, by having it train a network of two inputs; note that it is kept.

    That is something else for one thread than for several.
    """
    with torch.random.fork_rng(devices=[]):
        model = Perceptron((2,), 2, (2,), "none", "relu", 0.0, False)
    objective = Objective(model, nn.CrossEntropyLoss(), lambda: iter(()), steps_per_epoch=1)
    with without_compiler():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    about = objective, optimizer, Mask.dense(prunable(model)), threads
    engine = SparseEngine(*about) if name == "sparse" else BackgroundEngine(*about, torch.zeros(2))
    engine.step(torch.ones(2, 2), torch.zeros(2, dtype=torch.int64))
    engine.outputs(torch.ones(2, 2))
    _mark(name, threads).touch()


def is_kept(name: Name, threads: int) -> bool:
    """Return True if an engine's kernels have been compiled on this machine, from these sources and by this numba."""
    return _mark(name, threads).exists()


def compile_apart(name: Name, threads: int, stopped: Callable[[], bool]) -> None:
    """Have an engine's kernels compiled by a process of its own, and wait until they are kept, whoever compiled them.

    Where that process fails they are not kept, and `make_ready` compiles them.

    Raises:
        Stopped: The run is told to stop meanwhile.
    """
    if is_kept(name, threads):
        return
    process = _started(threads, name)
    try:
        while process.poll() is None and not is_kept(name, threads):
            if stopped():
                raise Stopped
            with suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
    finally:
        process.kill()
        process.wait()


def _started(threads: int, *names: Name) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lottery.engines.compiled.ahead", str(threads), *names]
    silent = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=silent, stderr=silent)


def _mark(name: Name, threads: int) -> Path:
    """Return the file beside what numba keeps that says so, named by all that numba compiles for."""
    target = transpose.targetctx.codegen().magic_tuple()  # triple, processor and its features
    about = repr((numba.__version__, sys.version_info[:3], target)).encode()
    return (
        Path(transpose._cache.cache_path)
        / f"{name}{'-alone' if threads == 1 else ''}-{sha256(STAMP + about).hexdigest()[:16]}.kept"
    )


class Ahead:
    """The compilation that one run has started beside its trainings."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, threads: int) -> None:
        """Have all kernels compiled for trainings of so many threads, once."""
        if self._process is None and not _is_compiling():
            self._process = _started(threads)
            atexit.register(self._process.kill)  # what is compiled by then is kept

    @property
    def compiling(self) -> bool:
        """True while the process is at it."""
        return self._process is not None and self._process.poll() is None


def _lock() -> FileLock:
    """Return the lock of the one process that compiles."""
    return FileLock(_mark(NAMES[0], 1).with_suffix(".lock"))


def _is_compiling() -> bool:
    try:
        _lock().acquire(timeout=0).lock.release()
    except Timeout:
        return True
    return False


def _main() -> None:
    threads, waited_for = int(sys.argv[1]), [name for name in NAMES if name in sys.argv[2:]]
    threading.Thread(target=_leave_with_stdin, daemon=True).start()
    if waited_for:
        with suppress(Timeout), _lock().acquire(timeout=LOCK_SECONDS):
            _compile(waited_for, threads)
        _compile(waited_for, threads)  # what is not kept by then; two that write the same kernels do no harm
        return
    with suppress(AttributeError, OSError):
        os.nice(19 if threads > 1 else NICENESS)  # the threads of a training wait for one another: none may be held up
    patience = 0.0  # where another process has the lock at first, that one compiles
    # with two, trainings leave one of them to this process: first what trains with the other one
    for each in (1, 2) if threads == 2 else (threads,):
        for name in NAMES:
            try:
                with _lock().acquire(timeout=patience):
                    _compile([name], each)
            except Timeout:
                return
            patience = LOCK_SECONDS
            time.sleep(PAUSE_SECONDS)  # a training may wait for the lock, which is given to who looks first


def _compile(names: Sequence[Name], threads: int) -> None:
    for name in names:
        if not is_kept(name, threads):  # another process may have compiled it by now
            make_ready(name, threads)


def _leave_with_stdin() -> None:
    while os.read(0, 4096):  # not through `sys.stdin`, whose lock the interpreter wants when it ends
        pass
    os._exit(1)


if __name__ == "__main__":
    _main()
