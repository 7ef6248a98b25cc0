"""The command `lottery gc`: what of a store can go."""

from __future__ import annotations

from typing import Annotated

import typer

from lottery.cli.listing import print_json
from lottery.cli.options import Json, StoreDir, no_store
from lottery.paths import store_root


def gc(
    store: StoreDir = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove them; without this they are only listed.")] = False,
    as_json: Json = False,
) -> None:
    """List what can go (leftovers of killed processes, checkpoints of finished jobs, quarantine); never results."""
    from lottery.store.maintenance import collect, find_garbage
    from lottery.store.store import Store

    kept = Store(store_root(store))
    items = find_garbage(kept)
    if delete:
        collect(kept, items)
    if as_json:
        print_json([{"path": str(path), "bytes": size, "reason": reason} for path, size, reason in items])
        return
    for path, size, reason in items:
        print(f"{size:>12,}  {path}  ({reason})")
    if absent := no_store(kept):
        print(absent)
        return
    if not items:
        print("nothing can go")
        return
    total = sum(size for _, size, _ in items) / 1e6
    print(f"{total:,.1f} MB {'removed' if delete else 'can go; --delete removes them'}")
