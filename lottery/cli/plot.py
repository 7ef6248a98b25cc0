"""The commands `lottery plot ...`: figures as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli.options import (
    DataDir,
    Plugins,
    Points,
    RecipeName,
    Sets,
    StoreDir,
    command_line,
    load,
    load_points,
    tell_missing,
)
from lottery.cli.plot_options import (
    Columns,
    Densities,
    Levels,
    Optimizers,
    Outputs,
    RecipeNames,
    Width,
    listed,
    selection,
)
from lottery.figures import FIGURES
from lottery.paths import data_root

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lottery.results.study import Study

plot = typer.Typer(help="Draw figures: .png, .svg or .pdf.", no_args_is_help=True)


@plot.command()
def schedule(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    width: Width = None,
    optimizers: Optimizers = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic scale for the learning rate.")] = False,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw the learning rate of each optimizer over the steps, with warm-up and rewind points.

    Reads the data only where a length of the recipe is in epochs.
    """
    from lottery.figures.schedule import schedule_figure
    from lottery.figures.sizes import width_of

    inches, loaded = width_of(width), load(recipe, sets, plugin, point, store)
    options: dict[str, Any] = {"log": log, "optimizers": listed(optimizers), "width": inches}
    _write(output, f"{loaded.name}-schedule", lambda: schedule_figure(loaded, data_root(data), **options))


@plot.command()
def differences(
    recipe: RecipeNames,
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    width: Width = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            "--against",
            metavar="NAME,...",
            help="What is subtracted: dense, a control, a study; repeatable; dense if not given.",
        ),
    ] = None,
    optimizers: Optimizers = None,
    columns: Columns = None,
    levels: Levels = None,
    densities: Densities = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw ticket less dense accuracy by density, with bound and verdicts, or less a control's: paired by seed."""
    shown = selection(optimizers, columns, levels, densities)
    options: dict[str, Any] = {"against": subtracted} if (subtracted := listed(against)) else {}
    _draw("differences", _all(recipe, sets, plugin, point, data, store), output, width, shown=shown, **options)


@plot.command()
def sweep(
    recipe: RecipeName,
    against: Annotated[
        str,
        typer.Option(
            "--against", metavar="KEY", help="The swept key along the axis; the one with most values if not given."
        ),
    ] = "",
    measure: Annotated[
        str,
        typer.Option(
            "--measure", metavar="NAME", help="accuracy, loss, train_loss, ..., or LABEL.VALUE of an analysis."
        ),
    ] = "accuracy",
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network", metavar="NAME", help="dense, ticket or a control; repeatable; dense and ticket if not given."
        ),
    ] = None,
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    width: Width = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw what was measured at the points of a sweep against one of its keys, a line for the values of the others."""
    from lottery.figures.sizes import width_of
    from lottery.figures.sweep import sweep_figure
    from lottery.results.sweep import swept_study

    inches, points = width_of(width), load_points(recipe, sets, plugin, point, store)

    found = swept_study(points, data=data, store=store)
    tell_missing(found, command_line("run", recipe, sets, point, plugin, data, store))

    def drawn() -> Figure:
        return sweep_figure(found, against, measure, network or (), inches)

    _write(output, f"{points.name}-sweep", drawn)


@plot.command()
def analysis(
    recipe: RecipeName,
    view: Annotated[str, typer.Option("--view", metavar="LABEL", help="Which analysis, by the name of its table.")],
    sets: Sets = None,
    point: Points = None,
    output: Outputs = None,
    width: Width = None,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", metavar="COLUMN", help="Draw this column of the profile, as test_loss; repeatable."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed, where a picture shows one network; the first if not given.")
    ] = None,
    solid: Annotated[bool, typer.Option("--3d", help="Planes as surfaces in three dimensions.")] = False,
    captioned: Annotated[bool, typer.Option("--caption/--no-caption", help="Write the caption above it.")] = True,
    optimizers: Optimizers = None,
    levels: Levels = None,
    densities: Densities = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Draw what an analysis measured, of what is finished so far: paths, slices, planes, spectra, signals by layer.

    Of `errors` the measures are loss and error, of which the three errors are the parts.
    """
    from lottery.figures.analyses import analysis_figure
    from lottery.figures.sizes import width_of
    from lottery.results.study import study

    options: dict[str, Any] = {"measures": measure or (), "seed": seed, "solid": solid, "captioned": captioned}
    options |= {"shown": selection(optimizers, None, levels, densities), "width": width_of(width)}
    loaded = load(recipe, sets, plugin, point, store)
    found = study(loaded, data=data, store=store)
    _write(output, f"{loaded.name}-{view}", lambda: analysis_figure(found, view, **options))


