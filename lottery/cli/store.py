"""The commands `lottery store ...`: jobs that other stores have finished, brought here and taken there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from lottery.cli.listing import print_json
from lottery.cli.options import Json, StoreDir
from lottery.errors import Interrupted, UsageError
from lottery.paths import store_root
from lottery.words import counted, short

if TYPE_CHECKING:
    from lottery.signals import Stop
    from lottery.store.transfer import Transfer

TOLD_EVERY = 10.0  # seconds between two lines of progress
MOST_SHOWN = 10  # jobs of one list

store = typer.Typer(help="Copy finished jobs between stores that share no disk.", no_args_is_help=True)

Place = Annotated[
    str, typer.Argument(metavar="PLACE", help="A folder, host:folder by ssh and rsync, or s3://BUCKET/PREFIX.")
]


@store.command()
def pull(place: Place, store: StoreDir = None, as_json: Json = False) -> None:
    """Copy the finished jobs of another store that are missing here, each verified; nothing is overwritten.

    The studies that were run there can be named here, too.

    Exit code 1 where a job is damaged, or where both stores say of other bytes that they were computed
    deterministically.
    """
    _show(_transfer(place, store, pushes=False), place, as_json)


@store.command()
def push(place: Place, store: StoreDir = None, as_json: Json = False) -> None:
    """Copy the finished jobs that are missing in another store to it, each verified; nothing is overwritten.

    Exit codes as those of `pull`.
    """
    _show(_transfer(place, store, pushes=True), place, as_json)


def _transfer(place: str, given: str | None, *, pushes: bool) -> Transfer:
    from lottery.results.studies import bring
    from lottery.signals import Stop, handle_signals
    from lottery.store.ssh import Remote
    from lottery.store.store import Store
    from lottery.store.transfer import transfer

    here, stop = Store(store_root(given)), Stop()
    with handle_signals(stop):
        tell = _teller(stop)
        if (remote := Remote.parse(place)) is not None:
            if pushes:
                return remote.push(here, tell)
            found = remote.pull(here, tell)
            bring(remote.mirror(here), here)
            return found
        there = Store(place)
        if os.path.realpath(there.name) == os.path.realpath(here.name):
            raise UsageError(f"{place}: is the store itself; name another one, or this one by --store")
        source = here if pushes else there
        if next(source.keys(), None) is None:
            raise UsageError(f"{source.name}: has no finished jobs; name a store that has some")
        target = there if pushes else here
        found = transfer(source, target, tell)
        bring(source, target)
        return found


def _teller(stop: Stop) -> Callable[[int, int], None]:
    """Return what tells of the progress on stderr, and leaves between two jobs where a signal was noted."""
    console, told = Console(stderr=True, highlight=False), time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if stop.signal is not None:
            raise Interrupted(stop.signal)
        if time.monotonic() - told >= TOLD_EVERY:
            told = time.monotonic()
            console.print(f"{done:,} of {total:,} jobs", soft_wrap=True)

    return tell


def _show(found: Transfer, place: str, as_json: bool) -> None:
    if as_json:
        print_json(found.as_dict())
        raise typer.Exit(0 if found.fine else 1)
    print(f"{counted(len(found.copied), 'job')} copied ({found.size / 1e6:,.1f} MB), {found.same:,} there already")
    differ = [f"{short(each.key)}  {each.label}: {', '.join(each.files)}" for each in found.different]
    alarms = [f"{short(each.key)}  {each.label}" for each in found.different if each.alarm]
    left_out = [f"{short(key)}  {label}" for key, label in found.left_out.items()]
    _list(f"with other bytes here than in {place}; each store keeps its own", differ)
    _list("of these computed deterministically in the same environment, as both stores say", alarms)
    _list("left out, built on these", left_out)
    _list("damaged, not copied", found.damaged)
    raise typer.Exit(0 if found.fine else 1)


def _list(head: str, lines: list[str]) -> None:
    if lines:
        rest = [f"... and {len(lines) - MOST_SHOWN:,} more; --json lists all"] if len(lines) > MOST_SHOWN else []
        print("\n  ".join([f"{counted(len(lines), 'job')} {head}:", *lines[:MOST_SHOWN], *rest]))
