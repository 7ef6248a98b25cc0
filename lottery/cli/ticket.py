"""The commands `lottery ticket ...`: a ticket as a file of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli.options import DataDir, Plugins, StoreDir, plug_in
from lottery.errors import LotteryError, UsageError
from lottery.paths import data_root, store_root
from lottery.recipe.readings import READINGS
from lottery.words import short

if TYPE_CHECKING:
    from lottery.runner.execute import Progress
    from lottery.tickets.file import Ticket

ticket = typer.Typer(help="Tickets as files: export, show, verify, retrain.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A ticket file.")]
FORMS = ("ticket", "dense", "prune", "compact")
PROGRESS_EVERY = 30.0  # seconds between lines


@ticket.command()
def export(
    key: Annotated[str, typer.Argument(help="The key of a finished ticket, or its first digits.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to.")],
    form: Annotated[
        str, typer.Option("--form", help="ticket; or a network: dense (zeros), prune (torch.nn.utils.prune), compact.")
    ] = "ticket",
    weights: Annotated[str, typer.Option(help="Of a network: trained, or start (where training starts).")] = "trained",
    at: Annotated[
        str | None,
        typer.Option("--at", help="Trained weights at best_accuracy [where there is one], early_stop or end."),
    ] = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
) -> None:
    """Write a ticket into a file: all that retraining it needs, or its network in another form."""
    from lottery.files.write import write_atomic
    from lottery.store.store import Store

    plug_in(plugin)
    if form not in FORMS:
        raise UsageError(f"--form {form}: there are {', '.join(FORMS)}")
    if weights not in ("trained", "start"):
        raise UsageError(f"--weights {weights}: there are trained and start")
    reading = next((name for name in READINGS if name == at), None)
    if at is not None and reading is None:
        raise UsageError(f"--at {at}: there are {', '.join(READINGS)}")
    if at is not None and (form == "ticket" or weights == "start"):
        raise UsageError("--at: says which trained weights a network gets; leave it out, or write --form")
    kept, root = Store(store_root(store)), data_root(data)
    if form == "ticket":
        from lottery.tickets.export import export as content_of

        write_atomic(output, content_of(kept, key, root))
    else:
        from lottery.tickets.forms import export_network as network_of

        content, told = network_of(kept, key, root, form, at=reading, trained_weights=weights == "trained")
        write_atomic(output, content)
        for line in told:
            print(line)
    print(output)


@ticket.command()
def show(file: File, plugin: Plugins = None) -> None:
    """Say what is in a ticket file: the network, the mask, where it starts, what was measured, where it was trained."""
    from lottery.tickets.file import printable, read

    plug_in(plugin)
    for name, value in _about(read(file)):
        print(f"{name:<12} {printable(value)}")


def _about(found: Ticket) -> list[tuple[str, str]]:
    from lottery.analysis.labels import density_label
    from lottery.values import said

    recipe, evidence = found.recipe, found.evidence
    train = recipe.train
    rows = [
        ("key", found.key),
        ("model", f"{said(recipe.model)} on {said(recipe.data.component)}"),
        ("optimizer", f"{said(train.optimizer[0])}, {train.length}, batches of {train.batch_size}"),
        ("seed", str(found.training["seed"])),
        ("start", f"step {found.step}" + (f" ({found.mode})" if found.mode != "weights" else "")),
        ("density", f"{density_label(found.mask.density)}, {sum(found.mask.alive().values()):,} weights"),
    ]
    sizes = found.mask.sizes()
    rows += [("", f"{name:<24} {count:>10,} of {sizes[name]:,}") for name, count in found.mask.alive().items()]
    for name in ("ticket", "dense"):
        for reading in READINGS:
            row = evidence[name].get(reading)
            if row:
                measured = [k for k in ("test_accuracy", "test_r2") if k in row]
                scores = ", ".join(f"{k.replace('_', ' ')} {row[k]:.4f}" for k in measured)
                rows.append((name, f"{reading.replace('_', ' ')}: step {row['step']}, {scores}"))
    rows += [("made", evidence["created"])]
    rows += [("", f"{name:<24} {value}") for name, value in evidence["environment"].items() if name != "earlier"]
    return rows


@ticket.command()
def verify(
    file: File,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Compare with the data set, too, which lies there.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure the trained weights of the file again, on the test split.")
    ] = False,
    device: Annotated[str, typer.Option(help="For --again: auto, cpu or cuda.")] = "auto",
    plugin: Plugins = None,
) -> None:
    """Check a ticket file without training: say of each part whether it is ok, WRONG, or only said.

    Exit code 1 where something is WRONG.
    """
    from lottery.data.load import load
    from lottery.device import machine
    from lottery.tickets.checks import findings
    from lottery.tickets.file import printable, read
    from lottery.tickets.retrain import context_of_ticket

    plug_in(plugin)
    found, context = read(file), None
    print(f"ok     bytes: {file.stat().st_size:,}, as they were written")
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
        typer.Option("--store", metavar="PLACE", help="Keep it there, to continue it [temporary]."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
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
