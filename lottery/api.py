"""What notebooks and scripts use beside `load_recipe`: `run` and `table`; the command line calls the same functions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.errors import UsageError
from lottery.places import data_root, store_root

if TYPE_CHECKING:
    import pandas as pd

    from lottery.bench import Bench
    from lottery.plan import Plan
    from lottery.record import Record
    from lottery.schema import Recipe
    from lottery.signals import Stop
    from lottery.store import Store
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
    view: str = "means",
) -> pd.DataFrame:
    """One of the recipe's tables as a data frame, from what is done so far.

    `view` is "means" (`lottery.tables.rows`), "long" (a row for each training), "transfer" (tickets found with x
    retrained with) or "rates" (the learning rates tried). Raises UsageError for another."""
    import pandas as pd

    from lottery.record import known_plan, records
    from lottery.store import Store

    kept = Store(store_root(store))
    planned = known_plan(_loaded(recipe), kept, Path(data) if data else None)
    return pd.DataFrame(table_rows(planned, records(planned, kept), kept, view))


def table_rows(plan: Plan, found: dict[str, Record], store: Store, view: str) -> list[dict[str, Any]]:
    """The rows of one of the recipe's tables, see `table`. Raises UsageError where the recipe has no such table."""
    from lottery.comparisons import rate_rows, transfer_rows
    from lottery.tables import long_rows, rows

    if view == "transfer" and plan.recipe.transfer is None:
        raise UsageError(f"{plan.recipe.name}: retrains no ticket with another optimizer; add `transfer: all`")
    if view == "rates" and plan.recipe.tune is None:
        raise UsageError(f"{plan.recipe.name}: tunes no learning rate; add `tune: {{}}`")
    makers = {
        "means": lambda: rows(plan, found),
        "long": lambda: long_rows(plan, found),
        "transfer": lambda: transfer_rows(plan, found),
        "rates": lambda: rate_rows(plan, store),
    }
    if view not in makers:
        raise UsageError(f"view {view!r}: there are {', '.join(makers)}")
    return makers[view]()
