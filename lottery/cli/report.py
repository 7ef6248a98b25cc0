"""The command `lottery report`: all that a study says, in one HTML file and in the formats of papers and programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli.options import (
    DataDir,
    Plugins,
    Points,
    RecipeName,
    Sets,
    StoreDir,
    command_line,
    load_points,
    tell_missing,
)
from lottery.collector import seldom_collecting

if TYPE_CHECKING:
    from lottery.recipe.sweep import Sweep


@contextmanager
def _one_thread_for_products() -> Iterator[None]:
    """Have numpy, not imported yet, take one thread: two processes make a report, which small products keep waiting."""
    name = "OPENBLAS_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]


@_one_thread_for_products()
@seldom_collecting()
def report(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="The folder to write to [RECIPE-report].")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="A,B", help="Of html, md, tex, json, csv and parquet; all if not given."),
    ] = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Write the report on what is done so far: question, verdicts, tables, figures, where each number comes from."""
    from lottery.report.content import collect
    from lottery.report.export import drawings, export, formats
    from lottery.report.sweep import collect_sweep
    from lottery.results.sweep import swept_study

    wanted = formats(form)
    found = swept_study(load_points(recipe, sets, plugin, point, store), store=store, data=data)
    tell_missing(found, command_line("run", recipe, sets, point, plugin, data, store))
    made = collect(found.studies[0], drawings(wanted)) if len(found.studies) == 1 else collect_sweep(found)
    files = export(replace(made, changed=_changed(found.sweep)), output or Path(f"{made.name}-report"), wanted)
    print(files[-1])


def _changed(sweep: Sweep) -> str:
    """Return a sentence on the values of `--set`, of each key the last; empty where there are none."""
    overrides = sweep.origin.overrides if sweep.origin else ()
    last = {each.partition("=")[0]: each for each in overrides}
    return f"The recipe was changed by {' '.join(f'--set {each}' for each in last.values())}." if last else ""
