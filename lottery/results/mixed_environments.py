"""Warning before a run that would mix environments, so that verdicts would be withheld."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lottery.environment import PLUGIN, Session, described, essence, mixed
from lottery.plan.kinds import STATE_VALUES_FILE, Kind
from lottery.words import counted

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.store.store import Store


def foreseen(plan: Plan, store: Store, here: Session) -> list[str]:
    """Return a sentence if a run here would mix environments so that verdicts are withheld, else an empty list.

    That is so if trainings of the environment `here` would stand beside finished ones of another in one comparison, and
    the two differ in a field that withholds verdicts. The sentence says how to avoid it.

    The trainings of one optimizer and seed are compared: dense network, tickets and controls. Seeds that are trained
    here from the beginning mix nothing, and neither does what differs in rounding only.
    """
    compare = plan.recipe.compare
    allowed = set(compare.allow) if compare is not None else set()
    there, elsewhere, missing = list[Session](), 0, 0
    fields: dict[str, None] = {}
    for jobs in _compared(plan).values():
        open_still = [job for job in jobs if job.kind is not Kind.REWIND and store.find(job.key) is None]
        begun = list(_begun(jobs, open_still, store, here)) if open_still else []
        apart = [sessions for sessions in begun if _withholding([sessions, [here]], allowed)]
        if apart:
            missing += len(open_still)
            elsewhere += len(apart)
            there += [session for sessions in apart for session in sessions]
            fields |= dict.fromkeys(_withholding([*apart, [here]], allowed))
    if not fields:
        return []
    then, now = described([essence(session) for session in there]), described([essence(here)])
    how = ", ".join(f"{name} {then[name]} there, {now.get(name, 'none')} here" for name in fields)
    told = f"mixed environments: {counted(elsewhere, 'training')} of this study ran elsewhere ({how}), and of those "
    told += f"compared with them {missing} {'is' if missing == 1 else 'are'} missing; "
    if compare is None:
        return [f"{told}the tables will say so. To train all of it here, name another folder with --store"]
    return [
        f"{told}trained here, their verdicts will be withheld. To train all of it here, name another folder with "
        f"--store; to keep what is done and compare all the same, say so in the recipe, or with "
        f"--set 'compare.allow=[{', '.join([*compare.allow, *fields])}]'"
    ]


def _withholding(trainings: Sequence[Sequence[Session]], allowed: set[str]) -> list[str]:
    """Return the fields that withhold a verdict; sources of plugins are in keys, where they count."""
    return [name for name in mixed(trainings) if name not in allowed and not name.startswith(PLUGIN)]


def _compared(plan: Plan) -> dict[tuple[int, int], list[Job]]:
    """Return the jobs that are compared with one another, by the index of the dense network's optimizer and by seed.

    States to rewind to are among them, as the dense network goes on from these.
    """
    groups: dict[tuple[int, int], list[Job]] = {}
    for job in plan:
        if job.kind.trains and not job.kind.tunes:
            groups.setdefault((job.optimizer_index if job.transfer is None else job.transfer, job.seed), []).append(job)
    return groups


def _begun(jobs: list[Job], open_still: list[Job], store: Store, here: Session) -> Iterator[Sequence[Session]]:
    """Yield the environments of each finished training, and of what the unfinished ones would go on from."""
    needed = {key for job in open_still if job.kind is Kind.DENSE for key in job.needs}
    for job in jobs:
        manifest = store.find(job.key)
        if manifest is not None and job.kind is not Kind.REWIND:
            yield manifest.sessions
        elif here.get("deterministic"):  # bytes must be those of one environment: states of another are not used
            continue
        elif manifest is not None and job.key in needed:
            yield manifest.sessions
        elif manifest is None and (state := store.read_checkpoint(job.key, STATE_VALUES_FILE)) is not None:
            yield json.loads(state)["environments"]
