"""The command `lottery plan`: jobs done and missing, and the time and disk that the missing ones will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.options import DataDir, Device, Json, Plugins, Points, RecipeName, Sets, StoreDir, Trust, load_points
from lottery.cli.plan_summary import tell_summary
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
    device: Device = "auto",
    every: Annotated[bool, typer.Option("--list", help="List each job, with its key.")] = False,
    plugin: Plugins = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Count the jobs that are done and missing, by seed or level, and say the time and disk they will take."""
    from lottery.analysis.rewind_search import sentences as rewind_sentences
    from lottery.data.duplicates import sentence as sentence_of
    from lottery.recipe.plugins import plugin_lines
    from lottery.results.coverage import in_words
    from lottery.results.plugin_edits import other_sources
    from lottery.results.record import records
    from lottery.results.study import Study
    from lottery.runner.events import Request
    from lottery.runner.outlook import outlook
    from lottery.store.store import Store
    from lottery.verdicts.frontier import sentences
    from lottery.verdicts.prospects_in_words import rows as claims
    from lottery.verdicts.prospects_in_words import sentences as claims_in_words
    from lottery.verdicts.prospects_in_words import spreads

    sweep = load_points(recipe, sets, plugin, point, store, trust)
    kept = Store(store_root(store))
    request = Request(sweep.points[0].recipe, data_root(data), kept.name, device)
    if sweep.keys:
        plan_sweep(request, sweep, every=every, as_json=as_json)
        return
    found = outlook(request, kept, needs=as_json)
    planned, told = found.plan, found.estimate
    decided: list[str] = []
    rewound: list[str] = []
    if planned.recipe.grows:
        so_far = Study(planned, records(planned, kept), kept)
        decided, rewound = sentences(so_far), rewind_sentences(so_far)
    if as_json:
        jobs = [
            {"key": job.key, "kind": job.kind.value, "label": job.label, "state": found.states[job.key]}
            | {"seconds": told.by_job.get(job.key)}
            for job in planned
        ]
        counted = {name: value for name, value in vars(told).items() if name != "by_job"}
        about: dict[str, Any] = {"needs": vars(found.needs)}
        about |= {"plugins": list(plugin_lines(sweep.plugins))}
        about |= {
            "mixed_environments": found.mixed,
            "duplicates": None if found.copies is None else found.copies.as_dict(),
        }
        about |= {"claims": claims(sweep, found.least_spread)}
        print_json(
            {
                "jobs": jobs,
                "estimate": counted,
                "frontier": decided,
                "rewind": rewound,
                "never_pruned": dict(found.never_pruned),
            }
            | about
        )
        return
    from lottery.formats.text import text

    needs = "" if found.needs is None else found.needs.sentence()
    tell_summary(vars(told), needs, [*claims_in_words(sweep, found.least_spread), *spreads(sweep)])
    for sentence in (*rewound, *decided, *found.mixed):
        terminal.say(sentence)
    print()
    if every:
        for job in planned:
            print(f"{short(job.key)}  {found.states[job.key]:<12} {job.label}")
    else:
        terminal.write(text(grouped(planned, found.states, told.by_job)).encode())
    for line in plugin_lines(sweep.plugins):
        print(f"plugin: {line}")
    details = [*other_sources(planned, kept)]
    if found.never_pruned:
        details.append(in_words(found.never_pruned, found.prunable))
    if copies := sentence_of(planned.recipe.data.component.name, found.copies):
        details.append(copies)
    for sentence in details:
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
