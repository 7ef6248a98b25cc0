"""What notebooks and scripts use beside `load_recipe`: `run` and `table`; the command line calls the same functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.places import data_root, store_root

if TYPE_CHECKING:
    import pandas as pd

    from lottery.job import Bench
    from lottery.plan import Plan
    from lottery.recipe import Recipe
    from lottery.record import Record
    from lottery.signals import Stop
    from lottery.work import Event, Outcome, Request


def run(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    store: str | Path | None = None,
    device: str = "auto",
    jobs: int = 1,
    deterministic: bool = False,
    checkpoint_seconds: float = 60.0,
    plugins: Sequence[str] = (),
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Run what is missing of a recipe (a loaded one, a path or a shipped name) and say how each job ended.

    `on_plan` is told the plan before training, `on_event` each event. In the main thread, signals are noticed: raises
    Interrupted after saving; run again to go on. Raises UsageError, DataError or MachineError before any training
    where something is missing or cannot fit; a failing or diverging job raises nothing, it is in the outcome."""
    from lottery.signals import Stop, noticed
    from lottery.work import Outcome, Request, prepare

    recipe = _loaded(recipe)
    request = Request(
        recipe, data_root(data), store_root(store), device, max(1, jobs), deterministic, checkpoint_seconds
    )
    stop = Stop()
    in_main = threading.current_thread() is threading.main_thread()
    with noticed(stop) if in_main else nullcontext():
        bench = prepare(request, stop)
        on_plan(bench.plan)
        outcome = Outcome(total=len(bench.plan))
        for event in _events(request, bench, plugins, stop):
            outcome.add(event)
            on_event(event)
    return outcome


def _loaded(recipe: Recipe | str | Path) -> Recipe:
    from lottery.recipe import load_recipe

    return load_recipe(recipe) if isinstance(recipe, (str, Path)) else recipe


def _events(request: Request, bench: Bench, plugins: Sequence[str], stop: Stop) -> Iterator[Event]:
    from lottery.executors.processes import processes
    from lottery.work import work

    if request.jobs == 1:
        return work(bench)
    bench.release()  # the workers hold the data now
    return processes(request, stop, plugins)


def table(
    recipe: Recipe | str | Path,
    *,
    data: str | Path | None = None,
    store: str | Path | None = None,
    long: bool = False,
) -> pd.DataFrame:
    """The recipe's table as a data frame; see `lottery.tables.rows` for its columns."""
    import pandas as pd

    recipe = _loaded(recipe)
    plan, found = finished(recipe, Path(data) if data else None, store_root(store))
    return pd.DataFrame(table_rows(plan, found, long))


def table_rows(plan: Plan, found: dict[str, Record], long: bool) -> list[dict[str, object]]:
    from lottery.tables import long_rows, rows

    return long_rows(plan, found) if long else rows(plan, found)


def finished(recipe: Recipe, data: Path | None, store: Path) -> tuple[Plan, dict[str, Record]]:
    """The recipe's plan and its finished trainings by key."""
    from lottery.plan import plan
    from lottery.record import known_fingerprint, records
    from lottery.store import Store

    kept = Store(store)
    planned = plan(recipe, known_fingerprint(recipe, kept, data))
    return planned, records(planned, kept)
