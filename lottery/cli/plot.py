"""The commands `lottery plot ...`: figures as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli.options import DataDir, Plugins, RecipeName, Sets, StoreDir, load
from lottery.figures import FIGURES
from lottery.paths import data_root

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe

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

    Reads the data only where a length of the recipe is in epochs.
    """
    from lottery.figures.save import save_figure
    from lottery.figures.schedule import schedule_figure

    loaded = load(recipe, sets, plugin)
    for path in output or [Path(f"{loaded.name}-schedule.png")]:
        save_figure(path, lambda: schedule_figure(loaded, data_root(data), log=log))
        print(path)


@plot.command()
def differences(
    recipe: RecipeName,
    sets: Sets = None,
    output: Outputs = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", metavar="COLUMN", help="Draw this control's mean difference too; repeatable."),
    ] = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw ticket less dense accuracy against density, with the bound and the verdicts, of what is finished so far."""
    _draw("differences", load(recipe, sets, plugin), output, data, store, controls=control or ())


def _command(name: str, shows: str) -> Callable[..., None]:
    def command(
        recipe: RecipeName,
        sets: Sets = None,
        output: Outputs = None,
        data: DataDir = None,
        store: StoreDir = None,
        plugin: Plugins = None,
    ) -> None:
        _draw(name, load(recipe, sets, plugin), output, data, store)

    command.__doc__ = f"Draw {shows}, of what is finished so far."
    return command


def _draw(
    name: str, recipe: Recipe, output: list[Path] | None, data: Path | None, store: Path | None, **options: Any
) -> None:
    from lottery.figures import draw
    from lottery.figures.save import check_suffix, save_figure
    from lottery.results.study import study

    paths = [check_suffix(path) for path in output or [Path(f"{recipe.name}-{name}.png")]]
    figure = draw(study(recipe, data=data, store=store), name, **options)
    for path in paths:
        save_figure(path, lambda: figure)
        print(path)


for _name, _entry in FIGURES.items():
    if _name != "differences":  # which has an option of its own
        plot.command(_name.replace("_", "-"))(_command(_name, _entry.shows))
