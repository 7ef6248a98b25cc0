"""The command `lottery report`: all that a study says, in one HTML file and in the formats of papers and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lottery.cli.options import DataDir, Plugins, Points, RecipeName, Sets, StoreDir, load_study


def report(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
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
    from lottery.report.content import collect
    from lottery.report.export import export, formats

    wanted = formats(form)
    found = load_study(recipe, sets, plugin, store, data, point)
    files = export(collect(found), output or Path(f"{found.recipe.name}-report"), wanted)
    print(files[-1])
