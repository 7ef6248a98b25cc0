"""A ticket file trained again, here, and held against what its maker measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lottery.bench import Bench
from lottery.device import machine
from lottery.environment import differing
from lottery.errors import LotteryError
from lottery.job import Progress, execute
from lottery.plan import Plan
from lottery.readings import READINGS
from lottery.signals import Stop, noticed
from lottery.store import Store

if TYPE_CHECKING:
    from lottery.ticketfile import Ticket


@dataclass(frozen=True)
class Comparison:
    """`identical` where the trained weights are, to the bit. `measures` are (step, what, there, here): accuracies and
    losses as the ticket's maker measured them and as they are here. `environment` is (what, there, here) where the two
    are known to differ."""

    identical: bool
    measures: list[tuple[str, str, float, float]]
    environment: list[tuple[str, Any, Any]]


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

    Raises DataError where the data are not those it was trained on, Interrupted after saving when told to stop."""
    splits, job, stop = ticket.data(data), ticket.job(), Stop()
    plan = Plan(ticket.recipe, ticket.training["fingerprint"], {job.key: job})
    bench = Bench(plan, Store(store), machine(device, deterministic=deterministic), splits, stop=stop)
    if bench.store.find(job.key) is None:
        with noticed(stop):
            for progress in execute(bench, job, ticket.start()):
                on_progress(progress)
    return _compared(ticket, bench.store)


def _compared(ticket: Ticket, store: Store) -> Comparison:
    manifest, evidence = store.find(ticket.key), ticket.evidence
    assert manifest is not None
    metrics = store.read_json(ticket.key, "metrics.json")
    if "diverged" in metrics:
        raise LotteryError(
            f"{ticket.key[:12]}: diverged here at step {metrics['diverged']}, where it was made it did not"
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
    same = manifest.files["weights.safetensors"].sha256 == evidence["trained_sha256"]
    theirs, ours = (
        {k: v for k, v in each.items() if k != "earlier"} for each in (evidence["environment"], manifest.environment)
    )
    names = sorted(differing([[theirs], [ours]]))
    return Comparison(same, measures, [(name, theirs.get(name), ours.get(name)) for name in names])
