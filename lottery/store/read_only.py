"""A store that is only looked at: nothing in it is written, moved or claimed, whatever is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lottery.errors import MachineError
from lottery.store.folder import Folder
from lottery.store.leases import Leases, Mark
from lottery.store.place import Leases as AnyLeases
from lottery.store.place import Place, open_place
from lottery.store.store import Store

READS = {
    *("name", "spell", "keys", "expect", "identity", "finished", "manifest", "manifest_bytes", "verified", "verify"),
    *("is_there", "start", "names", "read", "exists", "sizes", "tail", "free_bytes", "leftovers", "measure"),
}
REFUSED = {"draft", "retire", "write", "append", "remove", "discard"}


def read_only_store(where: Place | str | Path) -> Store:
    """Return the store at a place, of which nothing can be changed through this object.

    A damaged job is not found, as in any store, and stays where it is.
    """
    return Store(read_only(open_place(where) if isinstance(where, (str, Path)) else where))


def read_only(place: Place) -> Place:
    """Return the place without its ways to write; they raise MachineError, as on a disk that may only be read."""
    return cast(Place, _ReadOnly(place))


class _ReadOnly:
    """A place of which only READS can be called; what `Place` may have in future is refused until it is named here."""

    def __init__(self, place: Place):
        self._place = place
        self.leases = _LookedAt(WatchedLeases(place.root / "leases") if isinstance(place, Folder) else place.leases)

    def put_aside(self, path: str, name: str, judged: str) -> bool:
        """Leave a damaged group where it is."""
        return False

    def __getattr__(self, name: str) -> Any:
        if name in READS:
            return getattr(self._place, name)
        if name in REFUSED:
            return self._refuse
        raise AttributeError(name)

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise MachineError(f"{self._place.name}: is only looked at here, nothing is written")


class _LookedAt:
    """Leases of which none can be had."""

    def __init__(self, leases: AnyLeases):
        self.holder, self.held = leases.holder, leases.held

    @contextmanager
    def hold(self, key: str, duration: float | None) -> Iterator[bool]:
        """Yield False: as if another process had it."""
        yield False


class WatchedLeases(Leases):
    """Leases whose age is told without writing a file, which would ask for the time of the file system.

    A lease is as old as the clock of this machine says until its heartbeat has been seen; from then on it is as old as
    the time since the last one that was seen, so that clocks of other machines decide nothing.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self._seen: dict[int, tuple[Mark, float, bool]] = {}  # by inode: its state, since when, and if it has beaten

    def held(self) -> dict[str, str]:
        """Return the holder of every living lease, by key."""
        found = super().held()
        if len(self._seen) > 2 * len(found) + 1000:
            self._seen.clear()  # of leases that are gone
        return found

    def _age(self, mark: Mark) -> float:
        now = time.monotonic()
        last, since, beats = self._seen.get(mark[0], (mark, now, False))
        if last != mark:
            since, beats = now, True
        self._seen[mark[0]] = mark, since, beats
        unchanged = now - since
        return unchanged if beats else max(unchanged, time.time() - mark[1] / 1e9)
