"""The commands `lottery ticket ...`: a ticket as a file of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli.options import DataDir, Device, Plugins, plug_in
from lottery.cli.ticket_export import export
from lottery.errors import LotteryError
from lottery.paths import data_root
from lottery.recipe.readings import READINGS
from lottery.words import in_unit, short

if TYPE_CHECKING:
    from lottery.pruning.mask import Mask
    from lottery.runner.execute import Progress
    from lottery.tickets.file import Ticket
    from lottery.tickets.own import OwnTicket

ticket = typer.Typer(help="Tickets as files: export, show, verify, retrain.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A ticket file.")]
PROGRESS_EVERY = 30.0  # seconds between lines


ticket.command()(export)


@ticket.command()
def show(file: File, plugin: Plugins = None) -> None:
    """Say what is in a ticket file: the network, the mask, where it starts, what was measured, where it was trained."""
    from lottery.tickets.container import printable
    from lottery.tickets.file import read
    from lottery.tickets.own import read_own

    plug_in(plugin)
    own = read_own(file)
    for name, value in _about(read(file)) if own is None else _about_own(own):
        print(f"{name:<12} {printable(value)}")


def _about_own(found: OwnTicket) -> list[tuple[str, str]]:
    rows = [("origin", "no study"), ("network", found.network), ("note", found.note)]
    rows += [*_layers(found.mask), ("weights", "start and trained" if found.trained else "start")]
    rows += [("made", found.created), *(("", f"{name:<24} {value}") for name, value in found.versions.items())]
    return [(name, value) for name, value in rows if value]


def _layers(mask: Mask) -> list[tuple[str, str]]:
    from lottery.analysis.labels import density_label

    sizes = mask.sizes()
    rows = [("density", f"{density_label(mask.density)}, {sum(mask.alive().values()):,} weights")]
    return rows + [("", f"{name:<24} {count:>10,} of {sizes[name]:,}") for name, count in mask.alive().items()]


def _about(found: Ticket) -> list[tuple[str, str]]:
    from lottery.values import said

    recipe, evidence = found.recipe, found.evidence
    train = recipe.train
    rows = [
        ("key", found.key),
        ("model", f"{said(recipe.model)} on {said(recipe.data.component)}"),
        ("optimizer", f"{said(train.optimizer[0])}, {train.length}, batches of {train.batch_size}"),
        *[("plugin", f"{module or 'not recorded'} (source {code})") for code, module in _plugins(found).items()],
        ("seed", str(found.training["seed"])),
        ("start", f"step {found.step}" + (f" ({found.mode})" if found.mode != "weights" else "")),
        *_layers(found.mask),
    ]
    for name in ("ticket", "dense"):
        for reading in READINGS:
            row = evidence[name].get(reading)
            if row:
                measured = [k for k in ("test_accuracy", "test_r2") if k in row]
                scores = ", ".join(f"{k.replace('_', ' ')} {in_unit(k, row[k])}" for k in measured)
                rows.append((name, f"{reading.replace('_', ' ')}: step {row['step']}, {scores}"))
    rows += [("made", evidence["created"])]
    rows += [("", f"{name:<24} {value}") for name, value in evidence["environment"].items() if name != "earlier"]
    return rows


def _plugins(found: Ticket) -> dict[str, str]:
    from lottery.results.stored_recipe import plugins_of

    return plugins_of(found.training, found.evidence["environment"])


@ticket.command()
def verify(
    file: File,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Compare with the data set, too, which lies there.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure the trained weights of the file again, on the test split.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="For --again: auto, cpu, cuda, or cuda:1 for the GPU of that number.")
    ] = "auto",
    plugin: Plugins = None,
) -> None:
    """Check a ticket file without training: say of each part whether it is ok, WRONG, or only said.

    Exit code 1 where something is WRONG.
    """
    from lottery.data.load import load
    from lottery.device import machine
    from lottery.tickets.checks import findings
    from lottery.tickets.container import printable
    from lottery.tickets.file import read
    from lottery.tickets.own import PROVES_NOTHING, read_own
    from lottery.tickets.retrain import context_of_ticket

    plug_in(plugin)
    own = read_own(file)
    print(f"ok     bytes: {file.stat().st_size:,}, as they were written")
    if own is not None:
        print(f"said   mask: {own.mask.in_words()}, {printable(own.note) or 'no word on where it is from'}")
        raise LotteryError(f"{file}: {PROVES_NOTHING}, so that there is nothing to verify")
    found, context = read(file), None
    if data is not None or again:
        splits = load(found.recipe.data.component, data_root(data), found.recipe.data.label_noise)
        context = context_of_ticket(found, splits, machine(device), Path(os.devnull))
    words = {True: "ok", False: "WRONG", None: "said"}
    failed = 0
    for name, holds, what in findings(found, context, again=again):
        failed += holds is False
        print(f"{words[holds]:<6} {name}: {printable(what)}")
    if failed:
        raise LotteryError(f"{file}: {failed} check{'s'[: failed > 1]} failed; do not trust this file")


@ticket.command()
def retrain(
    file: File,
    data: DataDir = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", metavar="PLACE", help="Keep it there, to continue it; a temporary folder if not given."
        ),
    ] = None,
    device: Device = "auto",
    deterministic: Annotated[bool, typer.Option("--deterministic", help="The same bytes again.")] = False,
    plugin: Plugins = None,
) -> None:
    """Train the ticket of a file again, from its own start, and compare with what its maker measured."""
    import tempfile

    from lottery.tickets.file import read
    from lottery.tickets.retrain import retrain as train_again

    plug_in(plugin)
    found = read(file)
    with tempfile.TemporaryDirectory() as temporary:
        compared = train_again(
            found,
            data_root(data),
            store or temporary,
            device=device,
            deterministic=deterministic,
            on_progress=_ProgressLine(),
        )
    if compared.identical:
        print("identical: the trained weights are those of the ticket's maker, to the bit")
    else:
        print("different: the trained weights are not those of the ticket's maker")
    if store is not None:
        print(f"kept as {short(compared.key)} in {store}, a key of the file's own that no study reads")
    for reading, name, there, here in compared.measures:
        if not name.startswith("train"):
            measured = f"{reading.replace('_', ' '):<11} {name.replace('_', ' '):<20}"
            print(f"  {measured} {there:>12.6g} there {here:>12.6g} here")
    for name, there, here in compared.environment:
        print(f"  {name:<32} {there} there, {here} here")


class _ProgressLine:
    """Printer of a line about a training every now and then."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        import time

        if (now := time.monotonic()) - self._last >= PROGRESS_EVERY:
            self._last = now
            print(f"step {progress.step}/{progress.total}", file=sys.stderr)
