"""The order in which jobs are started: what the longest chain of others waits for comes first. No torch, no disk."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from heapq import heappop, heappush

Needs = Mapping[str, Sequence[str]]  # of each job, the jobs that have to end before it

BAD = ("diverged", "failed", "blocked")  # ends after which what needs the job cannot run


def ranks(needs: Needs, lengths: Mapping[str, float]) -> dict[str, int]:
    """The place of each job in the order of starting: 0 begins the longest chain of jobs that need one another.

    The length of a chain is the sum of its jobs' lengths; equal ones keep the order of `needs`. Needs outside `needs`
    count as done.
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
    return {key: place for place, key in enumerate(best_first)}


class Agenda:
    """The jobs that can be attended to now, best first: all they need has ended, or something did so badly.

    A pass over it costs what is ready, not what the plan has.
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
        """The ready jobs, best first, as they are at the start of the pass."""
        for _, key in tuple(self._ready):
            yield key

    def take(self, key: str) -> None:
        """Leave a job out of the passes to come."""
        if key in self._listed:
            self._listed.discard(key)
            del self._ready[bisect_left(self._ready, (self._rank[key], key))]

    def end(self, key: str, how: str) -> None:
        """Note that a job has ended; what was waiting for it may be ready now."""
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
    """When so many workers are through, and the most of them that were at work at once.

    Each takes the first ready job of the order, as soon as it is free. With `math.inf` workers the first figure is the
    longest chain, and as many workers as the second one reach it: more cannot make it shorter.
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
    """The number of workers beyond which another cannot make the jobs end sooner."""
    return makespan(needs, lengths, dict.fromkeys(needs, 0), math.inf)[1]
