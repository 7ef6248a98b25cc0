"""The studies that a store remembers: each recipe that was run, with its overrides, plugins and the keys of its jobs.

One document for each version of a study, `studies/<name>.<version>.json`. A run writes it whole when it has made its
plan, and again when the plan has become longer; nothing else writes there, and no result depends on it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from lottery.errors import DamagedFile, MachineError, UsageError
from lottery.files.read import MOST_JSON_BYTES
from lottery.plan.keys import digest
from lottery.recipe.schema import Recipe
from lottery.registry import suggest
from lottery.values import in_flow
from lottery.words import counted, short

if TYPE_CHECKING:
    from lottery.recipe.sweep import Sweep
    from lottery.store.store import Store

FOLDER = "studies"
AT_ONCE = 8  # documents that are read at the same time, as each waits for its place

_DOCUMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})\.([0-9a-f]{12})\.json")
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:@([0-9a-f]{1,12}))?")


@dataclass(frozen=True)
class RememberedStudy:
    """A study as it was run.

    Attributes:
        name: Name of the recipe.
        version: 12 digits of the hash of the recipe under its overrides, and of its plugins: tells two of a name apart.
        recipe: Text of the recipe file as it was run.
        source: Absolute path that it was read from, for people; empty where a program made it.
        overrides: The values of `--set`.
        plugins: Names of the modules that added entries.
        first_run: Begin of the first run (UTC).
        last_run: Begin of the last one (UTC).
        document: What the recipe says under its overrides: what differs between versions is read from it.
        jobs: Keys of the jobs of the last plan.
        former: Keys of jobs that earlier plans had, such as those with a plugin that was edited since.
    """

    name: str
    version: str
    recipe: str
    source: str
    overrides: tuple[str, ...]
    plugins: tuple[str, ...]
    first_run: datetime
    last_run: datetime
    document: Mapping[str, Any]
    jobs: tuple[str, ...] = ()
    former: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name with the version, as `find_study` takes it."""
        return f"{self.name}@{self.version}"

    @property
    def path(self) -> str:
        """The place of its document in the store."""
        return f"{FOLDER}/{self.name}.{self.version}.json"

    @property
    def how(self) -> str:
        """What stands beside the recipe: `--set seeds=3 --plugin mynet`, of each key the last value; empty for none."""
        last = {each.partition("=")[0]: each for each in self.overrides}
        given = [f"--set {each}" for each in last.values()] + [f"--plugin {each}" for each in self.plugins]
        return " ".join(given)

    @property
    def settings(self) -> dict[str, Any]:
        """What the recipe says, by keys such as `prune.levels`, and its plugins."""
        return {**dict(_flat(self.document)), "plugins": list(self.plugins)}


def remember(store: Store, asked: Sweep | Recipe, jobs: Iterable[str], plugins: Sequence[str] = ()) -> None:
    """Note what is run in a store, which goes on without that where it cannot be written to.

    Args:
        store: The store.
        asked: The recipe or sweep.
        jobs: The keys of the jobs of the plan, as far as it is known.
        plugins: Names of the modules that the run was given, beside those that the sweep came with.
    """
    study = _study_of(asked, plugins)
    keys = dict.fromkeys(jobs)
    with suppress(MachineError, UsageError):  # refused, or a file is in the way
        known = _read(store, study.path)
        if known is not None:
            study = replace(study, first_run=min(known.first_run, study.first_run))
            if not isinstance(asked, Recipe) and asked.chosen:
                keys = dict.fromkeys(known.jobs) | keys  # those of the other points are none that were given up
            former = tuple(key for key in dict.fromkeys((*known.former, *known.jobs)) if key not in keys)
            study = replace(study, former=former)
        save(store, replace(study, jobs=tuple(keys)))


def save(store: Store, study: RememberedStudy) -> None:
    """Write the document of a study. Raises MachineError."""
    store.place.write(study.path, _adapter().dump_json(study))


def forget(store: Store, study: RememberedStudy) -> None:
    """Remove the document of a study; its jobs stay. Raises MachineError."""
    store.place.remove(study.path)


def remembered(store: Store) -> list[RememberedStudy]:
    """Return all studies that were run in a store, the last run first; one that cannot be read is warned of."""
    return _all(store, store.place.names(FOLDER))


def bring(source: Store, target: Store) -> None:
    """Have a store remember the studies of another one, too; of a study that both know, the last run is believed.

    Raises:
        MachineError: The machine refuses to read or write.
    """
    for study in remembered(source):
        known = _read(target, study.path)
        if known is None:
            save(target, study)
            continue
        newer = max(known, study, key=lambda each: each.last_run)
        jobs = dict.fromkeys(key for each in (known, study) for key in (*each.jobs, *each.former))
        first = min(known.first_run, study.first_run)
        former = tuple(key for key in jobs if key not in set(newer.jobs))
        merged = replace(newer, first_run=first, former=former)
        if merged != known:
            save(target, merged)


def all_readable(store: Store) -> list[RememberedStudy]:
    """Return what `remembered` does.

    Raises:
        UsageError: A document cannot be read, so that nobody knows which jobs its study has.
    """
    names = [name for name in store.place.names(FOLDER) if _DOCUMENT.fullmatch(name)]
    found = _all(store, names)
    if lost := {f"{FOLDER}/{name}" for name in names} - {study.path for study in found}:
        place = store.place.spell(sorted(lost)[0])
        raise UsageError(f"{place}: cannot be read, and so nobody knows which jobs its study has; remove that file")
    return found