def _command(name: str, shows: str) -> Callable[..., None]:
    """Return a command that draws a figure of one study."""

    def command(
        recipe: RecipeName,
        sets: Sets = None,
        point: Points = None,
        output: Outputs = None,
        width: Width = None,
        optimizers: Optimizers = None,
        levels: Levels = None,
        densities: Densities = None,
        data: DataDir = None,
        store: StoreDir = None,
        plugin: Plugins = None,
    ) -> None:
        from lottery.results.study import study

        shown = selection(optimizers, None, levels, densities)
        studies = [study(load(recipe, sets, plugin, point, store), data=data, store=store)]
        _draw(name, studies, output, width, shown=shown)

    command.__doc__ = f"Draw {shows}, of what is finished so far."
    return command


def _command_with_columns(name: str, shows: str) -> Callable[..., None]:
    """Return a command that draws a figure of the columns of a study, or of several."""

    def command(
        recipe: RecipeNames,
        sets: Sets = None,
        point: Points = None,
        output: Outputs = None,
        width: Width = None,
        optimizers: Optimizers = None,
        columns: Columns = None,
        levels: Levels = None,
        densities: Densities = None,
        data: DataDir = None,
        store: StoreDir = None,
        plugin: Plugins = None,
    ) -> None:
        shown = selection(optimizers, columns, levels, densities)
        _draw(name, _all(recipe, sets, plugin, point, data, store), output, width, shown=shown)

    command.__doc__ = f"Draw {shows}, of what is finished so far."
    return command


def _all(
    recipes: Sequence[str],
    sets: Sequence[str] | None,
    plugins: Sequence[str] | None,
    points: Sequence[str] | None,
    data: Path | None,
    store: str | None,
) -> list[Study]:
    """Return the studies of recipes, each with the same settings, and say what they lack; of a sweep its points."""
    from lottery.results.sweep import swept_study
    from lottery.store.open import open_store

    opened = open_store(store)
    sweeps = [load_points(recipe, sets, plugins, points, opened) for recipe in recipes]
    swept = [swept_study(sweep, data=data, store=opened) for sweep in sweeps]
    for found, recipe in zip(swept, recipes, strict=True):
        tell_missing(found, command_line("run", recipe, sets, points, plugins, data, store))
    return [study for found in swept for study in found.studies]


def _draw(name: str, studies: Sequence[Study], output: list[Path] | None, width: str | None, **options: Any) -> None:
    """Write a figure of studies into each of the files."""
    from lottery.figures import draw
    from lottery.figures.sizes import width_of
    from lottery.results.several import several

    inches = width_of(width)
    called = "-".join(dict.fromkeys(each.recipe.name for each in studies))
    labelled = several(studies) if len(studies) > 1 else [("", studies[0])]
    _write(output, f"{called}-{name}", lambda: draw(labelled, name, width=inches, **options))


def _write(output: Sequence[Path] | None, name: str, draw: Callable[[], Figure]) -> None:
    """Draw a figure, and write it into each of the files, whose names are looked at first."""
    from lottery.figures.save import check_suffix, save_figure

    paths = [check_suffix(path) for path in output or [Path(f"{name}.png")]]
    figure = draw()
    for path in paths:
        save_figure(path, lambda: figure)
        print(path)


for _name, _entry in FIGURES.items():
    if _name != "differences":  # which has an option of its own
        _make = _command_with_columns if _entry.several or _name == "curves" else _command
        plot.command(_name.replace("_", "-"))(_make(_name, _entry.shows))
