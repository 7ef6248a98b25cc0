"""The command `lottery table`: one of the tables of what is done so far, of a recipe, a sweep, or several studies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.analysis.views import VIEWS
from lottery.cli.options import DataDir, Plugins, Points, Sets, StoreDir, command_line, load_points, tell_missing
from lottery.cli.tables import Format, Output, Width, writer
from lottery.collector import seldom_collecting
from lottery.errors import UsageError

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.meanwhile import Ahead
    from lottery.recipe.sweep import Point, Sweep
    from lottery.results.sweep import SweptStudy


@seldom_collecting()
def table(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE...",
            help="Recipe paths, or names of studies in the store (lottery studies) or of shipped recipes; of several: "
            "one table of all, each tested against the first.",
        ),
    ],
    sets: Sets = None,
    point: Points = None,
    form: Format = "text",
    output: Output = None,
    view: Annotated[
        str, typer.Option(help=f"Which table: {', '.join(VIEWS)}, or an analysis of the recipe.")
    ] = "means",
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns", metavar="NAME,NAME", help="Only these, in this order, beside what says what rows are."
        ),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            "--rows",
            metavar="COLUMN=VALUE,VALUE",
            help="Only rows with one of these values, densities in percent: density=20.97,5.5; repeatable.",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="NAME",
            help="Of several studies and the matrix: dense, ticket or a control; ticket if not given.",
        ),
    ] = None,
    width: Width = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Of an analysis: each point that was measured, network by network.")
    ] = False,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Print the table of ticket against dense accuracy, or another view, from what is done so far."""
    from lottery.analysis.engines import how_computed
    from lottery.analysis.selection import select, setting
    from lottery.analysis.several import rows_of_all
    from lottery.results.sweep import swept_study

    caption = VIEWS[view].caption if view in VIEWS else view
    sweeps = [load_points(each, sets, plugin, point, store) for each in recipes]
    write = writer(form, output, caption, "-".join([*(sweep.name for sweep in sweeps), view]), width)
    with _ahead(sweeps, view) as ahead:
        swept = [swept_study(sweep, store=store, data=data, ahead=ahead) for sweep in sweeps]
        for found, recipe in zip(swept, recipes, strict=True):
            tell_missing(found, command_line("run", recipe, sets, point, plugin, data, store))
        made = _profiles(swept, view) if profile else rows_of_all(swept, view, network)
    names = [name.strip() for name in columns.split(",")] if columns else ()
    write(select(made, [setting(each) for each in rows or ()], names))
    named = [(_label(found, point, len(swept)), study) for found in swept for point, study in found]
    for sentence in how_computed(*(study for _, study in named), labels=[label for label, _ in named]):
        print(sentence, file=sys.stderr)


def _label(found: SweptStudy, point: Point, number: int) -> str:
    """Return the label of a study, of a point of a sweep or of one recipe, among so many of them."""
    return point.label if number == 1 else f"{found.sweep.name} {point.label}" if found.sweep.keys else found.sweep.name


def _ahead(sweeps: Sequence[Sweep], view: str) -> AbstractContextManager[Ahead | None]:
    """Give a second process that imports torch while this one reads records; None for a view that needs none."""
    from lottery.meanwhile import Ahead

    needs = VIEWS[view].needs_torch if view in VIEWS else None
    asked = needs is not None and any(needs(point.recipe) for sweep in sweeps for point in sweep.points)
    return Ahead("torch", "lottery.runner.finished_study") if asked else nullcontext()


def _profiles(swept: Sequence[SweptStudy], view: str) -> list[Row]:
    from lottery.analysis.profiles import profile_rows
    from lottery.analysis.sweep import swept_rows

    if len(swept) > 1:
        raise UsageError("--profile: is of one recipe; name the others in tables of their own")
    return swept_rows(swept[0], lambda study: profile_rows(study, view))