def find_study(store: Store, name: str) -> RememberedStudy:
    """Return the study of a name, or `name@version` with the first digits of the version.

    Of several versions of one name the last that was run is meant, if it has all jobs of the others, as after `seeds`
    or `levels` were raised.

    Raises:
        UsageError: There is none, or there are several; the message has the choices.
    """
    found = studies_named(store, name)
    if not found:
        raise UsageError(f"{name}: {none_named(store, name)}")
    apart = _not_outgrown(found)
    if len(apart) == 1:
        return apart[0]
    choices = "".join(f"\n  {each.full_name} ({told(each, apart)})" for each in apart)
    others = len(found) - len(apart)
    rest = (
        f"\n  and {counted(others, 'version')} with no other jobs than a later one (lottery studies)" if others else ""
    )
    raise UsageError(
        f"{name}: {counted(len(found), 'version')} of this study were run in {store.name}; name one:{choices}{rest}"
    )


def _not_outgrown(found: Sequence[RememberedStudy]) -> list[RememberedStudy]:
    """Return versions of a study, the last run first, without those whose jobs a later one has all of."""
    kept: list[RememberedStudy] = []
    for each in found:
        if not any(set(later.jobs) >= set(each.jobs) for later in kept):
            kept.append(each)
    return kept


def none_named(store: Store, name: str) -> str:
    """Return in words that no study of a store is called so, or that there is no store."""
    if not store.place.is_there():
        return f"no study of this name was run here, as there is no store in {store.name} yet"
    names = {study.name for study in remembered(store)}
    return f"no study of this name was run in {store.name}{suggest(name, names)} (lottery studies)"


def studies_named(store: Store, name: str) -> list[RememberedStudy]:
    """Return the versions of a study that `name` or `name@version` means, the last run first."""
    match = _NAMED.fullmatch(name)
    if match is None:
        return []
    wanted, version = match[1], match[2] or ""
    documents = ((each, _DOCUMENT.fullmatch(each)) for each in store.place.names(FOLDER))
    return _all(store, [each for each, of in documents if of and of[1] == wanted and of[2].startswith(version)])


def differences(one: RememberedStudy, other: RememberedStudy) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which two versions of a study differ, such as `prune.levels`, with both values.

    A key that one of them does not have is None there; `plugins` are among them.
    """
    left, right = one.settings, other.settings
    keys = dict.fromkeys((*left, *right))
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def told(study: RememberedStudy, versions: Sequence[RememberedStudy]) -> str:
    """Return in words what tells a study from other versions of it: its `--set`, and keys that differ."""
    differing = dict.fromkeys(key for each in versions if each != study for key in differences(study, each))
    shown = [f"{key}={in_flow(study.settings.get(key))}" for key in list(differing)[:4]]
    rest = [f"{len(differing) - 4} more keys"] if len(differing) > 4 else []
    ran = f"run {study.last_run:%Y-%m-%d %H:%M} UTC"
    return "; ".join(filter(None, (study.how, ran, ", ".join([*shown, *rest]))))


def _study_of(asked: Sweep | Recipe, plugins: Sequence[str]) -> RememberedStudy:
    """Return the study that is run now, without its jobs."""
    origin = None if isinstance(asked, Recipe) else asked.origin
    if isinstance(asked, Recipe):
        document: Mapping[str, Any] = asked.canonical()
    else:
        document = asked.document if asked.keys else asked.only.canonical()
    modules = tuple(dict.fromkeys((*(origin.plugins if origin else ()), *plugins)))
    now = datetime.now(UTC)
    return RememberedStudy(
        asked.name,
        short(digest([_without_empty({**document, "name": None}), sorted(modules)])),
        json.dumps(document, indent=1) if origin is None else origin.text,
        str(Path(origin.source).absolute()) if origin and origin.source else "",
        origin.overrides if origin else (),
        modules,
        now,
        now,
        document,
    )


def _all(store: Store, names: Sequence[str]) -> list[RememberedStudy]:
    """Return the studies of these documents, the last run first."""
    paths = [f"{FOLDER}/{name}" for name in names if _DOCUMENT.fullmatch(name)]
    if len(paths) > 1:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(lambda path: _read(store, path), paths))
    else:
        found = [_read(store, path) for path in paths]
    known = [study for study in found if study is not None]
    return sorted(known, key=lambda study: (study.last_run, study.full_name), reverse=True)


def _read(store: Store, path: str) -> RememberedStudy | None:
    """Return the study of a document; None where there is none, or it cannot be read, which is warned of."""
    try:
        data = store.place.read(path, MOST_JSON_BYTES)
    except DamagedFile:
        return None
    try:
        study = _adapter().validate_json(data)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"])
        logging.getLogger("lottery").warning(
            "%s: is not as it was written (%s); it is left out until the study is run again",
            store.place.spell(path),
            reason,
        )
        return None
    return study if study.path == path else None  # copied under another name by hand


@cache
def _adapter() -> TypeAdapter[RememberedStudy]:
    return TypeAdapter(RememberedStudy)


def _without_empty(value: Any) -> Any:
    """Return a plain value without keys that hold nothing, so that keys of a later version make no other study."""
    if isinstance(value, Mapping):
        inner = {key: _without_empty(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item not in (None, [], {})}
    return [_without_empty(item) for item in value] if isinstance(value, (list, tuple)) else value


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested mappings by their keys joined with dots; a list is one value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
