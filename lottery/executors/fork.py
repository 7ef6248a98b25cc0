"""Workers forked from a process that has imported torch and read the data: they begin at once and share both.

A fork takes along the memory and one thread. A pool of threads that torch's OpenMP had started would be waited for in
vain (pytorch issue 17199), so the process that forks runs no kernel on more than one thread, and does not fork where it
finds that it has other threads: those of a plugin, say.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from lottery.meanwhile import is_alone
from lottery.plan.expand import other_data
from lottery.runner.parallelism import fit_memory

if TYPE_CHECKING:
    from lottery.runner.context import RunContext


def hold_threads() -> int:
    """Have torch compute on one thread, and return the number to give back to `release_threads`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return threads


def release_threads(threads: int) -> None:
    """Have torch compute on so many threads again."""
    torch.set_num_threads(threads)


def prepare_fork(contexts: list[RunContext], *, fitting: bool) -> tuple[list[RunContext], bool]:
    """Return the contexts and True if this process can fork the workers; then all that they would do alike is done.

    With `fitting` the contexts have as few of them as fit into the memory.
    """
    if sys.platform != "linux" or contexts[0].jobs == 1 or contexts[0].machine.device.type != "cpu":
        return contexts, False
    if not is_alone():
        return contexts, False
    _put_data(contexts)  # before it is measured what a worker needs for itself
    if fitting:
        contexts = fit_memory(contexts)
        _put_data(contexts)
    return contexts, contexts[0].jobs > 1


def _put_data(contexts: list[RunContext]) -> None:
    """Put the data where they are trained on, in one copy that the workers share."""
    for context in contexts:
        for dataset in (None, *other_data(context.plan.recipe)):
            context.data(context.plan.recipe.seeds[0], dataset)


def fork(count: int, channel: socket.socket, begin: Callable[[socket.socket], None]) -> list[int]:
    """Fork workers, wait for them, and return their exit codes, -9 for one that signal 9 killed.

    Args:
        count: number of workers; fewer are forked if the channel is closed before.
        channel: where a socket for each worker comes in.
        begin: called in each worker with its socket.
    """
    gc.collect()
    gc.freeze()  # a collection writes to every object, and a page that is written to is shared no more
    workers = []
    for _ in range(count):
        _, received, _, _ = socket.recv_fds(channel, 1, 1)
        if not received:
            break
        if (worker := os.fork()) == 0:
            _be_worker(socket.socket(fileno=received[0]), begin)
        os.close(received[0])
        workers.append(worker)
    return [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]


def _be_worker(own: socket.socket, begin: Callable[[socket.socket], None]) -> None:
    try:
        os.setsid()  # Ctrl-C in the terminal reaches the first process only, which passes it on once
        begin(own)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)  # an exit in order would touch, and so copy, all that is shared
