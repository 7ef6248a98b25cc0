"""What notebooks and scripts use beside `load_recipe`: `run` and `table`; the command line calls the same functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lottery.places import data_root, store_root

if TYPE_CHECKING:
    import pandas as pd

    from lottery.bench import Bench
    from lottery.plan import Plan
    from lottery.schema import Recipe
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

    `on_plan` is told the plan before training, and with `levels: auto` each time that there is more to do; `on_event`
    each event. In the main thread, signals are noticed: raises
    Interrupted after saving; run again to go on. Raises UsageError, DataError or MachineError before any training
    where something is missing or cannot fit; a failing or diverging job raises nothing, it is in the outcome."""
    from lottery.signals import Stop, noticed
    from lottery.work import Outcome, Request, following, prepare

    recipe = _loaded(recipe)
    request = Request(
        recipe, data_root(data), store_root(store), device, max(1, jobs), deterministic, checkpoint_seconds
    )
    stop = Stop()
    with noticed(stop):
        bench = prepare(request, stop)
        planned = bench.plan
        on_plan(planned)
        outcome = Outcome(total=len(planned))
        for event in _events(request, bench, plugins, stop):
            if event.kind != "planned":
                outcome.add(event)
                on_event(event)
            elif (longer := following(bench)).jobs.keys() != planned.jobs.keys():  # each process says so
                planned = longer
                outcome.total = len(planned)
                on_plan(planned)
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
    """One of the recipe's tables as a data frame, from what is done so far: a view of `lottery.views.VIEWS`.

    Raises UsageError for another, and where the recipe has no such table."""
    import pandas as pd

    from lottery.study import study
    from lottery.views import rows_of

    return pd.DataFrame(rows_of(study(_loaded(recipe), data=data, store=store), view))
