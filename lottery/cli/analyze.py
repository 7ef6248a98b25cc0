"""The command `lottery analyze`: one analysis of finished networks by hand, by their keys."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli import terminal
from lottery.cli.options import DataDir, Device, Plugins, StoreDir, plug_in
from lottery.errors import LotteryError, UsageError
from lottery.paths import data_root, store_root

if TYPE_CHECKING:
    from lottery.plan.jobs import Job, Plan
    from lottery.runner.by_hand import Network
    from lottery.store.store import Store


def analyze(
    key: Annotated[
        str, typer.Argument(metavar="KEY[/TICKET][@MOMENT]", help="A network's key, or its first digits; see below.")
    ],
    name: Annotated[str, typer.Argument(help="An analysis: lottery list analyses.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Its keys.")] = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="KEY", help="A further network; repeatable."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="text, csv, markdown, latex; json has the whole measurement.")
    ] = "text",
    data: DataDir = None,
    store: StoreDir = None,
    device: Device = "auto",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The same bytes again.")] = False,
    plugin: Plugins = None,
) -> None:
    """Measure finished networks of a store: one by its key, two or three with --with; a result that exists is shown.

    @MOMENT is end, early_stop, best_accuracy, start, or a step that the training kept, such as @500it. /TICKET puts the
    mask of another ticket on the network. It is the job that a recipe's `analyses` has, so each finds what the other
    has done; one that is stopped goes on with the same words.
    """
    from lottery.analysis.one_measurement import diverged_row, document, row_of
    from lottery.formats.render import FORMATS, render
    from lottery.recipe.one_analysis import parse_analysis
    from lottery.store.store import Store

    if form not in FORMATS or form == "parquet":
        raise UsageError(f"--format {form}: there are {', '.join(each for each in FORMATS if each != 'parquet')}")
    plug_in(plugin)
    spec, kept = parse_analysis(name, arguments or ()), Store(store_root(store))
    from lottery.runner.by_hand import Network, plan_analysis

    networks = [Network.find(kept, text) for text in (key, *(others or ()))]
    planned, job = plan_analysis(kept, spec, networks)
    labels = [network.training.label for network in networks]
    if any(network.training.diverged is not None for network in networks):
        steps = {network.training.key: network.training.diverged for network in networks}
        row = diverged_row(job, labels, steps)
        terminal.write(render([row], form, terminal.width()))
        return
    if kept.find(job.key) is None:
        _measure(kept, planned, job, networks, data, device, deterministic)
    content = json.dumps(document(kept, job, labels), indent=1).encode() + b"\n" if form == "json" else b""
    terminal.write(content or render([row_of(kept, job, labels)], form, terminal.width()))


def _measure(
    store: Store,
    plan: Plan,
    job: Job,
    networks: Sequence[Network],
    data: Path | None,
    device: str,
    deterministic: bool,
) -> None:
    """Run the analysis, shown on stderr while it lasts.

    Raises:
        LotteryError: It failed; the message says why.
        Interrupted: It was told to stop; what is finished is saved.
    """
    from lottery.display.terminal import TerminalDisplay
    from lottery.runner.by_hand import measure, open_context
    from lottery.signals import Stop, handle_signals

    stop = Stop()
    with handle_signals(stop):
        context = open_context(store, plan, data_root(data), device, deterministic=deterministic, stop=stop)
        with TerminalDisplay(stop) as view:
            view.plan(replace(plan, jobs={job.key: job}))
            for event in measure(context, job, networks):
                if event.kind in ("failed", "damaged"):
                    raise LotteryError(f"{event.label}: {event.about['message']}")
                view.event(event)
