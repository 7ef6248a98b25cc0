"""`--jobs auto` where GPUs do the work: a process for each of them that has something to do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lottery.device import GPUS, Machine
from lottery.executors import fork, worker
from lottery.runner import parallelism
from lottery.runner.context import RunContext
from lottery.runner.parallelism import share_out
from lottery.signals import Stop
from tests.support.micro import MICRO, micro, prepared

THREADS = 8  # of the made-up machine


def on(device: str, context: RunContext) -> RunContext:
    return replace(context, machine=Machine(torch.device(device), THREADS, deterministic=False))


@pytest.fixture(autouse=True)
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPUS, "")  # so that what a test leaves there is taken back
    monkeypatch.delenv(GPUS)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "made up")
    made_up = lambda kind, *, jobs: Machine(torch.device(kind), THREADS // jobs, deterministic=False)  # noqa: E731
    monkeypatch.setattr(parallelism, "machine", made_up)


@pytest.mark.parametrize(
    ("device", "seeds", "given", "jobs"),
    [
        ("cuda", 6, None, 4),
        ("cuda", 3, None, 3),  # no more than can work at once
        ("cuda", 1, None, 1),
        ("cuda", 6, 2, 2),  # told by one that has kept the first of two for itself
        ("cuda", 6, 1, 1),
        ("cuda:1", 6, None, 1),  # the one that the run names
    ],
)
def test_there_is_a_process_for_each_gpu_that_has_work(
    tmp_path: Path, device: str, seeds: int, given: int | None, jobs: int
) -> None:
    context = on(device, prepared(micro(f"seeds={seeds}"), tmp_path))
    (shared,) = share_out([context], given)
    assert shared.jobs == jobs and shared.machine.device == torch.device(device)
    assert shared.machine.threads == THREADS // jobs


def test_gpus_are_counted_before_a_process_keeps_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, str | None]] = []
    contexts = [on("cuda", prepared(micro("seeds=6"), tmp_path))]

    def asked(request: object, stop: Stop, on_gpus: int, packed: object = ()) -> list[RunContext]:
        seen.append((on_gpus, os.environ.get(GPUS)))
        return share_out(contexts, on_gpus)

    class Told:
        def __init__(self) -> None:
            self.messages: list[dict[str, object]] = []

        def say(self, message: dict[str, object]) -> None:
            self.messages.append(message)

    line = Told()
    monkeypatch.setattr(worker, "_contexts", asked)
    monkeypatch.setattr(worker, "_take_part", lambda contexts, line: None)
    monkeypatch.setattr(fork, "fork", lambda *given: pytest.fail("a GPU's process is not forked"))
    request = {"plugins": [], "number": 0, "device": "auto", "jobs": "auto", "recipes": [["", MICRO]]}
    worker._serve(dict(request), b"", Stop(), line)  # type: ignore[arg-type]
    (made,) = line.messages
    assert made["prepared"]["jobs"] == 4 and made["prepared"]["forks"] is False  # type: ignore[index]
    worker._serve({**request, "number": 2}, b'["a plan"]', Stop(), line)  # type: ignore[arg-type]
    assert seen[0] == (4, "0") and len(line.messages) == 1
