"""The command `lottery ticket export`: a ticket by its key or by its place in a study, as a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottery.cli.options import DataDir, Plugins, Points, Sets, StoreDir, Trust, load_points, plug_in
from lottery.errors import UsageError
from lottery.paths import data_root, store_root
from lottery.recipe.readings import READINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lottery.recipe.sweep import Sweep
    from lottery.store.store import Store

FORMS = ("ticket", "dense", "prune", "compact", "onnx")


def export(
    named: Annotated[
        str,
        typer.Argument(
            metavar="KEY|STUDY",
            help="A finished ticket's key or its first digits; or a study, of which options name one.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to.")],
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", metavar="NAME", help="Of a study: adam, or as its tables have it.")
    ] = None,
    level: Annotated[
        int | None, typer.Option("--level", metavar="N", help="Of a study: 1 for the first ticket.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Of a study.")] = None,
    rewind: Annotated[
        str | None, typer.Option("--rewind", metavar="POINT", help="Of a study: init, 500it, or as its tables have it.")
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--form", help="ticket; or a network: dense (zeros), prune (torch.nn.utils.prune), compact, onnx."
        ),
    ] = "ticket",
    weights: Annotated[str, typer.Option(help="Of a network: trained, or start (where training starts).")] = "trained",
    at: Annotated[
        str | None,
        typer.Option("--at", help="Trained weights at best_accuracy (if it was measured), early_stop or end."),
    ] = None,
    sets: Sets = None,
    point: Points = None,
    data: DataDir = None,
    store: StoreDir = None,
    plugin: Plugins = None,
    trust: Trust = False,
) -> None:
    """Write a ticket into a file: all that retraining it needs, or its network in another form.

    Where the options leave several tickets of a study, the choices are listed.
    """
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
    wanted = {"optimizer": optimizer, "rewind": rewind, "level": level, "seed": seed}
    options = any(value is not None for value in wanted.values()) or sets or point
    key = named
    if options or not _is_key(named, kept):
        sweep = load_points(named, sets, plugin, point, kept, trust)
        key = _find(sweep, wanted, kept, data)
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


def _is_key(named: str, store: Store) -> bool:
    """Return True for a word that can be the first digits of a key, and names no recipe and no study."""
    from lottery.results.named_recipe import is_file
    from lottery.results.studies import studies_named

    digits = re.fullmatch(r"[0-9a-f]{1,64}", named) is not None
    return digits and not is_file(named) and not studies_named(store, named)


def _find(sweep: Sweep, wanted: Mapping[str, str | int | None], store: Store, data: Path | None) -> str:
    """Return the key of the ticket of a study that is meant, and say what it is."""
    import sys

    from lottery.results.sweep import swept_study
    from lottery.tickets.choose import find_ticket
    from lottery.words import short

    assert sweep.only is not None  # before anything is read
    (study,) = swept_study(sweep, store=store, data=data).studies
    key = find_ticket(study, wanted)
    print(f"{short(key)}: {study.plan.jobs[key].label}", file=sys.stderr)
    return key
