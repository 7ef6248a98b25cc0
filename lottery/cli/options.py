"""Options that the commands share, and the recipe that they name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery import api
from lottery.errors import UsageError
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.recipe.schema import Recipe
    from lottery.recipe.sweep import Sweep
    from lottery.results.study import Study
    from lottery.results.sweep import SweptStudy
    from lottery.runner.events import Jobs, Outcome, SweptOutcome

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="Path of a recipe, or the name of a shipped one.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change a key of the recipe; repeatable.")
]
Points = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="A.B=VALUE", help="Only the points of a sweep with this value; repeatable."),
]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", metavar="MODULE", help="Import a module that adds entries; repeatable.")
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
        help="Processes; the threads are shared out among them. auto: one for each core that has work.",
    ),
]
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
    recipe: str, sets: Sequence[str] | None, plugins: Sequence[str] | None, points: Sequence[str] | None = None
) -> Recipe:
    """Return the recipe of this name or path, with `--set`, `--plugin` and `--point` applied.

    Raises:
        UsageError: It is a sweep, and no one point of it is chosen.
    """
    return load_points(recipe, sets, plugins, points).only


def load_points(
    recipe: str, sets: Sequence[str] | None, plugins: Sequence[str] | None, points: Sequence[str] | None
) -> Sweep:
    """Return the recipe of this name or path as a sweep, of which `--point` leaves some points; one has one point."""
    from lottery.recipe.sweep import load_sweep

    plug_in(plugins)
    return load_sweep(recipe, sets or ()).at(points or ())


def run_points(sweep: Sweep, **settings: Any) -> Outcome | SweptOutcome:
    """Call `lottery.api.run` with these settings on a sweep, or on its only recipe where no key is swept."""
    ran: Outcome | SweptOutcome = api.run(sweep if sweep.keys else sweep.only, **settings)
    return ran


def load_study(
    recipe: str,
    sets: Sequence[str] | None,
    plugins: Sequence[str] | None,
    store: str | None,
    data: Path | None,
    points: Sequence[str] | None = None,
) -> Study:
    """Return the study of a recipe, with all that is finished of it; missing trainings are told on stderr.

    Raises:
        UsageError: It is a sweep, and no one point of it is chosen.
    """
    from lottery.results.sweep import swept_study

    sweep = load_points(recipe, sets, plugins, points)
    assert sweep.only is not None  # before anything is read
    found = swept_study(sweep, store=store, data=data)
    tell_missing(found, recipe)
    return found.studies[0]


def tell_missing(found: SweptStudy, recipe: str) -> None:
    """Say on stderr what is missing of a recipe, and what runs it."""
    from lottery.results.plugin_edits import other_sources

    if not found.missing:
        return
    are, them = ("is", "it") if found.missing == 1 else ("are", "them")
    missing = f"{counted(found.missing, 'training')} {are} missing"
    print(f"{missing}; lottery run {shlex.quote(recipe)} runs {them}", file=sys.stderr)
    for sentence in dict.fromkeys(said for each in found.studies for said in other_sources(each.plan, each.store)):
        print(sentence, file=sys.stderr)


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
