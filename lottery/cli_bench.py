"""The command `lottery bench`: how much faster than a bare loop this machine trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lottery.listing import print_json
from lottery.options import DataDir, Json


def bench(
    only: Annotated[list[str] | None, typer.Argument(metavar="[CASE]...", help="Some of the cases [all].")] = None,
    turns: Annotated[int, typer.Option(min=1, help="How often each is measured; the median counts.")] = 5,
    log: Annotated[Path, typer.Option(metavar="FILE", help="Where figures are kept, a line a run.")] = Path(
        "benchmarks/log/bench.jsonl"
    ),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="A picture: .png, .svg or .pdf.")
    ] = None,
    images: Annotated[str, typer.Option(metavar="DATA", help="What ResNet-20 trains on, as in a recipe.")] = "cifar10",
    data: DataDir = None,
    as_json: Json = False,
) -> None:
    """Measure trainings of LeNet and ResNet-20 against a bare loop, in turns; needs MNIST and CIFAR-10."""
    from lottery import benchmark
    from lottery.places import data_root
    from lottery.plot import checked, image

    if output is not None:
        checked(output)
    chosen, before = benchmark.cases(only or (), images), benchmark.last(log)
    results = benchmark.measure(chosen, data_root(data), turns, lambda line: print(line, file=sys.stderr))
    benchmark.keep(log, results)
    if output is not None:
        image(output, lambda: benchmark.figure(results, before))
    if as_json:
        print_json([result.row() for result in results])
    else:
        print("\n".join(benchmark.table(results, before)))
