"""The command `lottery plan`: jobs done and missing, and the time and disk that the missing ones will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.options import DataDir, Json, Plugins, Points, RecipeName, Sets, StoreDir, load_points
from lottery.cli.plan_sweep import plan_sweep
from lottery.paths import data_root, store_root
from lottery.words import short

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan

LINES = 15  # of seeds or levels: with what stands around them they fit a screen
RATES = "learning rates"
STATES = ("done", "diverged", "running", "interrupted", "failed", "missing")  # of `Store.state`, in columns
SHOWN = ("done", "missing")  # columns that are there at all times


def plan(
    recipe: RecipeName,
    sets: Sets = None,
    point: Points = None,
    data: DataDir = None,
    store: StoreDir = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    every: Annotated[bool, typer.Option("--list", help="List each job, with its key.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Count the jobs that are done and missing, by seed or level, and say the time and disk they will take."""
    from lottery.analysis.rewind_search import sentences as rewind_sentences
    from lottery.data.duplicates import duplicates, remembered
    from lottery.data.duplicates import sentence as sentence_of
    from lottery.network.build import prunable
    from lottery.network.layout import Layout
    from lottery.results.coverage import in_words
    from lottery.results.mixed_environments import foreseen
    from lottery.results.plugin_edits import other_sources
    from lottery.results.record import records
    from lottery.results.study import Study
    from lottery.runner.estimate import estimate
    from lottery.runner.events import Request
    from lottery.runner.needs import needs_of
    from lottery.runner.prepare import look
    from lottery.verdicts.frontier import sentences

    sweep = load_points(recipe, sets, plugin, point, store)
    request = Request(sweep.points[0].recipe, data_root(data), store_root(store), device)
    if sweep.keys:
        plan_sweep(request, sweep, every=every, as_json=as_json)
        return
    context = look(request)
    states = {job.key: context.store.state(job.key) for job in context.plan}
    told = estimate(context)
    found_so_far = Study(context.plan, records(context.plan, context.store), context.store)
    decided, rewound = sentences(found_so_far), rewind_sentences(found_so_far)
    mixed = foreseen(context.plan, context.store, context.machine.environment())
    layout = Layout.of(network := context.networks.blank())
    found = remembered(context.store, context.plan.fingerprint) or duplicates(context.splits)
    if as_json:
        jobs = [
            {"key": job.key, "kind": job.kind.value, "label": job.label, "state": states[job.key]}
            | {"seconds": told.by_job.get(job.key)}
            for job in context.plan
        ]
        counted = {name: value for name, value in vars(told).items() if name != "by_job"}
        about: dict[str, Any] = {"needs": vars(needs_of(context))}
        about |= {"mixed_environments": mixed, "duplicates": None if found is None else found.as_dict()}
        print_json(
            {
                "jobs": jobs,
                "estimate": counted,
                "frontier": decided,
                "rewind": rewound,
                "never_pruned": dict(layout.left),
            }
            | about
        )
        return
    from lottery.formats.text import text
    from lottery.words import duration

    if every:
        for job in context.plan:
            print(f"{short(job.key)}  {states[job.key]:<12} {job.label}")
    else:
        terminal.write(text(grouped(context.plan, states, told.by_job)).encode())
    how = "from finished jobs" if told.measured else "from a few steps timed now"
    print(f"{told.done} jobs done, {told.missing} missing")
    if told.missing:
        print(f"time: about {duration(told.seconds)} in one process ({how})")
        free = "" if told.free_bytes is None else f" of {told.free_bytes / 1e6:,.0f} MB free"
        print(f"disk: about {told.need_bytes / 1e6:,.0f} MB{free}")
        terminal.say(needs_of(context).sentence())
    if layout.left:
        terminal.say(in_words(layout.left, sum(weight.numel() for weight in prunable(network).values())))
    copies = sentence_of(context.plan.recipe.data.component.name, found)
    for sentence in (*rewound, *decided, *other_sources(context.plan, context.store), *mixed, *filter(None, [copies])):
        terminal.say(sentence)


def grouped(plan: Plan, states: Mapping[str, str], seconds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row for each seed, or for each level where there is one seed: jobs, number in each state, time left.

    More than LINES of them share a row with their neighbours.
    """
    from lottery.words import duration

    by_seed = len(plan.recipe.seeds) > 1
    rates = [job for job in plan if job.kind.tunes]
    trainings: dict[int, list[Job]] = {}
    for job in plan:
        if not job.kind.tunes:
            trainings.setdefault(job.seed if by_seed else job.level, []).append(job)
    numbers = list(trainings) if by_seed else sorted(trainings)
    share = -(-len(numbers) // LINES)
    chunks = [numbers[first : first + share] for first in range(0, len(numbers), share)] if numbers else []
    parts = {RATES: rates} if rates else {}
    parts |= {_named(chunk, by_seed): [job for number in chunk for job in trainings[number]] for chunk in chunks}
    shown = [state for state in STATES if state in SHOWN or state in states.values()]
    rows = []
    for name, jobs in parts.items():
        left = sum(seconds.get(job.key, 0.0) for job in jobs)
        row: dict[str, Any] = {"part": name, "jobs": len(jobs)}
        row |= {state: sum(states[job.key] == state for job in jobs) for state in shown}
        rows.append(row | {"time": f"about {duration(left)}" if left else ""})
    return rows


def _named(numbers: Sequence[int], by_seed: bool) -> str:
    first, last = numbers[0], numbers[-1]
    if by_seed:
        return f"seed {first}" if first == last else f"seeds {first} to {last}"
    if last == 0:
        return "dense"
    if first == last:
        return f"level {first}"
    return f"dense to level {last}" if first == 0 else f"levels {first} to {last}"
