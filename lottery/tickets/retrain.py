"""Retraining of a ticket file, here, compared with what its maker measured."""

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
        key: The key of the training here.
        identical: True if the trained weights are the maker's, to the bit.
        measures: Reading, name, value there and value here of accuracies and losses.
        environment: Name, value there and value here, where the two are known to differ.
    """

    key: str
    identical: bool
    measures: list[tuple[str, str, float, float]]
    environment: list[tuple[str, Any, Any]]


def context_of_ticket(
    ticket: Ticket, splits: Splits, machine: Machine, store: str | Path, stop: Stop | None = None
) -> RunContext:
    """Return the context for trainings and measurements of a ticket file; nothing is written before one is trained."""
    job = ticket.retraining(machine.deterministic)
    plan = Plan(ticket.recipe, ticket.training["fingerprint"], {job.key: job})
    return RunContext(plan, Store(store), machine, splits, stop=stop or Stop())


def retrain(
    ticket: Ticket,
    data: Path,
    store: str | Path,
    *,
    device: str = "auto",
    deterministic: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Comparison:
    """Train the ticket as its job was trained, going on where an earlier call was stopped, and compare.

    The training is kept under a key of the file's own (`Ticket.retraining`), never under the ticket's.

    Args:
        ticket: The ticket file.
        data: The data root.
        store: The place of the store that keeps the training.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        deterministic: True for the same bytes again.
        on_progress: Called with the progress of the training.

    Raises:
        LotteryError: A check of the file fails, or the training diverged here.
        DataError: The data are not those it was trained on.
        Interrupted: It was told to stop; what was done is saved.
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
                if progress is not None:
                    on_progress(progress)
    return _compare(ticket, job.key, context.store)


def _compare(ticket: Ticket, key: str, store: Store) -> Comparison:
    manifest, evidence = store.find(key), ticket.evidence
    assert manifest is not None
    metrics = store.read_json(key, METRICS_FILE)
    if "diverged" in metrics:
        raise LotteryError(
            f"{short(ticket.key)}: diverged here at step {metrics['diverged']}, where it was made it did not"
        )
    measures: list[tuple[str, str, float, float]] = []
    for reading in READINGS:
        there, here = evidence["ticket"].get(reading) or {}, metrics.get(reading) or {}
        for name, value in there.items():
            if (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and isinstance(here.get(name), (int, float))
            ):
                measures.append((reading, name, float(value), float(here[name])))
    same = manifest.files[WEIGHTS_FILE].sha256 == evidence["trained_sha256"]
    theirs, ours = (
        {k: v for k, v in each.items() if k != "earlier"} for each in (evidence["environment"], manifest.environment)
    )
    names = sorted(differing([[theirs], [ours]]))
    return Comparison(key, same, measures, [(name, theirs.get(name), ours.get(name)) for name in names])
