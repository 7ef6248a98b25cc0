"""The functions for notebooks and scripts beside `load_recipe`: `run` and `table`; the command line calls them too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.paths import data_root

if TYPE_CHECKING:
    import pandas as pd

    from lottery.distributed.place import Place
    from lottery.plan.jobs import Plan
    from lottery.recipe.schema import Recipe
    from lottery.runner.events import Event, Jobs, Outcome, Request
    from lottery.signals import Stop
    from lottery.store.store import Store
    from lottery.values import Component


def run(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    store: str | Path | Store | None = None,
    device: str = "auto",
    jobs: Jobs = 1,
    on: str | Mapping[str, Any] | None = None,
    deterministic: bool = False,
    checkpoint_seconds: float = 60.0,
    plugins: Sequence[str] = (),
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Run what is missing of a recipe and return how each job ended.

    A failing or diverging job raises nothing: it is in the outcome. In the main thread, signals are handled: the run
    saves and leaves; run it again to go on.

    In processes that torchrun starts, each network is trained by all of them together: they call this alike, rank 0
    saves and says what happens (`on_plan`, `on_event`), and all return the same.

    Args:
        recipe: A loaded recipe, the path of one, or the name of a shipped one.
        data: Folder of data sets; $LOTTERY_DATA or `data` where it is None.
        store: Place of finished jobs, a folder or a URL; $LOTTERY_STORE or `runs` where it is None.
        device: `auto`, `cpu` or `cuda`.
        jobs: Number of processes; `auto` for as many as there are cores with work. With other numbers than 1 jobs are
            trained in other processes, and this one need not even import torch.
        on: Executor that starts workers to train the jobs, by name or as `{"name": ..., key: value}`, in place of
            processes of this run; `lottery list executors` has them.
        deterministic: Equal jobs give equal bytes on one machine and version.
        checkpoint_seconds: Seconds between checkpoints.
        plugins: Modules that add entries to the catalogues.
        on_plan: Called with the plan before training, and with `levels: auto` each time that there is more to do.
        on_event: Called with each event.

    Raises:
        UsageError: The recipe cannot be run, or the executor cannot be had so; nothing was trained.
        DataError: The data are missing or damaged; nothing was trained.
        MachineError: The results cannot fit on the disk, and nothing was trained; or workers die again and again.
        Interrupted: The run was told to stop, and has saved.
    """
    from lottery import registry
    from lottery.distributed.place import place_of_environment
    from lottery.executors.profiles import executor_of
    from lottery.results.planning import plan_with_walks
    from lottery.results.plugin_edits import other_sources
    from lottery.runner.events import Request
    from lottery.signals import Stop, handle_signals
    from lottery.store.open import open_store

    for plugin in plugins:
        registry.plug_in(plugin)
    if on is not None and jobs != 1:
        raise UsageError(f"jobs: {jobs} processes of this run, or workers that an executor starts (on), not both")
    recipe = _loaded(recipe)
    jobs = jobs if jobs == "auto" else max(1, jobs)
    opened = open_store(store)
    request = Request(recipe, data_root(data), opened.name, device, jobs, deterministic, checkpoint_seconds)
    stop, place = Stop(), place_of_environment()
    executor = None if on is None else executor_of(on)
    if place is not None and (executor is not None or jobs != 1):
        raise UsageError(f"all {place.size} ranks train one network after the other; leave --on and --jobs out")
    if place is not None and place.rank:
        with handle_signals(stop):
            return _followed(request, place, stop, opened)
    with handle_signals(stop), _begun(request, executor, plugins, stop, opened, place) as (planned, outcome, events):
        _warn(other_sources(planned, opened))
        on_plan(planned)
        for event in events:
            if event.kind != "planned":
                outcome.add(event)
                on_event(event)
                continue
            longer = plan_with_walks(recipe, planned.fingerprint, planned.others, opened)
            if longer.jobs.keys() != planned.jobs.keys():  # each process says so
                outcome.plan = planned = longer
                on_plan(planned)
    return outcome


def _warn(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        logging.getLogger("lottery").warning("%s", sentence)


def _loaded(recipe: Recipe | str | Path) -> Recipe:
    from lottery.recipe.load import load_recipe

    return load_recipe(recipe) if isinstance(recipe, (str, Path)) else recipe


@contextmanager
def _begun(
    request: Request, executor: Component | None, plugins: Sequence[str], stop: Stop, store: Store, place: Place | None
) -> Iterator[tuple[Plan, Outcome, Iterator[Event]]]:
    """Yield the plan, the outcome that is to be filled, and the events."""
    from lottery.runner.events import Outcome
    from lottery.runner.finished import all_finished

    if place is None and (done := all_finished(request, store)) is not None:
        yield done[0], Outcome(done[0]), iter(done[1])
        return
    if executor is not None:
        from lottery.executors.drive import driven

        with driven(request, executor, stop, plugins, store) as (planned, events):
            yield planned, Outcome(planned), events
        return

    if request.jobs != 1:
        from lottery.executors.processes import processes

        with processes(request, stop, plugins) as (planned, mixed, events):
            _warn(mixed)
            yield planned, Outcome(planned), events
        return
    from lottery.results.mixed_environments import foreseen
    from lottery.runner.prepare import prepare
    from lottery.runner.ranks import leading, opened
    from lottery.runner.run import work

    with opened(place, request.device) as group:
        context = prepare(request, stop, store=store, group=group)
        _warn(foreseen(context.plan, context.store, context.machine.environment()))
        outcome = Outcome(context.plan)
        with leading(group, outcome):
            yield context.plan, outcome, work(context)


def _followed(request: Request, place: Place, stop: Stop, store: Store) -> Outcome:
    """Take part in the run of rank 0, and return its outcome."""
    from lottery.runner.prepare import follower
    from lottery.runner.ranks import follow, opened

    with opened(place, request.device) as group:
        return follow(follower(request, stop, store, group))


def table(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    store: str | Path | None = None,
    view: str = "means",
) -> pd.DataFrame:
    """Return one of a recipe's tables as a data frame, from what is finished so far.

    Args:
        recipe: A loaded recipe, the path of one, or the name of a shipped one.
        data: Folder of data sets; $LOTTERY_DATA or `data` where it is None.
        store: Place of finished jobs, a folder or a URL; $LOTTERY_STORE or `runs` where it is None.
        view: A name of `lottery.analysis.views.VIEWS`.

    Raises:
        UsageError: There is no such view, or the recipe has no such table.
    """
    from lottery.analysis.views import rows_of
    from lottery.formats.render import frame
    from lottery.results.study import study

    return frame(rows_of(study(_loaded(recipe), data=data, store=store), view))
