"""Functions that run on several processes at once, each of which is a rank of one group of gloo's."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch.multiprocessing.spawn import spawn

from lottery.distributed.group import Group, open_group

JOIN_SECONDS = 240  # a busy machine is slow, not stuck


def named(module: ModuleType, names: Sequence[str]) -> list[str]:
    """The functions of a module as `failures` takes them: `module:function`."""
    return [f"{module.__name__}:{name}" for name in names]


def failures(scenarios: Sequence[str], folder: Path, ranks: int = 2) -> dict[str, str]:
    """Run functions `f(group)`, one after the other on all ranks; return the traceback of each that failed by name.

    Of several ranks that failed, the first one has the word: the others may have met nothing but its silence.
    """
    context = spawn(_rank, (ranks, list(scenarios), str(folder)), ranks, join=False)
    assert context is not None
    end = time.monotonic() + JOIN_SECONDS
    while not context.join(timeout=max(0.0, end - time.monotonic()), grace_period=5):
        if time.monotonic() >= end:
            for process in context.processes:
                process.kill()
            raise AssertionError("the ranks wait for one another")
    found = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]
    return {name: text for each in reversed(found) for name, text in each.items()}


def _rank(rank: int, ranks: int, scenarios: list[str], folder: str) -> None:
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    with open_group(rank, ranks, rank, torch.device("cpu"), f"file://{folder}/meet") as group:
        for scenario in scenarios:
            module, _, name = scenario.partition(":")
            run: Callable[[Group], None] = getattr(import_module(module), name)
            try:
                run(group)
            except Exception:
                found[scenario] = traceback.format_exc()
                print(f"rank {rank}: {scenario}: {found[scenario]}", flush=True)  # also where the others wait for it
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(found))
