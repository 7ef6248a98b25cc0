"""Index of the finished jobs of a store, whatever their seed; finds jobs that a recipe does not name.

Read from the identities that keys are hashes of. In a large store what was read is noted, and only jobs that came since
are read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile
from lottery.files.read import parse_json
from lottery.plan.keys import digest_of_json
from lottery.plan.kinds import IDENTITY_FILE
from lottery.store.notes import recall, remember
from lottery.words import short

if TYPE_CHECKING:
    from lottery.store.store import Store

NOTED, NAME = "identities", "index"
WORTH_A_NOTE = 500  # jobs read: fewer are read in less time than a person notices
HASH_DIGITS = 20  # enough to tell the jobs of one store apart
OF_THIS_JOB = ("parent", "partner", "sample")  # what the same job of another seed has otherwise


@dataclass(frozen=True)
class Kin:
    """A job and what it shares with the same job of other seeds: `own` hashes its identity without seed and parent.

    `pruned` hashes how a ticket is pruned, but for how much; `seed` is a dense network's, `branch` a control's.
    """

    kind: str
    parent: str | None
    own: str
    pruned: str = ""
    seed: int | None = None
    branch: str = ""


def kin_of(identity: Mapping[str, Any]) -> Kin | None:
    """Return what a job of this identity is; None for one that no table has, and for what no job of ours is."""
    kind, training = identity.get("kind"), identity.get("training")
    if kind == "dense" and isinstance(training, Mapping):
        shared = {name: value for name, value in training.items() if name != "seed"}
        return Kin(kind, None, _hash(shared), seed=training.get("seed"))
    if kind not in ("ticket", "branch") or not isinstance(identity.get("parent"), str):
        return None
    own = {name: value for name, value in identity.items() if name not in OF_THIS_JOB}
    prune = {k: v for k, v in identity.get("prune", {}).items() if k not in ("fraction", "times", "densities")}
    pruned = _hash({"prune": prune, "rewind": identity.get("rewind")}) if prune else ""
    branch = str(identity.get("branch", {}).get("name", ""))
    return Kin(str(kind), identity["parent"], _hash(own), pruned, branch=branch)


def _hash(value: Any) -> str:
    return digest_of_json(value)[:HASH_DIGITS]


@dataclass(frozen=True)
class Family:
    """The dense networks, tickets and controls of a store, by key."""

    jobs: Mapping[str, Kin]

    @cached_property
    def paths(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Return by key what a job is, from its dense network down, and its seed, unless a parent is not there."""
        found: dict[str, tuple[tuple[str, ...], int]] = {}
        for key in self.jobs:
            chain: list[str] = []
            at: str | None = key
            while at is not None and at not in found and at in self.jobs and at not in chain:
                chain.append(at)
                at = self.jobs[at].parent
            if at is not None and at not in found:
                continue  # it leads nowhere, or back to itself
            for each in reversed(chain):
                kin = self.jobs[each]
                if kin.parent is None:
                    found[each] = (kin.own,), int(kin.seed or 0)
                else:
                    above, seed = found[kin.parent]
                    found[each] = (*above, kin.own), seed
        return found


def family(store: Store, *, noted: bool = True) -> Family:
    """Return all dense networks, tickets and controls of a store whose keys are the hashes of their identities.

    With `noted` false all are read, whatever was noted of them.
    """
    known = _recalled(store) if noted else {}
    keys = list(store.keys())
    new = [key for key in keys if key not in known]
    store.expect(new)
    for key in new:
        known[key] = _read(store, key)
    if len(new) >= WORTH_A_NOTE:
        entries = {key: None if known[key] is None else list(vars(known[key]).values()) for key in keys}
        remember(store, NOTED, NAME, entries)
    return Family({key: kin for key in keys if (kin := known[key]) is not None})


def _read(store: Store, key: str) -> Kin | None:
    try:
        identity = parse_json(store.read_start(key, IDENTITY_FILE), f"{short(key)}: {IDENTITY_FILE}")
    except DamagedFile:
        return None
    return kin_of(identity) if isinstance(identity, dict) and digest_of_json(identity) == key else None


def _recalled(store: Store) -> dict[str, Kin | None]:
    """Return what was noted; nothing where the note is not one of this package."""
    found, known = recall(store, NOTED, NAME), dict[str, Kin | None]()
    for key, entry in found.items() if isinstance(found, dict) else ():
        try:
            known[key] = None if entry is None else Kin(*entry)
        except TypeError:
            return {}
    return known
