"""The command behind `make gpu`: `python -m benchmarks.gpu [--dry] [--log FOLDER] [STAGE]...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

from benchmarks.gpu.drive import drive
from benchmarks.gpu.stage import Stage
from benchmarks.gpu.stages import STAGES
from benchmarks.gpu.table import Log, markdown
from lottery.signals import signals_to

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
    run = partial(drive, chosen(given.stages), dry=dry, log=given.log, told=lambda line: print(line, flush=True))
    with _ended_by_signals():
        if dry:
            ended = run()
        else:
            log = Log(given.log, date)
            print(f"kept in {log.table} and {log.file}, what is measured at once", flush=True)
            ended = run(kept=log.add, done=log.write_table)
    print()
    print(markdown(ended, dry=dry, date=date))
    return 0 if all(each.good for each in ended) else 1


def chosen(names: Sequence[str]) -> list[Stage]:
    """Return the stages of these names, all without any; the machine's facts, which the log needs, come first."""
    return [stage for stage in STAGES if not names or stage.name in (*names, "facts")]


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have a signal that ends this process end the stage that runs as well, whose processes are no children of a shell.

    A machine that is lent sends one where its time is up.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    with signals_to(leave):
        yield


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
