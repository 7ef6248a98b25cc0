"""Which optimizers, columns and levels of a study a figure shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lottery.analysis.cells import densities
from lottery.analysis.labels import optimizer_labels
from lottery.errors import UsageError
from lottery.figures.colors import column_names

if TYPE_CHECKING:
    from lottery.results.study import Study

DIGITS = 3  # of a density, as the axes tell it


@dataclass(frozen=True)
class Selection:
    """What is asked for; nothing asked for is all there is.

    Attributes:
        optimizers: Names or labels of optimizers; a name stands for all that have it.
        columns: The ticket and controls.
        levels: Levels; 0 is the dense network.
        densities: Densities in percent, to as many digits as the axes have.
    """

    optimizers: Sequence[str] = ()
    columns: Sequence[str] = ()
    levels: Sequence[int] = ()
    densities: Sequence[float] = ()

    def optimizers_of(self, studies: Iterable[Study]) -> list[str]:
        """Return the labels of the optimizers that are shown, in the order of the recipes.

        Raises:
            UsageError: There is no such optimizer.
        """
        known = {
            label: optimizer.name
            for study in studies
            for label, optimizer in zip(
                optimizer_labels(study.recipe.train.optimizer), study.recipe.train.optimizer, strict=True
            )
        }
        for name in self.optimizers:
            if name not in known and name not in known.values():
                raise _unknown("optimizers", name, list(dict.fromkeys([*known.values(), *known])))
        wanted = self.optimizers or list(known)
        return [label for label, name in known.items() if label in wanted or name in wanted]

    def columns_of(self, studies: Iterable[Study], default: Sequence[str] = ()) -> list[str]:
        """Return the columns that are shown, in the order of the recipes.

        Args:
            studies: The studies.
            default: What is shown where nothing is asked for; all columns where it is empty.

        Raises:
            UsageError: There is no such column.
        """
        known = list(dict.fromkeys(name for study in studies for name in column_names(study.recipe)))
        for name in self.columns:
            if name not in known:
                raise _unknown("columns", name, known)
        wanted = self.columns or default or known
        return [name for name in known if name in wanted]

    def levels_of(self, studies: Sequence[Study]) -> list[set[int]]:
        """Return the levels that are shown of each study.

        Raises:
            UsageError: None of the studies has such a level or density.
        """
        known: list[dict[int, set[str]]] = []
        for study in studies:
            told: dict[int, set[str]] = {}
            for cell, density in densities(study).items():
                told.setdefault(cell[2], set()).add(_told(100 * density))
            known.append(dict(sorted(told.items())))
        levels = sorted({level for told in known for level in told})
        shares = sorted({each for told in known for named in told.values() for each in named}, key=float, reverse=True)
        asked = [_told(percent) for percent in self.densities]
        if not levels:  # nothing is finished, which the figure says better
            return [set() for _ in studies]
        for level in self.levels:
            if level not in levels:
                raise _unknown("levels", str(level), list(map(str, levels)))
        for share in asked:
            if share not in shares:
                raise _unknown("densities", share, shares)
        if not self.levels and not asked:
            return [set(told) for told in known]
        return [
            {level for level, named in told.items() if level in self.levels or not named.isdisjoint(asked)}
            for told in known
        ]


ALL = Selection()


def _told(percent: float) -> str:
    return f"{percent:.{DIGITS}g}"


def _unknown(option: str, name: str, known: Sequence[str]) -> UsageError:
    return UsageError(f"--{option} {name}: there are {', '.join(known)}")
