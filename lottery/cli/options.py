"""Options that the commands share, and the recipe that they name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.errors import UsageError
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.recipe.sweep import Sweep
    from lottery.results.sweep import SweptStudy
    from lottery.runner.events import Jobs
    from lottery.store.store import Store

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="Path of a recipe, or the name of a study in the store (lottery studies) or of a shipped recipe.",
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a key of the recipe; repeatable.")
]
Points = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="A.B=VALUE", help="Only the points of a sweep with this value; repeatable."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", metavar="MODULE", help="Import a module or file that adds entries; repeatable."),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the code of the plugins that the recipe names, and remember it as trusted as it is.",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where data sets lie [$LOTTERY_DATA, else data].")
]
StoreDir = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PLACE",
        help="Where jobs are kept, a folder or s3://BUCKET/PREFIX [$LOTTERY_STORE, else runs].",
    ),
]
NumberOfJobs = Annotated[
    str,
    typer.Option(
        "--jobs",
        metavar="N|auto",
        help="Processes; the threads are shared out among them. auto: one for each core, or GPU, that has work.",
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, or cuda:1 for the GPU of that number.")]
Executor = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="EXECUTOR",
        help="Start workers there, and again those that die: the name of an executor (lottery list executors) or of a "
        "profile in lottery-executors.yaml [$LOTTERY_EXECUTORS], or '{name: slurm, workers: 8}'. On this machine alone "
        "--jobs is the quicker: it reads the data once.",
    ),
]
Trackers = Annotated[
    list[str] | None,
    typer.Option(
        "--track",
        metavar="TRACKER",
        help="Tell a tracker of the trainings: its name (lottery list trackers), or '{name: wandb, project: tickets}'; "
        "repeatable. It changes no result, and may fail without harm.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load(
    recipe: str,
    sets: Sequence[str] | None,
    plugins: Sequence[str] | None,
    points: Sequence[str] | None,
    store: Store | str | None,
) -> Recipe:
    """Return the recipe of this name or path, with `--set`, `--plugin` and `--point` applied, see `load_points`.

    Raises:
        UsageError: It is a sweep, and no one point of it is chosen.
    """
    return load_points(recipe, sets, plugins, points, store).only


def load_points(
    recipe: str,
    sets: Sequence[str] | None,
    plugins: Sequence[str] | None,
    points: Sequence[str] | None,
    store: Store | str | None,
    trust: bool = False,
) -> Sweep:
    """Return the recipe of this name or path as a sweep, of which `--point` leaves some points; one has one point.

    A name is that of a study in the store, which goes on with its `--set` and `--plugin`, or of a shipped recipe. The
    plugins that recipe and store name are imported as far as they are trusted, with `trust` all of them.
    """
    from lottery.results.named_recipe import load_named

    return load_named(recipe, store, sets or (), plugins or (), _tell, trust=trust).at(points or ())


def _tell(words: str) -> None:
    print(words, file=sys.stderr)


def command_line(
    command: str,
    recipe: str,
    sets: Sequence[str] | None = None,
    points: Sequence[str] | None = None,
    plugins: Sequence[str] | None = None,
    data: Path | None = None,
    store: str | None = None,
) -> str:
    """Return the words of a command that means the same recipe, data and store as one with these options."""
    options = [("--set", sets), ("--point", points), ("--plugin", plugins)]
    words = [recipe, *(word for name, values in options for value in values or () for word in (name, value))]
    words += [word for name, value in (("--data", data), ("--store", store)) if value for word in (name, str(value))]
    return f"lottery {command} {shlex.join(words)}"


def tell_missing(found: SweptStudy, command: str) -> None:
    """Say on stderr what is missing of a recipe, in which store, and the command that runs it."""
    from lottery.results.plugin_edits import other_sources

    if not found.missing:
        return
    store = found.studies[0].store
    are, them = ("is", "it") if found.missing == 1 else ("are", "them")
    missing = f"{counted(found.missing, 'training')} {are} missing"
    absent = no_store(store)
    told = f"{absent}; {missing}" if absent else f"{missing} in {store.name}"
    print(f"{told}; {command} runs {them}", file=sys.stderr)
    for sentence in dict.fromkeys(said for each in found.studies for said in other_sources(each.plan, each.store)):
        print(sentence, file=sys.stderr)


def no_store(store: Store) -> str:
    """Return in words that there is no store in a place; empty where there is one."""
    if store.place.is_there():
        return ""
    return f"{store.name}: there is no store here yet (--store or LOTTERY_STORE names another place)"


def plug_in(plugins: Sequence[str] | None) -> None:
    """Import the modules of `--plugin`, whose entries recipes can name then."""
    from lottery import registry

    for plugin in plugins or ():
        registry.plug_in(plugin)


def number_of_jobs(given: str) -> Jobs:
    """Return the number of processes that `--jobs` names, or `auto`.

    Raises:
        UsageError: It is neither `auto` nor a number above 0.
    """
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"--jobs {given}: is a number of processes, 1 or more, or auto")
    return int(given)
