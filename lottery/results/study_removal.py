"""Removal of studies: of their jobs those go that nothing else in the store needs; and other names for studies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lottery.errors import DamagedFile, UsageError
from lottery.plan.keys import digest
from lottery.plan.kinds import IDENTITY_FILE, Kind
from lottery.results.studies import RememberedStudy, all_readable, forget, none_named, save, studies_named
from lottery.store.maintenance import failed_jobs
from lottery.words import counted, short

if TYPE_CHECKING:
    from lottery.store.store import Store

_KEYS = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Removal:
    """What goes with studies.

    Attributes:
        studies: The studies.
        finished: Keys of their finished jobs that go, each before those that it was computed from.
        unfinished: Keys of jobs of which checkpoints or a note of a failure go.
        size: Bytes that are freed.
        shared: Number of finished jobs that stay, as other studies have them too.
        built_on: Number of finished jobs that stay, as jobs of no study were computed from them.
    """

    studies: tuple[RememberedStudy, ...]
    finished: tuple[str, ...]
    unfinished: tuple[str, ...]
    size: int
    shared: int
    built_on: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "studies": [study.full_name for study in self.studies],
            "finished": list(self.finished),
            "unfinished": list(self.unfinished),
            "bytes": self.size,
            "shared": self.shared,
            "built_on": self.built_on,
        }


def removal_of(store: Store, studies: Sequence[RememberedStudy]) -> Removal:
    """Return what can go with studies of a store; nothing is changed.

    Jobs that other remembered studies have stay, and those that jobs of no remembered study were computed from.

    Raises:
        UsageError: A process works on one of their jobs, or what another study has cannot be read.
    """
    going = {study.full_name for study in studies}
    others = [study for study in all_readable(store) if study.full_name not in going]
    every = {key: None for study in studies for key in (*study.former, *study.jobs)}
    _refuse_running(store, every)
    needed = {key for study in others for key in (*study.jobs, *study.former)}
    done = set(store.keys())
    own = {key for key in every if key in done and key not in needed}
    built_on = _built_on(store, done - needed - every.keys(), own)
    goes = [key for key in reversed(every) if key in own - built_on]
    begun = {*store.checkpoints.jobs(), *failed_jobs(store)}
    unfinished = [key for key in every if key in begun and key not in needed and key not in done]
    paths = [*(f"jobs/{key[:2]}/{key}" for key in goes), *(f"partial/{key}" for key in unfinished)]
    size = sum(store.place.measure(path)[1] for path in paths)
    shared = sum(key in done and key in needed for key in every)
    return Removal(tuple(studies), tuple(goes), tuple(unfinished), size, shared, len(built_on))


def remove(store: Store, removal: Removal, tell: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Remove what `removal_of` found, the studies last: where this is cut off, doing it again does the rest.

    Args:
        store: The store.
        removal: What goes.
        tell: Is told the number of jobs that are gone, and of all.

    Raises:
        UsageError: A process has begun to work on one of the jobs.
        MachineError: The machine refuses to write.
    """
    keys = (*removal.finished, *removal.unfinished)
    for number, key in enumerate(keys, start=1):
        with store.lease(key) as mine:
            if not mine:
                _refuse_running(store, [key])
            if key in removal.finished:
                store.place.retire(f"jobs/{key[:2]}/{key}")
            store.drop_checkpoints(key)
            store.clear_failure(key)
        tell(number, len(keys))
    for study in removal.studies:
        forget(store, study)


def rename(store: Store, old: str, new: str) -> list[RememberedStudy]:
    """Give the versions that `old` means, `name` or `name@version`, another name, and return them.

    Raises:
        UsageError: There is no such study, the new name is none, or another study has it.
    """
    from pydantic import TypeAdapter, ValidationError

    from lottery.recipe.types import Label

    try:
        TypeAdapter(Label).validate_python(new)
    except ValidationError:
        raise UsageError(
            f"{new!r}: is no name of a study; a name has up to 64 letters, digits, '.', '_' and '-', no spaces, and "
            "begins with a letter or a digit"
        ) from None
    found = studies_named(store, old)
    if not found:
        raise UsageError(f"{old}: {none_named(store, old)}")
    if taken := studies_named(store, new):
        raise UsageError(f"{new}: is the name of another study, {taken[0].full_name}; choose another one")
    renamed = []
    for study in found:
        overrides = (*(each for each in study.overrides if not each.startswith("name=")), f"name={new}")
        renamed.append(replace(study, name=new, overrides=overrides, document={**study.document, "name": new}))
        save(store, renamed[-1])
        forget(store, study)
    return renamed


def _refuse_running(store: Store, keys: Collection[str]) -> None:
    """Raise UsageError if a process works on one of the jobs."""
    held = store.leases.held()
    working = {key: held[key] for key in keys if key in held}
    if working:
        key, holder = next(iter(working.items()))
        more = f", and {counted(len(working) - 1, 'more job')}" if len(working) > 1 else ""
        raise UsageError(f"{short(key)}: {holder} works on this job{more}; stop the run, or wait until it has ended")


def _built_on(store: Store, strangers: Iterable[str], candidates: Collection[str]) -> set[str]:
    """Return the candidates that jobs of no study were computed from, their parents and the states they go back to."""
    kept, left, trainings = set[str](), list(strangers), set[str]()
    while left:
        identity = _identity(store, left.pop())
        named = {key for key in _KEYS.findall(json.dumps(identity)) if key in candidates} - kept
        kept |= named
        left += named
        if "training" in identity:
            trainings.add(digest(identity["training"]))
    for key in set(candidates) - kept:
        manifest = store.find(key)
        point = trainings and manifest is not None and manifest.kind == Kind.REWIND
        if point and digest(_identity(store, key).get("training")) in trainings:
            kept.add(key)
    return kept


def _identity(store: Store, key: str) -> dict[str, Any]:
    """Return the identity of a finished job; an empty one where it is damaged."""
    with suppress(DamagedFile):
        found = store.read_json(key, IDENTITY_FILE)
        if isinstance(found, dict):
            return found
    return {}
