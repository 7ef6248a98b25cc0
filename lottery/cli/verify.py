"""The command `lottery verify`: checks of the files of a store, or of the records and weights of one study."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.options import (
    DataDir,
    Json,
    NumberOfJobs,
    Plugins,
    Points,
    Sets,
    StoreDir,
    command_line,
    load_points,
    no_store,
    number_of_jobs,
    tell_missing,
)
from lottery.errors import UsageError
from lottery.paths import store_root

if TYPE_CHECKING:
    from lottery.verification.records import Check

MOST_SHOWN = 10  # of what is wrong with one check


def verify(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A study; without one all files of the store are hashed.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Draw initial states, choose masks and evaluate stored weights again.")
    ] = False,
    sets: Sets = None,
    point: Points = None,
    data: DataDir = None,
    store: StoreDir = None,
    device: Annotated[str, typer.Option(help="With --again: auto, cpu or cuda.")] = "cpu",
    jobs: NumberOfJobs = "1",
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="With --again: train states to rewind to again, on the same machine."),
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Check a store, or all that is recorded of a study; exit code 1 where something is wrong.

    Without a recipe: compare the hash of every stored file, and put damaged jobs aside. With one: hold its records
    against each other, check by check; with --again against its networks and data as well.
    """
    if recipe is None:
        if again or sets or point or deterministic:
            raise UsageError("lottery verify --again: name the recipe whose networks are to be evaluated again")
        _store(store, as_json)
        return
    from lottery.results.sweep import swept_study
    from lottery.verification.records import check_records, notes, unproven

    sweep = load_points(recipe, sets, plugin, point, store)
    assert sweep.only is not None  # before anything is read
    swept = swept_study(sweep, store=store, data=data)
    command = command_line("run", recipe, sets, point, plugin, data, store)
    (found,) = swept.studies
    if not found.found:
        raise UsageError(f"{recipe}: none of its trainings is in {found.store.name}; {command} runs them")
    tell_missing(swept, command)
    made: list[Check] = []
    for check in [*check_records(found)]:
        made.append(check)
        _print(check, as_json)
    if again:
        from lottery.paths import data_root
        from lottery.runner.events import Request
        from lottery.verification.run import check_again

        request = Request(found.recipe, data_root(data), found.store.name, device, number_of_jobs(jobs), deterministic)
        for check in check_again(request, found.plan, sweep.origin.plugins if sweep.origin else ()):
            made.append(check)
            _print(check, as_json)
    open_ends, told = unproven(found, again=again), notes(found)
    failed = [check for check in made if not check.holds]
    if as_json:
        print_json({"checks": [vars(check) | {"ok": check.holds} for check in made], "said": open_ends, "notes": told})
    else:
        for words in open_ends:
            terminal.say(f"said     {words}", indent=9)
        for words in told:
            terminal.say(f"note     {words}", indent=9)
    if failed:
        names = ", ".join(check.name for check in failed)
        print(f"{len(failed)} of {len(made)} checks failed: {names}", file=sys.stderr)
    raise typer.Exit(1 if failed else 0)


def _print(check: Check, as_json: bool) -> None:
    if as_json:
        return
    terminal.say(f"{'ok   ' if check.holds else 'WRONG'}    {check.name} ({check.count}): {check.proves}", indent=9)
    for words in _shown(check.wrong):
        terminal.say(f"           {words}", indent=13)
    for words in _shown(check.left):
        terminal.say(f"         not checked: {words}", indent=13)
    sys.stdout.flush()


def _shown(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:MOST_SHOWN]
    if len(lines) > MOST_SHOWN:
        yield f"and {len(lines) - MOST_SHOWN} more"


def _store(store: Any, as_json: bool) -> None:
    """Read every stored file and compare its hash; put damaged jobs aside."""
    from lottery.store.store import Store

    kept = Store(store_root(store))
    if absent := no_store(kept):
        raise UsageError(absent)
    checked = list(kept.verify())
    damaged = [{"key": key, "problem": problem} for key, problem in checked if problem]
    if as_json:
        print_json({"checked": len(checked), "damaged": damaged})
    else:
        for item in damaged:
            print(f"{item['key']}: {item['problem']}")
        print(f"{len(checked)} jobs checked, {len(damaged)} damaged")
        if damaged:
            print("the damaged ones are in quarantine; lottery run computes them again", file=sys.stderr)
    raise typer.Exit(1 if damaged else 0)
