"""What commands cost where nothing is left to train: `python benchmarks/finished_recipe.py CACHE`.

The store of a recipe with about 2,000 small trainings on MNIST-1D is made in the folder CACHE once and used again. Then
`lottery run`, `run --jobs 2`, `table` and `plan` are measured on it in turns, each a process of its own: seconds from
start to end, seconds of CPU over all its processes, and the most memory that its first process and any of those it
started held. `mnist` in place of `mnist1d` is a recipe of 60 jobs whose data take long to read; it needs MNIST in
$LOTTERY_DATA. Linux only."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path

from logbook import keep

RECIPE = """
name: finished-%s
data: %s
model: %s
init: glorot_normal
train:
  optimizer: %s
  batch_size: 50
  length: 4it
  evaluate_every: 2it
prune: {fraction: 0.2, levels: %d}
rewind: 1it
seeds: %d
branches: %s
compare: {margin: 1}
"""
CASES = {
    "mnist1d": (
        "{name: mnist1d, samples: 500, validation: 100}",
        "{name: mlp, widths: [16]}",
        "[{name: adam, lr: 1e-3}, {name: momentum, lr: 0.05}]",
        9,
        26,
        "[reinit, shuffle, random]",
    ),
    "mnist": ("{name: mnist, validation: 5000}", "{name: lenet, widths: [16]}", "{name: adam, lr: 1e-3}", 4, 10, "[]"),
}
COMMANDS = (["run"], ["run", "--jobs", "2"], ["table"], ["plan"])
# runs a command and says how long it took; a process of its own, so that nobody else's children are counted
SMALL = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=2)
print(process.pid, flush=True)
code = process.wait()
seconds, times = time.perf_counter() - began, os.times()
print(json.dumps([code, seconds, times.children_user + times.children_system]))
"""
WATCH_SECONDS = 0.01  # between looks at the processes of a command


class Peaks:
    """The most resident bytes that each process of a command has held, read from /proc while it runs.

    The kernel keeps the peak itself, so a look shortly before a process ends is enough."""

    def __init__(self, first: int):
        self._first, self._bytes, self._ended = first, dict[int, int](), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> tuple[int, int, int]:
        """Bytes of the first process, of the largest of those it started, and how many these were."""
        self._ended.set()
        self._thread.join()
        others = [peak for pid, peak in self._bytes.items() if pid != self._first]
        return self._bytes.get(self._first, 0), max(others, default=0), len(others)

    def _watch(self) -> None:
        while not self._ended.wait(WATCH_SECONDS):
            pids = [self._first]
            for pid in pids:
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                    children = [
                        int(child)
                        for task in Path(f"/proc/{pid}/task").iterdir()
                        for child in (task / "children").read_text().split()
                    ]
                except (FileNotFoundError, ProcessLookupError):
                    continue  # it has just ended
                pids += children
                peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), None)
                if peak is not None:
                    self._bytes[pid] = max(self._bytes.get(pid, 0), 1024 * int(peak.split()[1]))


def command(name: list[str], recipe: Path, store: Path) -> list[str]:
    return [sys.executable, "-m", "lottery", name[0], str(recipe), "--store", str(store), *name[1:]]


def measured(name: list[str], recipe: Path, store: Path) -> dict[str, float]:
    """Return seconds, CPU seconds and peak bytes of one command. Raises RuntimeError where it fails."""
    small = subprocess.Popen(
        [sys.executable, "-c", SMALL, *command(name, recipe, store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert small.stdout is not None
    peaks = Peaks(int(small.stdout.readline()))
    out, err = small.communicate()
    first, largest, others = peaks.end()
    code, seconds, cpu = json.loads(out)
    if code:
        raise RuntimeError(f"lottery {' '.join(name)}: exit code {code}\n{err}")
    return {"seconds": seconds, "cpu_seconds": cpu, "bytes": first, "other_bytes": largest, "others": others}


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("cache", type=Path, help="a folder for the recipe and its store")
    options.add_argument("--case", choices=CASES, default="mnist1d")
    options.add_argument("--turns", type=int, default=5)
    given = options.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    recipe, store = given.cache / f"finished-{given.case}.yaml", given.cache / given.case
    recipe.write_text(RECIPE % (given.case, *CASES[given.case]))
    # with two processes and one thread each, so that a store is the same wherever and however often it is continued
    subprocess.run(command(["run", "--jobs", "2", "--deterministic"], recipe, store), check=True, stdout=2)
    jobs = len(list(store.glob("jobs/*/*/manifest.json")))
    turns: dict[str, list[dict[str, float]]] = {" ".join(name): [] for name in COMMANDS}
    for _ in range(given.turns):
        for name in COMMANDS:
            turns[" ".join(name)].append(measured(name, recipe, store))
    results: list[dict[str, object]] = []
    for called, runs in turns.items():
        median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        spread = [round(pick(run["seconds"] for run in runs), 2) for pick in (min, max)]
        print(
            f"lottery {called}, {jobs} jobs done: {median['seconds']:.2f} s ({spread[0]} to {spread[1]}), "
            f"{median['cpu_seconds']:.2f} s of CPU, {median['bytes'] / 1e6:.0f} MB resident, "
            f"{median['others']:.0f} more processes, the largest {median['other_bytes'] / 1e6:.0f} MB",
            flush=True,
        )
        results.append(
            {
                "case": f"lottery {called}, {jobs} finished jobs on {given.case}",
                "seconds": round(median["seconds"], 3),
                "spread": spread,
                "cpu_seconds": round(median["cpu_seconds"], 3),
                "bytes": int(median["bytes"]),
                "others": int(median["others"]),
                "other_bytes": int(median["other_bytes"]),
                "turns": given.turns,
                "load": round(os.getloadavg()[0], 2),
            }
        )
    keep("finished_recipe", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
