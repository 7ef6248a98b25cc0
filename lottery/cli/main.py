"""The command line: parse, call, print. Nothing here imports torch or pandas until a command needs them."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery import api
from lottery.cli import terminal
from lottery.cli.analyze import analyze
from lottery.cli.bench import bench
from lottery.cli.board import board
from lottery.cli.check import check
from lottery.cli.doctor import doctor
from lottery.cli.gc import gc
from lottery.cli.listing import catalogue_names, entries, print_json, print_table
from lottery.cli.options import (
    DataDir,
    Device,
    Executor,
    Json,
    NumberOfJobs,
    Plugins,
    Points,
    RecipeName,
    Sets,
    StoreDir,
    Trackers,
    Trust,
    load_points,
    no_store,
    number_of_jobs,
    plug_in,
)
from lottery.cli.plan import plan
from lottery.cli.plot import plot
from lottery.cli.ranks import said_by_another
from lottery.cli.replicate import replicate
from lottery.cli.report import report
from lottery.cli.show import show
from lottery.cli.store import store as store_commands
from lottery.cli.studies import studies
from lottery.cli.table import table
from lottery.cli.theory import theory
from lottery.cli.ticket import ticket
from lottery.cli.verify import verify
from lottery.cli.version import before_commands
from lottery.cli.work import work
from lottery.collector import leave_uncollected
from lottery.errors import Interrupted, LotteryError, UsageError
from lottery.paths import store_root
from lottery.words import short

if TYPE_CHECKING:
    from lottery.runner.events import Outcome, SweptOutcome

app = typer.Typer(
    help="Find lottery tickets: run pruning recipes, compare tickets with dense networks, export tables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.add_typer(plot, name="plot")
app.add_typer(store_commands, name="store")
app.add_typer(studies, name="studies")
app.add_typer(theory, name="theory")
app.add_typer(ticket, name="ticket")
app.command()(analyze)
app.command()(bench)
app.command()(board)
app.command()(doctor)
app.command()(replicate)
app.command()(report)


app.callback()(before_commands)


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # until a run has something to save
    try:
        app()
    except LotteryError as error:
        if said_by_another(error):
            sys.exit(error.exit_code)
        print(f"lottery: {error}" if not hasattr(error, "problems") else str(error), file=sys.stderr)
        if isinstance(error, Interrupted):
            print(f"continue with: {shlex.join(['lottery', *sys.argv[1:]])}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except MemoryError:
        print("lottery: out of memory; close other programs, or run with fewer --jobs", file=sys.stderr)
        sys.exit(3)
    except Exception as error:
        sys.exit(_unforeseen(error))
    finally:
        leave_uncollected()


def _unforeseen(error: Exception) -> int:
    """Say whose an error is that nobody has foreseen, and where its traceback lies. Return the exit code."""
    from lottery import registry
    from lottery.plugins.faults import plugin_failure, write_traceback

    theirs = plugin_failure(error, registry.plugins())
    if isinstance(error, OSError) and theirs is None:
        print(f"lottery: {error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return 3
    told = f"{theirs or 'this is a bug of ours'}; its traceback is in {write_traceback(error)}"
    print(f"lottery: {told}", file=sys.stderr)
    return 2 if theirs else 70


@app.command("list")
def list_entries(
    what: Annotated[str | None, typer.Argument(metavar="[CATALOGUE]", help="recipes, optimizers, models, ...")] = None,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """List the shipped recipes and what recipes can name, with its keys and sources."""
    plug_in(plugin)
    listing = {name: entries(name) for name in ([what] if what else catalogue_names())}
    if as_json:
        print_json(listing[what] if what else listing)
        return
    for name, listed in listing.items():
        print_table(name, listed)


@app.command()
def copy(recipe: RecipeName, path: Annotated[Path, typer.Argument(help="The new file.")]) -> None:
    """Copy a recipe to a file of your own."""
    from lottery.files.write import write_atomic
    from lottery.recipe.load import find_recipe

    path = path / f"{Path(recipe).stem}.yaml" if path.is_dir() else path
    if path.exists():
        raise UsageError(f"{path}: is there already; name another file")
    source = find_recipe(recipe)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    write_atomic(path, source.read_bytes())
    print(path)


app.command()(check)


app.command()(plan)


@app.command()
def run(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    data: DataDir = None,
    store: StoreDir = None,
    device: Device = "auto",
    jobs: NumberOfJobs = "1",
    on: Executor = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bytes again on this machine, with any --jobs.")
    ] = False,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Least time between two checkpoints.")] = 60.0,
    ranks: Annotated[
        int, typer.Option("--ranks", min=1, metavar="N", help="Processes that train each network together.")
    ] = 1,
    lockstep: Annotated[
        int, typer.Option("--lockstep", min=1, metavar="N", help="Trainings that a process steps together, on a GPU.")
    ] = 1,
    track: Trackers = None,
    plugin: Plugins = None,
    trust: Trust = False,
) -> None:
    """Start, skip or continue: run what is missing of a recipe, then print its table and what may be claimed."""
    from lottery.cli.ranks import run_on_ranks
    from lottery.collector import collector_paused
    from lottery.store.store import Store

    if on is not None and jobs != "1":
        raise UsageError(
            f"--jobs {jobs}: is for processes of this command, --on {on} starts workers of its own; leave out one "
            "(the number of workers is a key: --on '{name: local, workers: 4}')"
        )
    with collector_paused():
        kept = Store(store_root(store))
        sweep = load_points(recipe, sets, plugin, point, kept, trust)  # what is wrong is said once, before others start
        shown = run_on_ranks(ranks, jobs, on)
        outcome: Outcome | SweptOutcome = api.run(
            sweep,
            data=data,
            store=kept,
            device=device,
            jobs=number_of_jobs(jobs),
            on=on,
            deterministic=deterministic,
            checkpoint_seconds=checkpoint_seconds,
            lockstep=lockstep,
            plugins=plugin or (),
            track=track or (),
            progress=shown,
        )
    if not shown:
        raise typer.Exit(outcome.exit_code)
    from lottery.analysis.engines import how_computed
    from lottery.analysis.sweep import swept_rows_of
    from lottery.formats.render import render
    from lottery.results.sweep import swept_study_of
    from lottery.verdicts.study_sentences import study_sentences

    found = swept_study_of(sweep, [each.plan for each in outcome.points], kept, data)
    terminal.write(render(swept_rows_of(found, "means"), "text", terminal.width()))
    for each, study in found:
        for sentence in study_sentences(study):
            terminal.say(f"{each.label}: {sentence}" if sweep.keys else sentence)
    for sentence in how_computed(*found.studies, labels=[point.label for point in sweep.points]):
        print(sentence, file=sys.stderr)
    _report(outcome, store)
    raise typer.Exit(outcome.exit_code)


app.command()(work)


@app.command()
def status(
    study: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY]", help="Only the jobs of this study (lottery studies)."),
    ] = None,
    store: StoreDir = None,
    as_json: Json = False,
) -> None:
    """Count the jobs in the store by kind and state."""
    from lottery.store.maintenance import summarize
    from lottery.store.store import Store

    kept = Store(store_root(store))
    jobs = None
    if study is not None:
        from lottery.results.studies import find_study

        jobs = frozenset(find_study(kept, study).jobs)
    summary = summarize(kept, jobs)
    if as_json:
        print_json(summary.as_dict())
    else:
        print(no_store(kept) or summary.text())


app.command()(show)


app.command()(table)


app.command()(verify)


app.command()(gc)


@app.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from lottery.recipe.load import json_schema

    print_json(json_schema())


def _report(outcome: Outcome | SweptOutcome, store: str | None) -> None:
    for message in outcome.messages:
        print(message, file=sys.stderr)
    if failed := [key for key, end in outcome.ended.items() if end == "failed"]:
        place = [] if store is None else ["--store", store]
        print(f"{shlex.join(['lottery', 'show', short(failed[0]), *place])} has the traceback", file=sys.stderr)
    ends = [
        f"{outcome.count(kind)} {kind}" for kind in ("done", "diverged", "failed", "blocked") if outcome.count(kind)
    ]
    found = outcome.count("found")
    print(", ".join([*ends, f"{found} done before"] if found else ends or ["nothing to do"]), file=sys.stderr)
