"""Verification of a study again, over one or several processes, with progress."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING

from lottery import registry
from lottery.device import cores
from lottery.runner.prepare import look
from lottery.verification.records import Check
from lottery.verification.states import CHECKS, Proof, jobs_with_states, prove_job
from lottery.words import duration, short

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.runner.context import RunContext
    from lottery.runner.events import Request

TOLD_EVERY = 10.0  # seconds between lines

_context: RunContext | None = None  # of a worker process


def check_again(request: Request, plan: Plan, plugins: Sequence[str] = ()) -> Iterator[Check]:
    """Check all that the finished jobs of a plan have kept; a line on stderr every few seconds says how far it is.

    Ctrl-C ends it at once: nothing is written.

    Raises:
        UsageError: The recipe does not fit its data.
        DataError: The data are not there.
    """
    processes = min(cores() if request.jobs == "auto" else request.jobs, max(1, len(plan)))
    context = look(replace(request, jobs=processes))
    keys = [job.key for job in jobs_with_states(context)]
    made: list[Proof] = []
    began = told = time.monotonic()
    print(f"{len(keys)} jobs to evaluate again", file=sys.stderr)
    for done, found in enumerate(_proofs(request, context, keys, processes, plugins), start=1):
        made += found
        if (now := time.monotonic()) - told >= TOLD_EVERY and done < len(keys):
            told = now
            left = duration((now - began) / done * (len(keys) - done))
            print(f"[{done}/{len(keys)}] jobs evaluated again, {left} left", file=sys.stderr)
    for name, what in CHECKS.items():
        mine = [proof for proof in made if proof.check == name]
        wrong = [f"{_label(proof)}: {words}" for proof in mine for words in proof.wrong]
        left_over = [f"{_label(proof)}: {proof.unchecked}" for proof in mine if proof.unchecked]
        if mine:
            checked = len(mine) - len(left_over)
            yield Check(f"{name} again", what, checked, tuple(wrong), tuple(left_over))


def _label(proof: Proof) -> str:
    return f"{short(proof.key)} ({proof.label})"


def _proofs(
    request: Request, context: RunContext, keys: Sequence[str], processes: int, plugins: Sequence[str]
) -> Iterator[list[Proof]]:
    if processes == 1 or len(keys) < 2:
        yield from (list(prove_job(context, context.plan.jobs[key])) for key in keys)
        return
    settings = (replace(request, jobs=processes), tuple(plugins))
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _prepare_worker, settings)
    try:
        for future in as_completed([pool.submit(_prove_one, key) for key in keys]):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _prepare_worker(request: Request, plugins: Sequence[str]) -> None:
    """Prepare a worker process."""
    global _context
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing could be lost
    for plugin in plugins:
        registry.plug_in(plugin)
    _context = look(request)


def _prove_one(key: str) -> list[Proof]:
    assert _context is not None
    return list(prove_job(_context, _context.plan.jobs[key]))
