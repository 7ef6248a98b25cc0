"""The command `lottery work`: one worker of a run, started by hand, by a scheduler, or by `lottery run --on`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli.options import (
    DataDir,
    Device,
    Plugins,
    Points,
    RecipeName,
    Sets,
    StoreDir,
    Trackers,
    Trust,
    load_points,
)
from lottery.errors import UsageError
from lottery.paths import data_root, store_root
from lottery.words import seconds_of

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.runner.events import Event


def work(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    data: DataDir = None,
    store: StoreDir = None,
    device: Device = "auto",
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Save and leave before so long, such as 90min, 2h or 1d12h.")
    ] = None,
    max_jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Leave after so many jobs.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bytes again on one machine.")
    ] = False,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Least time between two checkpoints.")] = 60.0,
    track: Trackers = None,
    plugin: Plugins = None,
    trust: Trust = False,
    tied: Annotated[
        bool, typer.Option("--tied", help="Save and leave when standard input ends: who started this is gone.")
    ] = False,
    known_failures: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Take jobs of a recipe that nobody has, until none is left: any number may work on one store.

    SIGUSR1, SIGTERM and SIGINT have it save and leave. Jobs that fail or diverge leave its exit code 0: `lottery run`
    tells of them, and prints the table.
    """
    from lottery.collector import collector_paused

    with collector_paused():
        from lottery.display.terminal import TerminalDisplay
        from lottery.executors.work import Limits, work_on
        from lottery.results.studies import remember
        from lottery.runner.events import Request
        from lottery.signals import Stop, handle_signals
        from lottery.store.store import Store
        from lottery.trackers.choose import trackers_of
        from lottery.trackers.feed import following

    kept, stop = Store(store_root(store)), Stop()
    sweep = load_points(recipe, sets, plugin, point, kept, trust)
    limits, failures = Limits(_seconds(time), max_jobs), _failures(known_failures)
    if tied:
        threading.Thread(target=_listen, args=(stop,), daemon=True).start()
    about = Request(sweep.points[0].recipe, data_root(data), kept.name, device, 1, deterministic, checkpoint_seconds)
    requests = about.of(sweep)
    trackers, points = trackers_of(track or ()), [each.point for each in requests]
    with (
        handle_signals(stop),
        TerminalDisplay(stop) as display,
        following(trackers, kept, stop, points, own=True) as feed,
    ):

        def planned(plan: Plan | SweptPlan) -> None:
            display.plan(plan)
            feed.plan(plan)
            if known_failures is None:  # else `lottery run`, which started this worker, has noted the study
                remember(kept, sweep, plan.jobs)

        def happened(event: Event) -> None:
            display.event(event)
            feed.event(event)

        left = work_on(requests, limits, stop, store=kept, failures=failures, on_plan=planned, on_event=happened)
    print(f"lottery work: {left.sentence()}", file=sys.stderr)


def _seconds(given: str | None) -> int | None:
    try:
        return None if given is None else seconds_of(given)
    except ValueError as error:
        raise UsageError(f"--time: {error}") from error


def _failures(path: Path | None) -> dict[str, str] | None:
    """Return what `lottery run` noted of the failures that were there before it; None where it has noted nothing."""
    if path is None or not path.exists():
        return None
    found: Any = json.loads(path.read_bytes())
    return {str(key): str(digest) for key, digest in found.items()}


def _listen(stop: Any) -> None:
    """Wait for the end of standard input, then stop as if told to."""
    while os.read(0, 1024):
        pass
    stop.signal = stop.signal or signal.SIGTERM
