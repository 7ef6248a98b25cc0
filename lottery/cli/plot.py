"""The commands `lottery plot ...`: figures as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli.options import DataDir, Plugins, Points, RecipeName, Sets, StoreDir, load, load_points
from lottery.figures import FIGURES
from lottery.paths import data_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study

plot = typer.Typer(help="Draw figures: .png, .svg or .pdf.", no_args_is_help=True)

Outputs = Annotated[
    list[Path] | None,
    typer.Option("-o", "--output", metavar="FILE", help="Where to [RECIPE-FIGURE.png]; .png, .svg, .pdf; repeatable."),
]


@plot.command()
def schedule(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic scale for the learning rate.")] = False,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw the learning rate of each optimizer over the steps, with warm-up and rewind points.

    Reads the data only where a length of the recipe is in epochs.
    """
    from lottery.figures.save import save_figure
    from lottery.figures.schedule import schedule_figure

    loaded = load(recipe, sets, plugin, point, store)
    for path in output or [Path(f"{loaded.name}-schedule.png")]:
        save_figure(path, lambda: schedule_figure(loaded, data_root(data), log=log))
        print(path)


@plot.command()
def differences(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
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
    _draw("differences", load(recipe, sets, plugin, point, store), output, data, store, controls=control or ())


@plot.command()
def sweep(
    recipe: RecipeName,
    against: Annotated[
        str, typer.Option("--against", metavar="KEY", help="The swept key along the axis [the one with most values].")
    ] = "",
    measure: Annotated[
        str,
        typer.Option(
            "--measure", metavar="NAME", help="accuracy, loss, train_loss, ..., or LABEL.VALUE of an analysis."
        ),
    ] = "accuracy",
    network: Annotated[
        list[str] | None,
        typer.Option("--network", metavar="NAME", help="dense, ticket or a control; repeatable [dense and ticket]."),
    ] = None,
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw what was measured at the points of a sweep against one of its keys, a line for the values of the others."""
    from lottery.figures.save import check_suffix, save_figure
    from lottery.figures.sweep import sweep_figure
    from lottery.results.sweep import swept_study

    points = load_points(recipe, sets, plugin, point, store)
    paths = [check_suffix(path) for path in output or [Path(f"{points.name}-sweep.png")]]
    figure = sweep_figure(swept_study(points, data=data, store=store), against, measure, network or ())
    for path in paths:
        save_figure(path, lambda: figure)
        print(path)


@plot.command()
def analysis(
    recipe: RecipeName,
    view: Annotated[str, typer.Option("--view", metavar="LABEL", help="Which analysis, by the name of its table.")],
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", metavar="COLUMN", help="Draw this column of the profile, as test_loss; repeatable."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The seed, where a picture shows one network [the first].")] = None,
    solid: Annotated[bool, typer.Option("--3d", help="Planes as surfaces in three dimensions.")] = False,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw what an analysis measured, of what is finished so far: paths, slices, planes, spectra, signals by layer.

    Of `errors` the measures are loss and error, of which the three errors are the parts.
    """
    from lottery.figures.analyses import analysis_figure

    loaded = load(recipe, sets, plugin, point, store)
    options: dict[str, Any] = {"measures": measure or (), "seed": seed, "solid": solid}
    _save(loaded, view, output, data, store, lambda found: analysis_figure(found, view, **options))


def _command(name: str, shows: str) -> Callable[..., None]:
    def command(
        recipe: RecipeName,
        sets: Sets = None,
        point: Points = None,
        output: Outputs = None,
        data: DataDir = None,
        store: StoreDir = None,
        plugin: Plugins = None,
    ) -> None:
        _draw(name, load(recipe, sets, plugin, point, store), output, data, store)

    command.__doc__ = f"Draw {shows}, of what is finished so far."
    return command


def _draw(
    name: str, recipe: Recipe, output: list[Path] | None, data: Path | None, store: str | None, **options: Any
) -> None:
    from lottery.figures import draw

    _save(recipe, name, output, data, store, lambda found: draw(found, name, **options))


def _save(
    recipe: Recipe,
    name: str,
    output: list[Path] | None,
    data: Path | None,
    store: str | None,
    draw: Callable[[Study], Figure],
) -> None:
    """Write a figure of the recipe's study into each of the files."""
    from lottery.figures.save import check_suffix, save_figure
    from lottery.results.study import study

    paths = [check_suffix(path) for path in output or [Path(f"{recipe.name}-{name}.png")]]
    figure = draw(study(recipe, data=data, store=store))
    for path in paths:
        save_figure(path, lambda: figure)
        print(path)


for _name, _entry in FIGURES.items():
    if _name != "differences":  # which has an option of its own
        plot.command(_name.replace("_", "-"))(_command(_name, _entry.shows))
