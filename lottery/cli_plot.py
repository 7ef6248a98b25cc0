"""The commands `lottery plot ...`: figures as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lottery.figures import FIGURES
from lottery.options import DataDir, Plugins, RecipeName, Sets, StoreDir, load
from lottery.places import data_root

plot = typer.Typer(help="Draw figures: .png, .svg or .pdf.", no_args_is_help=True)

Outputs = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to [RECIPE-FIGURE.png]; .png, .svg, .pdf; repeatable."),
]


@plot.command()
def schedule(
    recipe: RecipeName,
    sets: Sets = None,
    output: Outputs = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic scale for the learning rate.")] = False,
    data: DataDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw the learning rate of each optimizer over the steps, with warm-up and rewind points.

    Reads the data only where a length of the recipe is in epochs."""
    from lottery.plot import image, schedule_figure

    loaded = load(recipe, sets, plugin)
    for path in output or [Path(f"{loaded.name}-schedule.png")]:
        image(path, lambda: schedule_figure(loaded, data_root(data), log=log))
        print(path)


def _command(name: str, shows: str) -> Callable[..., None]:
    def command(
        recipe: RecipeName,
        sets: Sets = None,
        output: Outputs = None,
        data: DataDir = None,
        store: StoreDir = None,
        plugin: Plugins = None,
    ) -> None:
        from lottery.figures import draw
        from lottery.plot import checked, image
        from lottery.study import study

        loaded = load(recipe, sets, plugin)
        paths = [checked(path) for path in output or [Path(f"{loaded.name}-{name}.png")]]
        found = study(loaded, data=data, store=store)
        figure = draw(found, name)
        for path in paths:
            image(path, lambda: figure)
            print(path)

    command.__doc__ = f"Draw {shows}, of what is finished so far."
    return command


for _name, _entry in FIGURES.items():
    plot.command(_name.replace("_", "-"))(_command(_name, _entry.shows))
