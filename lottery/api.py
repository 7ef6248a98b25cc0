"""The functions for notebooks and scripts beside `load_recipe`: `run` and `table`; the command line calls them too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from lottery.collector import resume_collector
from lottery.errors import UsageError
from lottery.paths import data_root

if TYPE_CHECKING:
    import pandas as pd

    from lottery.distributed.place import Place
    from lottery.plan.jobs import Plan
    from lottery.plan.swept import SweptPlan
    from lottery.recipe.schema import Recipe
    from lottery.recipe.sweep import Sweep
    from lottery.results.study import Study
    from lottery.results.sweep import SweptStudy
    from lottery.runner.events import Event, Jobs, Outcome, Request, SweptOutcome
    from lottery.signals import Stop
    from lottery.store.store import Store
    from lottery.trackers.choose import Track
    from lottery.values import Component


class Settings(TypedDict, total=False):
    """The settings of `run` beside the recipe and `on_plan`, which depends on it."""

    data: str | Path | None
    store: str | Path | Store | None
    device: str
    jobs: Jobs
    on: str | Mapping[str, Any] | None
    deterministic: bool
    checkpoint_seconds: float
    lockstep: int
    plugins: Sequence[str]
    trust: bool
    track: Track | Sequence[Track]
    progress: bool | None
    on_event: Callable[[Event], None]


@overload
def run(recipe: Recipe, *, on_plan: Callable[[Plan], None] = ..., **settings: Unpack[Settings]) -> Outcome: ...
@overload
def run(recipe: Sweep, *, on_plan: Callable[[SweptPlan], None] = ..., **settings: Unpack[Settings]) -> SweptOutcome: ...
@overload
def run(recipe: str | Path, *, on_plan: Callable[[Any], None] = ..., **settings: Unpack[Settings]) -> Any: ...
def run(
    recipe: Recipe | Sweep | str | Path,
    *,
    data: str | Path | None = None,
    store: str | Path | Store | None = None,
    device: str = "auto",
    jobs: Jobs = 1,
    on: str | Mapping[str, Any] | None = None,
    deterministic: bool = False,
    checkpoint_seconds: float = 60.0,
    lockstep: int = 1,
    plugins: Sequence[str] = (),
    trust: bool = False,
    track: Track | Sequence[Track] = (),
    progress: bool | None = None,
    on_plan: Callable[[Any], None] = lambda plan: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome | SweptOutcome:
    """Run what is missing of a recipe, or of all points of a sweep, and return how each job ended.

    A failing or diverging job raises nothing: it is in the outcome. In the main thread, signals are handled: the run
    saves and leaves; run it again to go on.

    In processes that torchrun starts, each network is trained by all of them together: they call this alike, rank 0
    saves and says what happens (`on_plan`, `on_event`), and all return the same.

    Args:
        recipe: A loaded recipe or sweep, the path of one, the name of a study that was run in the store before, which
            goes on as it was run, or the name of a shipped one.
        data: Folder of data sets; $LOTTERY_DATA or `data` where it is None.
        store: Place of finished jobs, a folder or a URL; $LOTTERY_STORE or `runs` where it is None.
        device: `auto`, `cpu`, `cuda`, or `cuda:1` for the GPU of that number, which all processes then share.
        jobs: Number of processes; `auto` for as many as there are cores with work. With other numbers than 1 jobs are
            trained in other processes, and this one need not even import torch.
        on: Executor that starts workers to train the jobs, by name or as `{"name": ..., key: value}`, in place of
            processes of this run; `lottery list executors` has them.
        deterministic: Equal jobs give equal bytes on one machine and version.
        checkpoint_seconds: Seconds between checkpoints.
        lockstep: Number of trainings that each process does a step of at a time, for a GPU that one small network
            leaves idle.
        plugins: Modules or files that add entries to the catalogues, beside those that the recipe names.
        trust: True to run the code of the plugins that the file of the recipe names, and to remember it as trusted.
        track: What else is told of the trainings, such as `tensorboard` or `{"name": "wandb", "offline": True}`, or
            several; `lottery list trackers` has them. It changes no result, and where it fails there is a warning.
        progress: True to show the run while it lasts, below the cell of a notebook or on stderr; False not to; None to
            do so in a notebook, and in lines where stderr is a terminal.
        on_plan: Called with the plan, a `SweptPlan` for a sweep, before training, and each time that there is more to
            do, as with `levels: auto`.
        on_event: Called with each event.

    Raises:
        UsageError: The recipe, or a point, cannot be run, or the executor cannot be had so; nothing was trained.
        DataError: The data are missing or damaged; nothing was trained.
        MachineError: The results cannot fit on the disk, and nothing was trained; or workers die again and again.
        Interrupted: The run was told to stop, and has saved.
    """
    from lottery.display.choose import display_of
    from lottery.distributed.place import place_of_environment
    from lottery.executors.profiles import executor_of
    from lottery.recipe.plugins import import_named, references
    from lottery.recipe.sweep import Sweep
    from lottery.results.named_recipe import load_named
    from lottery.results.plugin_edits import other_sources
    from lottery.results.studies import remember
    from lottery.runner.events import Request, lengthen, outcome_of
    from lottery.signals import Stop, handle_signals
    from lottery.store.open import open_store
    from lottery.trackers.choose import trackers_of
    from lottery.trackers.feed import following

    import_named(plugins)
    if on is not None and jobs != 1:
        raise UsageError(f"jobs: {jobs} processes of this run, or workers that an executor starts (on), not both")
    if on is not None and ":" in device:
        raise UsageError(
            f"--device {device}: the executor gives GPUs to its workers, and each counts its own from 0; write "
            "--device cuda, with CUDA_VISIBLE_DEVICES in the environment for some of them"
        )
    if on is not None and lockstep != 1:
        raise UsageError(f"--lockstep {lockstep}: is for processes of this run, --on starts workers; leave out one")
    opened = open_store(store)
    asked = load_named(recipe, opened, tell=_say, trust=trust) if isinstance(recipe, (str, Path)) else recipe
    plugins = references((), plugins)
    if isinstance(asked, Sweep) and asked.origin is not None:
        plugins = list(dict.fromkeys((*asked.origin.plugins, *plugins)))
    jobs = jobs if jobs == "auto" else max(1, jobs)
    swept = isinstance(recipe, Sweep) or (isinstance(asked, Sweep) and bool(asked.keys))
    sweep = asked if isinstance(asked, Sweep) and asked.keys else None
    first = asked.points[0].recipe if isinstance(asked, Sweep) else asked
    imported = references(first.plugins, plugins)  # by other processes
    request = Request(
        first, data_root(data), opened.name, device, jobs, deterministic, checkpoint_seconds, max(1, lockstep)
    )
    requests = [request] if sweep is None else request.of(sweep)
    stop, place = Stop(), place_of_environment()
    executor = None if on is None else executor_of(on)
    if place is not None and (executor is not None or jobs != 1):
        raise UsageError(f"all {place.size} ranks train one network after the other; leave --on and --jobs out")
    if place is not None and place.rank:
        with handle_signals(stop):
            return _followed(requests, place, stop, opened, swept=swept)
    trackers, points = trackers_of(track), [each.point for each in requests]
    with (
        handle_signals(stop),
        display_of(progress, stop) as display,
        following(trackers, opened, stop, points) as feed,
        _begun(requests, sweep, executor, imported, stop, opened, place) as (plans, events),
    ):
        outcome = outcome_of(plans, swept=swept)
        _warn(list(dict.fromkeys(said for plan in plans for said in other_sources(plan, opened))))

        def planned() -> None:
            remember(opened, asked, outcome.plan.jobs, plugins)
            for tell in (display.plan, feed.plan, on_plan):
                tell(outcome.plan)

        planned()
        resume_collector()  # torch is imported by now, where it is needed
        for event in events(outcome):
            if event.kind != "planned":
                outcome.add(event)
                for tell in (display.event, feed.event, on_event):
                    tell(event)
            elif lengthen(outcome, requests, opened):  # each process says so
                planned()
    return outcome


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else [values]


def _warn(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        logging.getLogger("lottery").warning("%s", sentence)


def _say(words: str) -> None:
    logging.getLogger("lottery").info("%s", words)


@contextmanager
def _begun(
    requests: Sequence[Request],
    sweep: Sweep | None,
    executor: Component | None,
    plugins: Sequence[str],
    stop: Stop,
    store: Store,
    place: Place | None,
) -> Iterator[tuple[Sequence[Plan], Callable[[Outcome | SweptOutcome], Iterator[Event]]]]:
    """Yield the plans, and what gives the events of their run; it takes the outcome, which is filled meanwhile."""
    from lottery.runner.finished import all_finished

    if place is None and (done := all_finished(requests, store)) is not None:
        plans, found = done
        yield plans, lambda outcome: iter(found)
        return
    if executor is not None:
        from lottery.executors.drive import driven

        with driven(requests, executor, stop, plugins, store, sweep) as (plans, events):
            yield plans, lambda outcome: events
        return
    if requests[0].jobs != 1:
        from lottery.executors.processes import processes

        with processes(requests, stop, plugins) as (plans, mixed, events):
            _warn(mixed)
            yield plans, lambda outcome: events
        return
    from lottery.results.mixed_environments import foreseen
    from lottery.runner.prepare import prepare_all
    from lottery.runner.ranks import lead, opened

    with opened(place, requests[0].device) as group:
        contexts = prepare_all(requests, stop, store=store, group=group)
        mixed = [said for each in contexts for said in foreseen(each.plan, store, each.machine.environment())]
        _warn(list(dict.fromkeys(mixed)))
        yield [context.plan for context in contexts], lambda outcome: lead(contexts, outcome)


def _followed(
    requests: Sequence[Request], place: Place, stop: Stop, store: Store, *, swept: bool
) -> Outcome | SweptOutcome:
    """Take part in the run of rank 0, and return its outcome."""
    from lottery.runner.events import SweptOutcome
    from lottery.runner.prepare import Loaded, follower
    from lottery.runner.ranks import follow, opened

    with opened(place, requests[0].device) as group:
        loaded = Loaded()
        contexts = [follower(request, stop, store, group, loaded) for request in requests]
        resume_collector()
        outcomes = [follow(context) for context in contexts]
        return SweptOutcome(outcomes, [said for each in outcomes for said in each.messages]) if swept else outcomes[0]


def table(
    recipe: Recipe | Sweep | str | Path | Sequence[Recipe | Sweep | str | Path],
    *,
    data: str | Path | None = None,
    store: str | Path | None = None,
    view: str = "means",
    network: str | None = None,
    rows: Mapping[str, Any] | None = None,
    columns: Sequence[str] = (),
    plugins: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one of a recipe's tables as a data frame, from what is finished so far.

    That of a sweep has the rows of all points, with a column for each swept key in front. Of several recipes it is one
    table with a column `study`, see `lottery.verdicts.several`.

    Args:
        recipe: A loaded recipe or sweep, the path of one, the name of a study that was run in the store, which is shown
            as it was run, or the name of a shipped one; several as a list.
        data: Folder of data sets; $LOTTERY_DATA or `data` where it is None.
        store: Place of finished jobs, a folder or a URL; $LOTTERY_STORE or `runs` where it is None.
        view: A name of `lottery.analysis.views.VIEWS`.
        network: Of several recipes, and of the view `matrix`: the network that is compared, `dense`, `ticket` or a
            control's label; the ticket where it is None.
        rows: Only the rows with these values, one or several of each column; densities in percent, as people read them.
        columns: Only these columns, beside those that say what a row is.
        plugins: Modules that add entries to the catalogues.

    Returns:
        Seeds, levels and counts as integers, densities and measures as floats (fractions of 1), what is true or false
        as booleans; a table in which nothing is known yet has the columns that any table of its view has.

    Raises:
        UsageError: There is no such view, the recipe has no such table, or studies cannot be compared.
    """
    from lottery.analysis.column_types import column_types
    from lottery.analysis.selection import select
    from lottery.analysis.several import rows_of_all
    from lottery.formats.render import frame
    from lottery.recipe.plugins import import_named
    from lottery.recipe.sweep import Sweep
    from lottery.results.named_recipe import load_named
    from lottery.results.study import study
    from lottery.results.sweep import swept_study

    found: list[Study | SweptStudy] = []
    swept: list[str] = []
    import_named(plugins)
    for each in [recipe] if isinstance(recipe, (str, Path)) or not isinstance(recipe, Sequence) else recipe:
        loaded = load_named(each, store, tell=_say) if isinstance(each, (str, Path)) else each
        if isinstance(loaded, Sweep):
            found.append(swept_study(loaded, data=data, store=store))
            swept += loaded.keys
        else:
            found.append(study(loaded, data=data, store=store))
    wanted = [(name, [str(value) for value in _listed(values)]) for name, values in (rows or {}).items()]
    shown = select(rows_of_all(found, view, network), wanted, columns)
    types = column_types(view)
    if not shown and columns:
        types = {name: kind for name, kind in types.items() if name in columns}
    return frame(shown, {**dict.fromkeys(["study"] if len(found) > 1 else swept, "text"), **types})
