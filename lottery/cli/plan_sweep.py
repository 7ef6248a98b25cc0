"""`lottery plan` of a sweep: a row for each point, and the time and disk that all of them will take together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lottery.cli import terminal
from lottery.cli.listing import print_json
from lottery.cli.plan_summary import tell_summary
from lottery.words import duration, short

if TYPE_CHECKING:
    from lottery.analysis.rows import Row
    from lottery.plan.jobs import Job
    from lottery.recipe.sweep import Point, Sweep
    from lottery.runner.context import RunContext
    from lottery.runner.events import Request
    from lottery.runner.work_left import Estimate


def plan_sweep(request: Request, sweep: Sweep, *, every: bool, as_json: bool) -> None:
    """Print the plan of the points; a job that several of them share counts at the first."""
    from lottery.recipe.plugins import plugin_lines
    from lottery.results.mixed_environments import foreseen
    from lottery.results.plugin_edits import other_sources
    from lottery.runner.estimate import least_sure
    from lottery.runner.needs import needs_of
    from lottery.runner.outlook import least_spread_of
    from lottery.runner.prepare import look_at_all
    from lottery.verdicts.prospects_in_words import rows as claims
    from lottery.verdicts.prospects_in_words import sentences as claims_in_words
    from lottery.verdicts.prospects_in_words import spreads

    contexts = look_at_all(request.of(sweep))
    shares = _shares(contexts)
    rows = [_row(values, share) for values, share in zip(_values(sweep), shares, strict=True)]
    mixed = [said for each in contexts for said in foreseen(each.plan, each.store, each.machine.environment())]
    warnings = list(dict.fromkeys([said for each in contexts for said in other_sources(each.plan, each.store)] + mixed))
    decided = [said for point, context in zip(sweep.points, contexts, strict=True) for said in _decided(point, context)]
    needs = max((needs_of(context) for context in contexts), key=lambda each: each.least_bytes)
    free_bytes, need_bytes = shares[0].told.free_bytes, sum(share.told.need_bytes for share in shares)
    seconds = sum(share.told.seconds for share in shares)
    whole = {
        "done": sum(share.told.done for share in shares),
        "missing": sum(share.told.missing for share in shares),
        "seconds": seconds,
        "measured": all(share.told.measured for share in shares),
        "source": least_sure(share.told for share in shares),
        "need_bytes": need_bytes,
        "free_bytes": free_bytes,
    }
    least_spread = min(least_spread_of(context.splits) for context in contexts)
    if as_json:
        points = [
            {"values": point.values, **share.as_dict()} for point, share in zip(sweep.points, shares, strict=True)
        ]
        told: dict[str, Any] = {"decided": decided, "warnings": warnings, "plugins": list(plugin_lines(sweep.plugins))}
        told |= {"claims": claims(sweep, least_spread)}
        print_json({"points": points, "estimate": whole, "needs": vars(needs)} | told)
        return
    from lottery.formats.text import text

    tell_summary(whole, needs.sentence(), [*claims_in_words(sweep, least_spread), *spreads(sweep)])
    for sentence in (*decided, *warnings):
        terminal.say(sentence)
    print()
    if every:
        for context, share in zip(contexts, shares, strict=True):
            for job in share.jobs:
                print(f"{short(job.key)}  {context.store.state(job.key):<12} {context.label(job)}")
    else:
        terminal.write(text(rows, terminal.width()).encode())
    for line in plugin_lines(sweep.plugins):
        print(f"plugin: {line}")


def _decided(point: Point, context: RunContext) -> list[str]:
    """Return what results have decided so far of what a point runs, where they do."""
    from lottery.analysis.rewind_search import sentences as rewound
    from lottery.results.record import records
    from lottery.results.study import Study
    from lottery.verdicts.frontier import sentences

    if not point.recipe.grows:
        return []
    found = Study(context.plan, records(context.plan, context.store), context.store)
    return [f"{point.label}: {sentence}" for sentence in (*rewound(found), *sentences(found))]


class _Share:
    """The jobs of a point that no point before it has, and what they take."""

    def __init__(self, context: RunContext, jobs: Sequence[Job], told: Estimate):
        self.context, self.jobs, self.told = context, jobs, told
        self.shared = len(context.plan) - len(jobs)

    def as_dict(self) -> dict[str, Any]:
        """Return the point in plain values, for JSON."""
        jobs = [
            {"key": job.key, "kind": job.kind.value, "label": job.label, "state": self.context.store.state(job.key)}
            | {"seconds": self.told.by_job.get(job.key)}
            for job in self.jobs
        ]
        counted = {name: value for name, value in vars(self.told).items() if name not in ("by_job", "free_bytes")}
        return {"jobs": jobs, "shared": self.shared, "estimate": counted}


def _shares(contexts: Sequence[RunContext]) -> list[_Share]:
    from lottery.runner.estimate import estimate
    from lottery.runner.step_times import OtherJobs

    shares, seen, others = list[_Share](), set[str](), OtherJobs(contexts[0].store, contexts[0].machine)
    for context in contexts:
        jobs = [job for job in context.plan if job.key not in seen]
        shares.append(_Share(context, jobs, estimate(context, seen, others)))
        seen.update(context.plan.jobs)
    return shares


def _values(sweep: Sweep) -> list[dict[str, Any]]:
    from lottery.analysis.sweep import swept_values

    return swept_values(sweep)


def _row(values: dict[str, Any], share: _Share) -> Row:
    from lottery.analysis.rows import Row

    told = share.told
    row = {"jobs": len(share.context.plan), "shared": share.shared, "done": told.done, "missing": told.missing}
    return Row({**values, **row, "time": f"about {duration(told.seconds)}" if told.missing else ""}, ())
