"""The command `lottery bench`: how much faster than a bare loop this machine trains."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lottery.cli.listing import print_json
from lottery.cli.options import DataDir, Json
from lottery.errors import UsageError


def bench(
    only: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CASE]...", help="Some of the cases; all but those of executors if none is given."),
    ] = None,
    turns: Annotated[int, typer.Option(min=1, help="How often each is measured; the median counts.")] = 5,
    log: Annotated[Path, typer.Option(metavar="FILE", help="Where figures are kept, a line a run.")] = Path(
        "benchmarks/log/bench.jsonl"
    ),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="A picture: .png, .svg or .pdf.")
    ] = None,
    images: Annotated[str, typer.Option(metavar="DATA", help="What ResNet-20 trains on, as in a recipe.")] = "cifar10",
    device: Annotated[str, typer.Option(help="cpu, or cuda, which measures dense trainings only.")] = "cpu",
    data: DataDir = None,
    as_json: Json = False,
) -> None:
    """Measure trainings of LeNet and ResNet-20 against a bare loop, in turns; needs MNIST and CIFAR-10."""
    from lottery.benchmark.cases import cases, measure
    from lottery.benchmark.results import figure, keep, last, table
    from lottery.figures.save import check_suffix, save_figure
    from lottery.paths import data_root

    if output is not None:
        check_suffix(output)
    if device not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: bench measures on cpu or on cuda")
    chosen, before = cases(only or (), images, device), last(log, device)
    results = measure(chosen, data_root(data), turns, lambda line: print(line, file=sys.stderr), device)
    keep(log, results, device)
    if output is not None:
        save_figure(output, lambda: figure(results, before))
    if as_json:
        print_json([result.row() for result in results])
    else:
        print("\n".join(table(results, before)))
