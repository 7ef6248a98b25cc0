"""Functions that run on several processes at once, each of which is a rank of one group of gloo's."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

JOIN_SECONDS = 120  # a busy machine is slow, not stuck


def failures(module: str, names: Sequence[str], folder: Path, ranks: int = 2) -> dict[str, str]:
    """Run functions of a module, `f(group)` each, on all ranks; return the traceback of each that failed by name."""
    context = spawn(_rank, (ranks, module, list(names), str(folder)), ranks, join=False)
    assert context is not None
    end = time.monotonic() + JOIN_SECONDS
    while not context.join(timeout=max(0.0, end - time.monotonic()), grace_period=5):
        if time.monotonic() >= end:
            for process in context.processes:
                process.kill()
            raise AssertionError("the ranks wait for one another")
    found = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]
    return {name: text for each in reversed(found) for name, text in each.items()}  # the word of the first rank


def _rank(rank: int, ranks: int, module: str, names: list[str], folder: str) -> None:
    import importlib

    from lottery.distributed.group import open_group

    torch.set_num_threads(1)
    found: dict[str, str] = {}
    with open_group(rank, ranks, rank, torch.device("cpu"), f"file://{folder}/meet") as group:
        for name in names:
            try:
                getattr(importlib.import_module(module), name)(group)
            except Exception:
                found[name] = traceback.format_exc()
                print(rank, name, found[name], flush=True)
    (Path(folder) / f"rank{rank}.json").write_text(json.dumps(found))
