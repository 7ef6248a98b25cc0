"""The order in which jobs are started: the one that the longest chain of others waits for comes first.

No torch, no disk.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush

Needs = Mapping[str, Sequence[str]]  # by job, the jobs that have to end before it

BAD = ("diverged", "failed", "blocked")  # ends after which what needs the job cannot run


def ranks(needs: Needs, lengths: Mapping[str, float]) -> dict[str, int]:
    """Return the rank of each job in the order of starting; 0 begins the longest chain of jobs that need one another.

    The length of a chain is the sum of its jobs' lengths. Chains of equal length keep the order of `needs`. A need that
    is no job of `needs` counts as done.
    """
    waiting: dict[str, list[str]] = {key: [] for key in needs}
    for key, above in needs.items():
        for need in above:
            if need in waiting:
                waiting[need].append(key)
    chains: dict[str, float] = {}
    for key in TopologicalSorter(waiting).static_order():  # what waits comes before what it waits for
        chains[key] = lengths[key] + max((chains[each] for each in waiting[key]), default=0.0)
    best_first = sorted(needs, key=lambda key: -chains[key])
    return {key: rank for rank, key in enumerate(best_first)}


class Agenda:
    """The ready jobs, best first: all that they need has ended, or one of their needs has ended badly.

    A pass over it takes time in proportion to the ready jobs, not to those of the plan.
    """

    def __init__(self, needs: Needs, rank: Mapping[str, int], ended: Mapping[str, str]):
        self._rank = rank
        self._waiting: dict[str, list[str]] = {}
        self._left: dict[str, int] = {}
        self._ready: list[tuple[int, str]] = []
        self._listed: set[str] = set()
        for key, above in needs.items():
            if key in ended:
                continue
            left = [need for need in dict.fromkeys(above) if need not in ended]
            for need in left:
                self._waiting.setdefault(need, []).append(key)
            self._left[key] = len(left)
            if not left or any(ended.get(need) in BAD for need in above):
                self._list(key)

    def __iter__(self) -> Iterator[str]:
        """Yield the ready jobs, best first, as they are at the start of the pass."""
        for _, key in tuple(self._ready):
            yield key

    def take(self, key: str) -> None:
        """Leave a job out of later passes."""
        if key in self._listed:
            self._listed.discard(key)
            del self._ready[bisect_left(self._ready, (self._rank[key], key))]

    def end(self, key: str, how: str) -> None:
        """Note how a job has ended; jobs that were waiting for it may be ready now."""
        self.take(key)
        self._left.pop(key, None)
        for each in self._waiting.pop(key, ()):
            if each in self._left:
                self._left[each] -= 1
                if each not in self._listed and (how in BAD or not self._left[each]):
                    self._list(each)

    def _list(self, key: str) -> None:
        self._listed.add(key)
        insort(self._ready, (self._rank[key], key))


def makespan(needs: Needs, lengths: Mapping[str, float], rank: Mapping[str, int], workers: float) -> tuple[float, int]:
    """Return the time at which the last job ends, and the largest number of workers busy at once.

    Each worker takes the first ready job of the order as soon as it is free (list scheduling, Graham 1966). With
    `math.inf` workers the time is the length of the longest chain, and as many workers as the second figure says reach
    it: more cannot end sooner.

    Args:
        needs: by job, the jobs that have to end before it.
        lengths: duration of each job, in any unit; the time returned is in the same.
        rank: order of starting, see `ranks`.
        workers: their number, or `math.inf`.
    """
    agenda, now, most = Agenda(needs, rank, {}), 0.0, 0
    running: list[tuple[float, int, str]] = []
    while True:
        for key in agenda:
            if len(running) >= workers:
                break
            agenda.take(key)
            heappush(running, (now + lengths[key], rank[key], key))
        most = max(most, len(running))
        if not running:
            return now, most
        now, _, key = heappop(running)
        agenda.end(key, "done")


def width(needs: Needs, lengths: Mapping[str, float]) -> int:
    """Return the number of workers beyond which another one cannot make the jobs end sooner."""
    return makespan(needs, lengths, dict.fromkeys(needs, 0), math.inf)[1]
