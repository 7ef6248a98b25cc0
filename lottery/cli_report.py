"""The command `lottery report`: all that a study says, in one HTML file and in the formats of papers and programs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lottery.options import DataDir, Plugins, RecipeName, Sets, StoreDir, load


def report(
    recipe: RecipeName,
    sets: Sets = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="The folder to write to [RECIPE-report].")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="A,B", help="Of html, md, tex, json, csv and parquet [all].")
    ] = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Write the report on what is done so far: question, verdicts, tables, figures, where each number comes from."""
    from lottery.report import collect
    from lottery.reports import export, formats
    from lottery.study import study

    wanted = formats(form)
    found = study(load(recipe, sets, plugin), store=store, data=data)
    if found.missing:
        print(f"{found.missing} trainings are missing; lottery run {shlex.quote(recipe)} runs them", file=sys.stderr)
    files = export(collect(found), output or Path(f"{found.recipe.name}-report"), wanted)
    print(files[-1])
