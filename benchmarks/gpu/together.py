"""Stages of several trainings on one device: in lockstep, and in processes side by side, as `--jobs` has them."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.clock import seconds_per_call
from benchmarks.gpu.drive import ROOT
from benchmarks.gpu.mps import servers, service, without
from benchmarks.gpu.networks import BATCH, LENET, RESNET, Network, graph_engine, network, recorder
from benchmarks.gpu.side import LOADS
from benchmarks.gpu.stage import Measurement, NotHere, Setting, median
from lottery.device import Machine, prepared
from lottery.engines.lockstep import Lockstep, Member
from lottery.errors import UsageError
from lottery.pruning.mask import Mask

SEEDS, JOBS = (1, 8, 32), (1, 4, 8)
ROUND_SECONDS, READY_SECONDS, ANSWER_SECONDS = 1.5, 45.0, 15.0
SIDE = "benchmarks.gpu.side"


def lockstep(setting: Setting) -> None:
    """Time steps of several seeds in lockstep against one training by graph."""
    for kind, precision in ((LENET, "fp32"), (LENET, "bf16"), (RESNET, "bf16")):
        name = f"{kind.label}, {precision}, batch {BATCH}"
        make = partial(network, kind, setting.device, precision=precision, dry=setting.dry)
        with prepared(Machine(setting.device, 1, deterministic=False), precision):
            alone = make()
            step = alone.stepping(graph_engine(alone, setting.device))
            one = _tell_rate(setting, f"{name}, one training by graph", step, 1, None)
            for seeds in setting.sized(SEEDS, (1, 2)):
                what = f"{name}, {seeds} in lockstep"
                setting.attempt(what, partial(_several, setting, what, [make() for _ in range(seeds)], one))


def _several(setting: Setting, what: str, networks: Sequence[Network], one: float) -> None:
    """Time steps of several networks in lockstep.

    Raises:
        NotHere: They cannot be trained in lockstep.
    """
    try:
        step = _cohort(setting.device, networks)
    except UsageError as refused:
        raise NotHere(str(refused)) from refused
    _tell_rate(setting, what, step, len(networks), one)


def _cohort(device: torch.device, networks: Sequence[Network]) -> Callable[[], Tensor]:
    """Return a call that trains each of the networks one step, all at once.

    Raises:
        UsageError: They cannot be trained in lockstep.
    """
    members = [Member(each.objective, each.optimizer, Mask({})) for each in networks]
    together = Lockstep(members, recorder(device))
    x, y = (torch.stack([part] * len(networks)) for part in networks[0].next_batch())
    return lambda: together.step(x, y)


def _tell_rate(setting: Setting, what: str, step: Callable[[], object], seeds: int, one: float | None) -> float:
    """Write down the steps of all seeds in a second, and return them."""
    taken = median([seeds / each for each in seconds_per_call(step, setting.device, dry=setting.dry)])
    rate = taken.value
    assert rate is not None
    if one is not None:
        taken = replace(taken, ratio=rate / one, against="one training")
    setting.tell(replace(taken, what=what, unit="steps/s of all"))
    return rate


def processes(setting: Setting) -> None:
    """Time trainings in several processes at once, without and with NVIDIA's Multi-Process Service."""
    one: dict[str, float] = {}
    with without() as variables:
        _side_by_side(setting, variables, "", setting.sized(JOBS, (1, 2)), one)
    try:
        with service() as variables:
            used = _side_by_side(setting, variables, ", with MPS", setting.sized(JOBS, (2,)), one)
            setting.tell(Measurement("MPS: a server has served the processes", holds=bool(used), note=used))
    except NotHere as reason:
        setting.skip("processes with MPS", str(reason))


def _side_by_side(
    setting: Setting, variables: Mapping[str, str], said: str, jobs: Sequence[int], one: dict[str, float]
) -> str:
    """Write down how many steps a second so many processes do together; return the servers of MPS they had."""
    with _Workers.started(setting, variables, max(jobs)) as workers:
        used = servers(variables) if said else ""
        for load in LOADS:
            for count in jobs:
                what = f"{load}, {count} {'process' if count == 1 else 'processes'}{said}"
                if setting.left() < ROUND_SECONDS + 2:
                    setting.skip(what, "no time was left")
                    continue
                rate = workers.rate(count, load, setting.sized(ROUND_SECONDS, 0.0))
                ratio = rate / one[load] if load in one else None
                if count == 1:
                    one.setdefault(load, rate)
                against = "" if ratio is None else "one process"
                setting.tell(Measurement(what, rate, "steps/s of all", ratio=ratio, against=against))
    return used


class _Workers:
    """Processes that are ready to train."""

    def __init__(self, started: list[subprocess.Popen[bytes]]):
        self._started = started

    @classmethod
    @contextmanager
    def started(cls, setting: Setting, variables: Mapping[str, str], count: int) -> Iterator[_Workers]:
        """Start so many, wait until all are ready, and end them with the block."""
        command = [sys.executable, "-m", SIDE, setting.sized("full", "dry")]
        environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1"}
        made = [
            subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(count)
        ]
        workers = cls(made)
        try:
            workers._answers(made, setting.sized(READY_SECONDS, 10 * READY_SECONDS))
            yield workers
        finally:
            workers._end()

    def rate(self, count: int, load: str, seconds: float) -> float:
        """Return the steps a second that so many of them do together while they train at the same time."""
        asked, chosen = json.dumps({"load": load, "seconds": seconds}).encode() + b"\n", self._started[:count]
        for process in chosen:
            assert process.stdin is not None
            process.stdin.write(asked)
            process.stdin.flush()
        answers = self._answers(chosen, seconds + ANSWER_SECONDS)
        return float(sum(told["steps"] / told["seconds"] for told in answers))

    @staticmethod
    def _answers(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> list[dict[str, Any]]:
        """Return a line of each process.

        Raises:
            RuntimeError: One does not answer in time, or is gone.
        """
        found, end = list[dict[str, Any]](), time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            for process in processes:
                assert process.stdout is not None
                waiting.register(process.stdout, selectors.EVENT_READ)
            while len(found) < len(processes):
                ready = waiting.select(max(0.0, end - time.monotonic()))
                if not ready:
                    raise RuntimeError(f"{len(processes) - len(found)} processes did not answer in {seconds:.0f} s")
                for key, _ in ready:
                    line = key.fileobj.readline()  # type: ignore[union-attr]
                    waiting.unregister(key.fileobj)
                    if not line:
                        raise RuntimeError("a process that trains beside others is gone")
                    found.append(json.loads(line))
        return found

    def _end(self) -> None:
        for process in self._started:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for process in self._started:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
