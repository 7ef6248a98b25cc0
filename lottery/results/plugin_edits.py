"""Results that another source of a plugin gave: the same jobs but for its hash, which are not those of this plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lottery import registry
from lottery.errors import LotteryError, MachineError
from lottery.plan.keys import digest, is_code, sources_in
from lottery.plan.kinds import IDENTITY_FILE
from lottery.store.manifest import KEY
from lottery.words import short

if TYPE_CHECKING:
    from lottery.plan.jobs import Plan
    from lottery.store.store import Store

Bare = tuple[str, frozenset[str]]  # hash of an identity without the sources in it, and these


def other_sources(plan: Plan, store: Store) -> list[str]:
    """Return a sentence if finished jobs differ from missing ones of the plan only in the source of a plugin.

    It says how many there are and what to do. Else the list is empty.
    """
    plugins = registry.plugins()
    if not plugins:
        return []
    reader = _Reader(plan, store)
    missing = {}
    for job in plan:
        bare, codes = reader.bare(job.key)
        if codes and store.find(job.key) is None:
            missing[bare] = (job, codes)
    if not missing:
        return []
    kinds = {job.kind for job, _ in missing.values()}
    edited, there, keys = set[str](), set[str](), list[str]()
    for manifest in store.manifests():
        if manifest.kind not in kinds or manifest.key in plan.jobs:
            continue
        bare, codes = reader.bare(manifest.key)
        if bare in missing:
            keys.append(manifest.key)
            edited |= missing[bare][1] - codes
            there |= codes - missing[bare][1]
    if not keys:
        return []
    names = sorted(module for module, code in plugins.items() if code in edited)
    now = ", ".join(f"{name} (now {plugins[name]})" for name in names)
    then = f"of the source {' or '.join(sorted(there))}" if there else "of a source that was not recorded"
    one = len(keys) == 1
    return [
        f"plugin {now}: {len(keys)} finished job{'' if one else 's'} {'is' if one else 'are'} {then}, and what is "
        "missing here differs from them in nothing else; put back the files to use them, or run the recipe for results "
        f"of the new source (the old stay: lottery show {short(keys[0])})"
    ]


@dataclass
class _Reader:
    """Identities of the plan and of the store, read as far as they are asked for, once each."""

    plan: Plan
    store: Store
    _known: dict[str, Bare] = field(default_factory=dict)

    def bare(self, key: str) -> Bare:
        """Return the hash of a job's identity without sources of plugins, and these.

        They are left out of the identities of the jobs that it names as well.
        """
        if key not in self._known:
            self._known[key] = (key, frozenset())  # until it is known: no job names itself
            identity = self.plan.jobs[key].identity if key in self.plan.jobs else self._read(key)
            if identity is not None:
                codes = set(sources_in(identity))
                bare = digest(self._without(identity, codes))
                self._known[key] = (bare, frozenset(codes))
        return self._known[key]

    def _without(self, value: Any, codes: set[str]) -> Any:
        if isinstance(value, Mapping):
            return {name: self._without(item, codes) for name, item in value.items() if not is_code(name)}
        if isinstance(value, (list, tuple)):
            return [self._without(item, codes) for item in value]
        if isinstance(value, str) and KEY.fullmatch(value):  # a job, or the fingerprint of data
            bare, theirs = self.bare(value)
            codes |= theirs
            return bare
        return value

    def _read(self, key: str) -> Any:
        if self.store.find(key) is None:
            return None
        try:
            return self.store.read_json(key, IDENTITY_FILE)
        except MachineError:
            raise
        except LotteryError:  # damaged, and put aside
            return None
