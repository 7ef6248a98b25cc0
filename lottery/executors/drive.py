"""`lottery run --on EXECUTOR`: workers are started and kept up, and what they do is shown until the plan is done.

Nothing of the run is in this process or in the executor: jobs, checkpoints and the log of events lie in the store. If
either is gone, the same command goes on, also beside workers that still live.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.catalogue.executors._workers import Launch
from lottery.errors import Interrupted, UsageError
from lottery.executors.crew import Crew
from lottery.executors.news import event_of
from lottery.files.write import make_folder, write_atomic
from lottery.registry import executors
from lottery.runner.events import Event, Request
from lottery.runner.prepare import prepare_all
from lottery.runner.watch import Watches
from lottery.store.event_log import EventLog
from lottery.store.folder import Folder

if TYPE_CHECKING:
    from lottery.catalogue.executors._workers import Workers
    from lottery.plan.jobs import Plan
    from lottery.recipe.sweep import Sweep
    from lottery.signals import Stop
    from lottery.store.store import Store
    from lottery.values import Component

TICK_SECONDS = 0.2  # between two looks at the log
LONGEST_TICK = 5.0
TICK_SHARE = 10  # a look at the log may take one part in this many of the time between two
LOOK_SECONDS = 10.0  # between two looks at all jobs, for what no log tells
LOOK_SHARE = 20  # a look at all jobs may take one part in this many of the time between two
RECIPE_FILE, FAILURES_FILE = "recipe.yaml", "failures.json"  # in the folder of the workers' logs


@contextmanager
def driven(
    requests: Sequence[Request],
    executor: Component,
    stop: Stop,
    plugins: Sequence[str],
    store: Store,
    sweep: Sweep | None = None,
) -> Iterator[tuple[list[Plan], Iterator[Event]]]:
    """Run a request, or those of the points of a sweep, with the workers of an executor.

    Yields the plans, and the events as they come.

    Args:
        requests: What is to be run, all in one place.
        executor: What starts the workers, with its checked arguments.
        stop: Where a signal is noted, at which workers that are not `detached` save and leave.
        plugins: Modules that each worker imports.
        store: The store of the requests.
        sweep: The sweep whose points they are of.

    Raises:
        UsageError: The executor lacks its package, or refuses what it is asked for.
        Interrupted: A signal was noted.
        MachineError: Workers die again and again.
    """
    entry = executors[executor.name]
    if entry.traits.package and importlib.util.find_spec(entry.traits.package) is None:
        raise UsageError(
            f"--on {executor.name}: needs {entry.traits.package}, not installed here: "
            f"pip install 'lottery[{executor.name}]'"
        )
    here = [replace(request, device=_device(request.device), jobs=1) for request in requests]
    contexts = prepare_all(here, stop, store=store)
    watch, log = Watches(contexts), EventLog(store)
    launch = _launch(requests[0], sweep, plugins, contexts[0].failures or {}, store)
    wanted = executor.args.get("workers", entry.defaults["workers"])

    def events() -> Generator[Event]:
        yield from watch.look()
        if watch.left == 0 and not watch.lengthen():
            return
        workers: Workers = entry.make(launch, **executor.args)
        crew, leaves_them = Crew(workers, wanted), False
        try:
            yield from _follow(watch, log, crew, stop)
        except Interrupted:
            leaves_them = entry.traits.detached
            if leaves_them:
                said = "the workers go on without this command; %s ends them"
                logging.getLogger("lottery").warning(said, workers.farewell())
            raise
        finally:
            if not leaves_them:
                workers.stop()
            workers.close()
        if not crew.lost:
            shutil.rmtree(launch.logs, ignore_errors=True)
            with suppress(OSError):  # another run's
                launch.logs.parent.rmdir()

    with closing(events()) as happening:
        yield [context.plan for context in contexts], happening


def _follow(watch: Watches, log: EventLog, crew: Crew, stop: Stop) -> Iterator[Event]:
    """Yield the events of a run until all jobs have ended. Raises Interrupted and MachineError."""
    crew.fill(watch.left)
    begun = 0  # jobs, also by going on with them
    looked, pause = time.monotonic(), LOOK_SECONDS
    while True:
        began = time.monotonic()
        entries = list(log.read())
        tick = min(LONGEST_TICK, max(TICK_SECONDS, TICK_SHARE * (time.monotonic() - began)))
        for event in filter(None, map(watch.known, filter(None, map(event_of, entries)))):
            begun += event.kind == "start"
            yield from _told(watch, event)
        short = crew.short(watch.left, len(watch.ended), begun)
        if short or time.monotonic() - looked >= pause:
            began = time.monotonic()
            yield from map(_ended_now, watch.look())  # workers that are gone may have ended the last job
            looked = time.monotonic()
            pause = max(LOOK_SECONDS, LOOK_SHARE * (looked - began))
            if short and watch.left:
                crew.fill(watch.left)
        if not watch.left:
            if not watch.lengthen():
                return
            yield Event("planned")
            yield from watch.look()  # for what was done before this run asked for it
        if stop.signal is not None:
            raise Interrupted(stop.signal)
        time.sleep(tick)


def _told(watch: Watches, event: Event) -> Iterator[Event]:
    """Yield what follows from what a worker has logged; that a job has ended is looked up in the store."""
    if event.kind in ("done", "diverged", "failed"):
        for found in watch.look_at(event.key):
            if found.key == event.key:
                found = _ended_now(found)
                found.about.update(event.about)
            yield found
    elif event.kind == "damaged":
        yield event
        watch.forget_damaged()
    elif event.key not in watch.ended:
        yield event


def _ended_now(found: Event) -> Event:
    """Return the event of a job that is found done while workers run, whatever the log says, and when."""
    return replace(found, kind="done") if found.kind == "found" else found


def _device(wanted: str) -> str:
    """Return the device that this process, which trains nothing, checks the recipe with."""
    import torch

    return "auto" if wanted == "cuda" and not torch.cuda.is_available() else wanted


def _launch(
    request: Request, sweep: Sweep | None, plugins: Sequence[str], failures: Mapping[str, str], store: Store
) -> Launch:
    """Return how a worker of this request is started; the recipe, as it is now, lies beside the logs.

    The command is the same each time that the same is run, so that an executor can find workers of an earlier run.
    """
    document = request.recipe.canonical() if sweep is None else dict(sweep.document)
    document.pop("plugins", None)  # they are options, since this file is elsewhere
    recipe = json.dumps(
        document, indent=1, sort_keys=sweep is None
    )  # the order of a sweep's keys is that of its points
    options = [
        *("--store", store.name, "--data", str(Path(request.data).absolute()), "--device", request.device),
        *("--checkpoint-seconds", f"{request.checkpoint_seconds:g}"),
        *(["--deterministic"] if request.deterministic else []),
        *(word for plugin in plugins for word in ("--plugin", plugin)),
        *(word for chosen in (sweep.chosen if sweep else ()) for word in ("--point", chosen)),
    ]
    same = hashlib.sha256("\n".join([recipe, *options]).encode()).hexdigest()[:12]
    logs = _folder(store) / same
    make_folder(logs)
    write_atomic(logs / RECIPE_FILE, recipe.encode())
    write_atomic(logs / FAILURES_FILE, json.dumps(dict(failures), sort_keys=True).encode())
    command = [sys.executable, "-m", "lottery", "work", str(logs / RECIPE_FILE), *options]
    command += ["--known-failures", str(logs / FAILURES_FILE)]
    return Launch(tuple(command), Path(os.getcwd()), logs, {}, f"lottery-{request.recipe.name}")


def _folder(store: Store) -> Path:
    """Return where logs and recipe lie: in the store if that is a folder, else in one here, which workers must see."""
    return store.place.root / "workers" if isinstance(store.place, Folder) else Path("lottery-workers").absolute()
