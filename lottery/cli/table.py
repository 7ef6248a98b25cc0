"""The command `lottery table`: one of the tables of what is done so far, of a recipe or of all points of a sweep."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lottery.analysis.views import VIEWS
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
from lottery.cli.tables import Format, Output, writer


def table(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    form: Format = "text",
    output: Output = None,
    view: Annotated[
        str, typer.Option(help=f"Which table: {', '.join(VIEWS)}, or an analysis of the recipe.")
    ] = "means",
    profile: Annotated[
        bool, typer.Option("--profile", help="Of an analysis: each point that was measured, network by network.")
    ] = False,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Print the table of ticket against dense accuracy, or another view, from what is done so far."""
    from lottery.analysis.environments import roundings
    from lottery.analysis.sweep import swept_rows, swept_rows_of
    from lottery.results.sweep import swept_study

    write = writer(form, output)
    found = swept_study(load_points(recipe, sets, plugin, point, store), store=store, data=data)
    tell_missing(found, command_line("run", recipe, sets, point, plugin, data, store))
    if profile:
        from lottery.analysis.profiles import profile_rows

        write(swept_rows(found, lambda study: profile_rows(study, view)))
    else:
        write(swept_rows_of(found, view))
    for sentence in dict.fromkeys(said for each in found.studies for said in roundings(each)):
        print(sentence, file=sys.stderr)
