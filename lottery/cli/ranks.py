"""`lottery run` as one of several ranks: who starts them, and who speaks."""

from __future__ import annotations

import logging
import os
import sys

import typer

from lottery.distributed.launch import QUIET, launch, leave_with_launcher
from lottery.distributed.place import place_of_environment
from lottery.errors import Interrupted, LotteryError, RankLost, RecipeError, UsageError


def run_on_ranks(ranks: int, jobs: str, on: str | None) -> bool:
    """Run this command on so many ranks, where it is not on one already; return True on the rank that speaks.

    Raises:
        typer.Exit: All ranks that this process started have left.
        UsageError: `--jobs` or `--on` is given too, or torchrun started another number of ranks.
    """
    place = place_of_environment()
    if ranks > 1 and on is not None:
        raise UsageError(f"--on {on}: its workers train a network each, {ranks} ranks one together; leave out one")
    if ranks > 1 and jobs != "1":
        raise UsageError(f"--jobs {jobs}: {ranks} ranks train one network after the other; leave --jobs or --ranks out")
    if place is None:
        if ranks > 1:
            raise typer.Exit(launch(ranks, [sys.executable, "-m", "lottery", *sys.argv[1:]]))
        return True
    if ranks not in (1, place.size):
        raise UsageError(f"--ranks {ranks}: torchrun started {place.size}; leave --ranks out")
    for name, value in QUIET.items():  # before torch is imported
        os.environ.setdefault(name, value)
    if place.launched:
        leave_with_launcher()
    if place.rank:
        logging.getLogger("lottery").setLevel(logging.ERROR)
    return not place.rank


def said_by_another(error: LotteryError) -> bool:
    """Return True in a rank above 0 for an error that another rank, or the process that launched it, has the words for.

    What is wrong with a recipe is said once on each machine, as each reads a file of its own.
    """
    place = place_of_environment()
    if place is None or not place.rank:
        return False
    if isinstance(error, RecipeError) and place.local_rank:
        return True
    return isinstance(error, Interrupted) or (place.launched and isinstance(error, (RankLost, UsageError)))
