"""The commands `lottery plot ...`: figures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lottery.options import DataDir, Plugins, RecipeName, Sets, load
from lottery.places import data_root

plot = typer.Typer(help="Draw figures: .png, .svg or .pdf.", no_args_is_help=True)


@plot.callback()
def _plot() -> None:
    """A command group also while it has a single command."""


@plot.command()
def schedule(
    recipe: RecipeName,
    sets: Sets = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to [RECIPE-schedule.png]; .png, .svg or .pdf."),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic scale for the learning rate.")] = False,
    data: DataDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw the learning rate of each optimizer over the steps, with warm-up and rewind points.

    Reads the data only where a length of the recipe is in epochs."""
    from lottery.plot import image, schedule_figure

    loaded = load(recipe, sets, plugin)
    path = output or Path(f"{loaded.name}-schedule.png")
    image(path, lambda: schedule_figure(loaded, data_root(data), log=log))
    print(path)
