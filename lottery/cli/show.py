"""The command `lottery show`: a finished job, or why one failed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lottery.cli import terminal
from lottery.cli.listing import in_words, print_json
from lottery.cli.options import Json, StoreDir, no_store
from lottery.errors import UsageError
from lottery.paths import store_root
from lottery.plan.kinds import IDENTITY_FILE, METRICS_FILE
from lottery.recipe.readings import READINGS

if TYPE_CHECKING:
    from lottery.store.store import Store


def show(
    key: Annotated[str, typer.Argument(help="A job's key, or its first digits.")],
    store: StoreDir = None,
    as_json: Json = False,
) -> None:
    """Show one job: what it is, how it ended, what was measured, where it ran; of one that failed the traceback."""
    from lottery.store.store import Store

    kept = Store(store_root(store))
    if absent := no_store(kept):
        raise UsageError(absent)
    full = _resolved(kept, key)
    manifest = kept.find(full)
    if manifest is None:
        _show_failure(kept, full, as_json)
        return
    metrics = kept.read_json(full, METRICS_FILE) if METRICS_FILE in manifest.files else {}
    about = {**manifest.as_dict(), "identity": kept.read_json(full, IDENTITY_FILE), "metrics": metrics}
    if as_json:
        print_json(about)
        return
    for name in ("key", "label", "kind", "status", "parent", "created", "seconds"):
        if about[name] is not None:
            print(f"{name:<12} {round(about[name], 1) if name == 'seconds' else about[name]}")
    for name in ("environment", "files"):
        print(name)
        for item, value in about[name].items():
            print(f"  {item:<22} {value['size']} bytes" if name == "files" else f"  {item:<22} {value}")
    for name in ("density", *READINGS, "diverged", "lr", "edge"):
        if metrics.get(name) is not None:
            terminal.say(f"{name:<12} {in_words(metrics[name])}", indent=13)
    for trial in metrics.get("trials", []):
        terminal.say(f"{'trial':<12} {in_words(trial)}", indent=13)
    print("identity")
    print(json.dumps(about["identity"], indent=2))


def _resolved(kept: Store, prefix: str) -> str:
    """Return the key of the one finished job whose key starts so; if there is none, of the one that failed.

    Raises:
        UsageError: There is none, or there are several.
    """
    from lottery.store.maintenance import failed_jobs
    from lottery.store.store import SHORTEST_PREFIX

    try:
        return kept.resolve(prefix)
    except UsageError:
        failed = [key for key in failed_jobs(kept) if len(prefix) >= SHORTEST_PREFIX and key.startswith(prefix)]
        if len(failed) != 1:
            raise
        return failed[0]


def _show_failure(kept: Store, key: str, as_json: bool) -> None:
    """Print what is noted of a job that failed."""
    failure = kept.failure(key)
    if failure is None:
        raise UsageError(f"{key}: this job was damaged and has been put aside; run its recipe again")
    message, _, log = str(failure["message"]).partition("\n")
    about: dict[str, Any] = {"key": key, "label": failure["label"], "status": "failed", "message": message}
    if as_json:
        print_json(about | {"time": failure["time"], "traceback": log})
        return
    about |= {"when": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(failure["time"]))}
    for name, value in about.items():
        terminal.say(f"{name:<12} {value}", indent=13)
    print(log.rstrip("\n"))
