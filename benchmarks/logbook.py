"""Keeps each benchmark's figures beside the earlier ones: a line of JSON a run in `benchmarks/log/`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import torch

from lottery.device import machine


def keep(name: str, results: list[dict[str, object]]) -> None:
    """Append one run's results and where it ran."""
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": machine("auto").environment(),
        "threads": torch.get_num_threads(),
        "results": results,
    }
    with open(Path(__file__).parent / "log" / f"{name}.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
