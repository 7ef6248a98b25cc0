"""What `lottery bench` has measured: a result for each case, its table, its picture, and the log that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.benchmark.case import Case
from lottery.device import machine
from lottery.files.write import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """A case over all its turns: the ratio's median, least and largest, and the median seconds of both sides.

    `peak_bytes` is the memory of one process, where that is measured.
    """

    case: Case
    ratio: float
    low: float
    high: float
    base_seconds: float
    seconds: float
    peak_bytes: int | None

    def row(self) -> dict[str, Any]:
        """Return the result as plain values, for the log."""
        figures = ("ratio", "low", "high", "base_seconds", "seconds")
        row = {"case": self.case.name, **{name: round(getattr(self, name), 4) for name in figures}}
        most = {"most": round(self.case.most, 4)} if isfinite(self.case.most) else {}
        return {**row, "least": round(self.case.least, 4), **most, "peak_bytes": self.peak_bytes}

    @property
    def held(self) -> str:
        """Empty where the ratio is what it is held to, else how it is not: `below` or `above`."""
        return "below" if self.ratio < self.case.least else "above" if self.ratio > self.case.most else ""


def last(log: Path, device: str = "cpu") -> Mapping[str, float]:
    """Return the ratio of the last run of each case on this device that the log has, by the case's name."""
    here = machine(device).environment()["device"]
    found: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        entry = json.loads(line)
        if entry["environment"]["device"] == here:
            found |= {row["case"]: row["ratio"] for row in entry["results"]}
    return found


def keep(log: Path, results: Sequence[Result], device: str = "cpu") -> None:
    """Add a line to the log: when, where, and what came out."""
    line = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": machine(device).environment(),
        "results": [result.row() for result in results],
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    before = log.read_bytes() if log.exists() else b""
    write_atomic(log, before + json.dumps(line).encode() + b"\n")


def figure(results: Sequence[Result], before: Mapping[str, float]) -> Figure:
    """Draw a bar for each case, its spread over the turns, what it is held to, and the last ratio that was kept."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7, 0.5 * len(results) + 1.3), layout="constrained")
    axes, places = drawing.subplots(), range(len(results))
    spread = [[r.ratio - r.low for r in results], [r.high - r.ratio for r in results]]
    axes.barh(places, [r.ratio for r in results], xerr=spread, color="#0072B2", height=0.55, label="this run")
    axes.plot([r.case.least for r in results], places, "|", color="black", markersize=16, label="held to")
    kept = [(before[r.case.name], place) for r, place in zip(results, places, strict=True) if r.case.name in before]
    if kept:
        axes.plot(*zip(*kept, strict=True), "o", color="#E69F00", label="last kept")
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(places, [r.case.what for r in results])
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as the bare loop; tickets: as their dense network under engine: dense")
    axes.legend(loc="best", frameon=False)
    return drawing


def table(results: Sequence[Result], before: Mapping[str, float]) -> Iterator[str]:
    """Yield the lines of the table to print."""
    width = max(len(result.case.what) for result in results)
    yield f"{'':{width}}  ratio  least and largest  held to   last  seconds"
    for result in results:
        kept = f"{before[result.case.name]:5.2f}x" if result.case.name in before else "     -"
        spread = f"{result.low:.2f} to {result.high:.2f}"
        memory = f"  {result.peak_bytes / 1e9:.2f} GB a process" if result.peak_bytes else ""
        unit = f" {result.case.unit}" if result.case.unit != "s" else ""
        held = f"  {result.held}" if result.held else ""
        yield (
            f"{result.case.what:{width}}  {result.ratio:4.2f}x  {spread:>17}  {result.case.least:6.2f}x  {kept}"
            f"  {result.base_seconds:.2f} and {result.seconds:.2f}{unit}{memory}{held}"
        )
