"""The command behind `make gpu`: `python -m benchmarks.gpu [--dry] [--log FOLDER] [STAGE]...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu.drive import drive
from benchmarks.gpu.stage import Stage
from benchmarks.gpu.stages import STAGES
from benchmarks.gpu.table import keep, markdown

LOG = Path(__file__).parents[1] / "log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and keep it; exit code 1 where a stage went wrong."""
    names = ", ".join(stage.name for stage in STAGES)
    parser = argparse.ArgumentParser(prog="make gpu", description="What a GPU gains, in eight minutes.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"some of the stages: {names}; all if none is given")
    parser.add_argument("--dry", action="store_true", help="try all stages on the CPU, with small sizes")
    parser.add_argument("--log", type=Path, default=LOG, help="folder of the table and the log")
    given = parser.parse_args(arguments)
    if unknown := set(given.stages) - {stage.name for stage in STAGES}:
        parser.error(f"there is no stage {min(unknown)}; there are {names}")
    dry = given.dry
    if not dry and not _has_gpu():
        print("torch sees no CUDA device here: this is a dry run on the CPU, with small sizes; nothing of it is kept")
        dry = True
    date = datetime.now(UTC)
    ended = drive(chosen(given.stages), dry=dry, log=given.log, told=lambda line: print(line, flush=True))
    print()
    print(markdown(ended, dry=dry, date=date))
    if not dry:
        print(f"kept in {keep(given.log, ended, date)} and {given.log / 'gpu.jsonl'}")
    return 0 if all(each.good for each in ended) else 1


def chosen(names: Sequence[str]) -> list[Stage]:
    """Return the stages of these names, all without any; the machine's facts, which the log needs, come first."""
    return [stage for stage in STAGES if not names or stage.name in (*names, "facts")]


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
