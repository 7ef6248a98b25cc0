"""A ticket file trained again, here, and held against what its maker measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.device import Machine, machine
from lottery.environment import differing
from lottery.errors import LotteryError
from lottery.plan.jobs import Plan
from lottery.plan.kinds import METRICS_FILE, WEIGHTS_FILE
from lottery.recipe.readings import READINGS
from lottery.runner.context import RunContext
from lottery.runner.execute import Progress, execute
from lottery.signals import Stop, handle_signals
from lottery.store.store import Store
from lottery.tickets.checks import checks
from lottery.words import short

if TYPE_CHECKING:
    from lottery.data.splits import Splits
    from lottery.tickets.file import Ticket


@dataclass(frozen=True)
class Comparison:
    """A ticket as its maker measured it, and as it is here.

    Attributes:
        key: What the training here is kept under.
        identical: Whether the trained weights are the maker's, to the bit.
        measures: (reading, what, there, here) of accuracies and losses.
        environment: (what, there, here) where the two are known to differ.
    """

    key: str
    identical: bool
    measures: list[tuple[str, str, float, float]]
    environment: list[tuple[str, Any, Any]]


def context_of_ticket(
    ticket: Ticket, splits: Splits, machine: Machine, store: Path, stop: Stop | None = None
) -> RunContext:
    """Return what trainings and measurements of a ticket file need; nothing is written before one is trained."""
    job = ticket.retraining(machine.deterministic)
    plan = Plan(ticket.recipe, ticket.training["fingerprint"], {job.key: job})
    return RunContext(plan, Store(store), machine, splits, stop=stop or Stop())


def retrain(
    ticket: Ticket,
    data: Path,
    store: Path,
    *,
    device: str = "auto",
    deterministic: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Train the ticket in `store` as its job was trained, going on where an earlier call was stopped, and compare.

    What is trained is kept under a key of the file's own (`Ticket.retraining`), never under the ticket's.
    Raises LotteryError where a check of the file fails, DataError where the data are not those it was trained on,
    Interrupted after saving when told to stop.
    """
    splits, stop = ticket.data(data), Stop()
    context = context_of_ticket(ticket, splits, machine(device, deterministic=deterministic), store, stop)
    if wrong := [finding for finding in checks(ticket, context) if not finding.holds]:
        told = "; ".join(f"{finding.name}: {finding.found}" for finding in wrong)
        raise LotteryError(f"{short(ticket.key)}: the file is not trained, it is not what its key stands for: {told}")
    (job,) = context.plan
    if context.store.find(job.key) is None:
        with handle_signals(stop):
            for progress in execute(context, job, ticket.start()):
                on_progress(progress)
    return _compared(ticket, job.key, context.store)


def _compared(ticket: Ticket, key: str, store: Store) -> Comparison:
    manifest, evidence = store.find(key), ticket.evidence
    assert manifest is not None
    metrics = store.read_json(key, METRICS_FILE)
    if "diverged" in metrics:
        raise LotteryError(
            f"{short(ticket.key)}: diverged here at step {metrics['diverged']}, where it was made it did not"
        )
    measures: list[tuple[str, str, float, float]] = []
    for when in READINGS:
        there, here = evidence["ticket"].get(when) or {}, metrics.get(when) or {}
        for name, value in there.items():
            if (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and isinstance(here.get(name), (int, float))
            ):
                measures.append((when, name, float(value), float(here[name])))
    same = manifest.files[WEIGHTS_FILE].sha256 == evidence["trained_sha256"]
    theirs, ours = (
        {k: v for k, v in each.items() if k != "earlier"} for each in (evidence["environment"], manifest.environment)
    )
    names = sorted(differing([[theirs], [ours]]))
    return Comparison(key, same, measures, [(name, theirs.get(name), ours.get(name)) for name in names])
