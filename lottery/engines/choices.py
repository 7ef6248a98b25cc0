"""The engines that `auto` has found to be the fastest, the same for all trainings of a kind on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lottery.errors import MachineError
from lottery.files import for_a_week
from lottery.files.read import names_in
from lottery.plan.keys import digest

if TYPE_CHECKING:
    from lottery.engines.compiled.ahead import Ahead

Candidate = Literal["onednn", "sparse", "background"]
COMPILED_FOR = 20_000  # steps of one training for which it waits until what it needs is compiled
# None is the dense engine; what each step costs falls the more with the density the later it stands here
BY_DENSITY: tuple[Candidate | None, ...] = (None, "onednn", "background", "sparse")
DENSE = "dense"


@dataclass(frozen=True)
class Measured:
    """The engine that was the fastest of some at a density; of one alone, the others were ruled out."""

    density: float
    fastest: Candidate | None
    among: frozenset[Candidate | None]

    def rules_out(self, name: Candidate | None, density: float) -> bool:
        """Return True if an engine that was slower then is slower at this density, too.

        It is at a lower one if its cost falls less with the density than that of the fastest, at a higher one if its
        cost falls more.
        """
        later = BY_DENSITY.index(name) - BY_DENSITY.index(self.fastest)
        slower_here = (later < 0 and density <= self.density) or (later > 0 and density >= self.density)
        return name in self.among and slower_here


class Choices:
    """The engines that `auto` has taken, by kind of training and density: what is chosen once is taken from then on.

    Args:
        folder: Where they are kept, so that the other processes and the next runs on this machine take the same; None
            for this process alone.

    Attributes:
        steps: Number of steps that the run has to train in each process; None where nobody has counted them yet.
    """

    def __init__(self, steps: int | None = None, folder: Path | None = None):
        self.steps, self._folder = steps, folder
        self._here: dict[str, list[Measured]] = {}
        self._ahead: Ahead | None = None

    def fastest(
        self,
        kind: Mapping[str, Any],
        density: float,
        names: Sequence[Candidate | None],
        measure: Callable[[Sequence[Candidate | None]], Candidate | None],
    ) -> Candidate | None:
        """Return the engine to take of `names`: that of the trainings before at about the same density.

        Where there are none, only those are measured that are not known to be slower than another.

        Args:
            kind: What beside the density tells how fast the engines are, in plain values.
            density: Density of the network.
            names: The engines that can be had now.
            measure: Returns the fastest of some.
        """
        if len(names) == 1:
            return names[0]
        name = digest(kind)
        before = self._known(name)
        can_be = [one for one in before if one.fastest in names]
        left = [each for each in names if not any(one.rules_out(each, density) for one in can_be)]
        alike = [one for one in can_be if _half_octave(one.density) == _half_octave(density)]
        for one in sorted(alike, key=lambda one: (-len(one.among), sorted(map(str, one.among)))):
            if one.among >= set(left):
                if one not in self._here.setdefault(name, []):
                    self._here[name].append(one)  # a run takes it to its end, even if a week is over before
                return one.fastest
        found = measure(left) if len(left) > 1 else (left or names)[0]  # of one, nothing has to be measured
        return self._keep(name, Measured(density, found, frozenset(left or names[:1]))).fastest

    def ready(self, names: Sequence[Candidate], steps: int, threads: int) -> tuple[list[Candidate], int]:
        """Return the engines that need not be waited for, and the number of threads that a training has.

        Their kernels are kept, or the training is long enough to wait for them. Where they are not, they are compiled
        beside the trainings from now on, with one of their threads: with all of them busy it would take as long as the
        run.

        Raises:
            MachineError: They cannot be compiled here.
        """
        if steps >= COMPILED_FOR or all(name == "onednn" for name in names):
            return list(names), threads
        try:
            from lottery.engines.compiled import ahead
        except (ImportError, RuntimeError, OSError) as error:
            raise not_compiled(error) from error

        def is_kept(name: Candidate, threads: int) -> bool:
            return name == "onednn" or ahead.is_kept(name, threads)

        self._ahead = self._ahead or ahead.Ahead()
        if not all(is_kept(name, threads) for name in names):
            self._ahead.start(threads)
        if self._ahead.compiling and threads > 1:
            threads -= 1
        return [name for name in names if is_kept(name, threads)], threads

    def _known(self, kind: str) -> list[Measured]:
        """Return what is known of a kind from this process and, where it is kept, from others."""
        found = list(self._here.get(kind, ()))
        if self._folder is not None:
            with suppress(MachineError):
                paths = [self._folder / kind / name for name in names_in(self._folder / kind)]
                kept = (_read(for_a_week.recall(path)) for path in paths if path.suffix == ".json")
                found += [one for one in kept if one is not None and one not in found]
        return found

    def _keep(self, kind: str, measured: Measured) -> Measured:
        """Keep an engine, and return what is kept at this place: that of another process if it was faster."""
        if self._folder is not None:
            among = sorted(name or DENSE for name in measured.among)
            path = self._folder / kind / f"{_half_octave(measured.density):g}-{'-'.join(among)}.json"
            values = {"density": measured.density, "fastest": measured.fastest or DENSE, "among": among}
            if (kept := _read(for_a_week.keep_first(path, values))) is None:
                for_a_week.keep(path, values)  # what was there is no choice
            measured = kept or measured
        self._here.setdefault(kind, []).append(measured)
        return measured


def not_compiled(error: Exception) -> MachineError:
    """Return the error of a machine on which nothing can be compiled."""
    return MachineError(
        f"train.engine: numba cannot work here: {error}; name a folder it may write to as NUMBA_CACHE_DIR"
    )


def _read(values: Mapping[str, Any] | None) -> Measured | None:
    """Return what was kept; None for what is no such thing."""
    with suppress(KeyError, TypeError, ValueError):
        if values is not None:
            among = frozenset(_candidate(name) for name in values["among"])
            found = Measured(float(values["density"]), _candidate(values["fastest"]), among)
            if 0 <= found.density <= 1 and found.fastest in among:
                return found
    return None


def _candidate(name: str) -> Candidate | None:
    """Return the engine of a name in what is kept. Raises ValueError for another name."""
    if name != DENSE and name not in get_args(Candidate):
        raise ValueError(name)
    return None if name == DENSE else name  # type: ignore[return-value]


def _half_octave(density: float) -> float:
    """Return the same number for about the same density, another one for that of the dense network."""
    return -1 if density == 1 else round(-2 * math.log2(density)) if density else math.inf
