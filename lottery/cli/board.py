"""The command `lottery board`: a page in the browser that shows what runs in a store and what came out."""

from __future__ import annotations

import importlib.util
import sys
from typing import Annotated

import typer

from lottery.cli.options import Plugins, StoreDir
from lottery.errors import UsageError
from lottery.paths import store_root

PACKAGES = ("starlette", "uvicorn", "sse_starlette")
HOST, PORT = "127.0.0.1", 8340


def board(
    where: Annotated[
        str | None,
        typer.Argument(metavar="[STORE]", help="A folder or s3://BUCKET/PREFIX [$LOTTERY_STORE, else runs]."),
    ] = None,
    store: StoreDir = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")] = PORT,
    host: Annotated[
        str, typer.Option(help="The address to listen at; others than this one show the board to the network.")
    ] = HOST,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    plugin: Plugins = None,
) -> None:
    """Show a store in the browser: studies, what runs with its curves, tables, verdicts, figures, failures.

    It reads only, and shows on this machine only, to who has the address that it prints. Ctrl-C ends it. --plugin names
    those of the studies' plugins that may be imported for their tables; without it none is.
    """
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise UsageError('lottery board: needs starlette, uvicorn and sse-starlette: pip install "lottery[board]"')
    if where is not None and store is not None:
        raise UsageError(f"lottery board {where} --store {store}: two stores; name one")
    from lottery.board.serve import has_screen, serve
    from lottery.store.place import open_place
    from lottery.store.read_only import read_only_store

    place = open_place(store_root(where or store))
    if not place.is_there():
        print(f"{place.name}: there is no store yet; the board shows it when a run makes it", file=sys.stderr)
    if host not in (HOST, "localhost", "::1"):
        print(
            f"--host {host}: whoever can read this network can read the address with the token; over ssh it needs no "
            f"--host: ssh -L {port or PORT}:127.0.0.1:{port or PORT} THIS-MACHINE",
            file=sys.stderr,
        )
    serve(
        read_only_store(place),
        plugin or (),
        host=host,
        port=port,
        opens=not no_open and has_screen(),
        tell=lambda url: print(f"{url}\nCtrl-C ends the board.", flush=True),
    )
