"""The command `lottery check`: what is wrong with a recipe, and what its seeds will be able to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.options import Json, Plugins, Points, RecipeName, Sets, StoreDir, Trust, load_points
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.sweep import Sweep

Claims = Annotated[
    bool, typer.Option("--claims", help="List each test, the fewest seeds for it, and what stands in its way.")
]


def check(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    store: StoreDir = None,
    claims: Claims = False,
    plugin: Plugins = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Say all that is wrong with a recipe, or that it is fine, and what its seeds can show.

    Reads no data, and a store for a study's name only. Plugins that it names and that are not trusted are named with
    their files, and not imported.
    """
    sweep = load_points(recipe, sets, plugin, point, store, trust)
    if as_json and not claims:
        points = [{"values": each.values, "recipe": each.recipe.canonical()} for each in sweep.points]
        print_json({"keys": sweep.keys, "points": points} if sweep.keys else sweep.only.canonical())
        return
    from lottery.verdicts.prospects_in_words import rows, sentences  # imports numpy

    if as_json:
        print_json(rows(sweep))
    else:
        print(f"{recipe}: fine" + (f", {counted(len(sweep.points), 'point')}" if sweep.keys else ""))
        if claims:
            show_prospects(sweep)
            return
        for sentence in sentences(sweep):
            terminal.say(sentence, indent=2)


def show_prospects(sweep: Sweep, floor: float = 0.0) -> None:
    """Print a table with a row for each test that a recipe will make; `floor` is as for `prospects`."""
    from lottery.analysis.rows import Row
    from lottery.formats.text import text
    from lottery.verdicts.prospects_in_words import rows

    table = [Row(values, ()) for values in rows(sweep, floor)]
    terminal.write(text(table, terminal.width()).encode() if table else b"it makes no claims\n")
