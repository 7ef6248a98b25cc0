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
    from lottery.recipe.schema import Recipe
    from lottery.results.study import Study


@dataclass(frozen=True)
class Selection:
    """What is asked for; nothing asked for is all there is.

    Attributes:
        optimizers: Names or labels of optimizers; a name stands for all that have it.
        columns: The ticket and controls.
        levels: Levels; 0 is the dense network.
        densities: Densities in percent, as far as digits are given: 20.97 and 21 both name 20.972 %.
    """

    optimizers: Sequence[str] = ()
    columns: Sequence[str] = ()
    levels: Sequence[int] = ()
    densities: Sequence[str] = ()

    def optimizers_of(self, studies: Iterable[Study]) -> list[str]:
        """Return the labels of the optimizers that are shown, in the order of the recipes.

        Raises:
            UsageError: There is no such optimizer.
        """
        return chosen_optimizers([study.recipe for study in studies], self.optimizers)

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
        known: list[dict[int, set[float]]] = []
        for study in studies:
            named: dict[int, set[float]] = {}
            for cell, density in sorted(densities(study).items(), key=lambda item: item[0][2]):
                named.setdefault(cell[2], set()).add(density)
            known.append(named)
        levels = sorted({level for named in known for level in named})
        shares = sorted({each for named in known for several in named.values() for each in several}, reverse=True)
        if not levels:  # nothing is finished, which the figure says better
            return [set() for _ in studies]
        for level in self.levels:
            if level not in levels:
                raise _unknown("levels", str(level), list(map(str, levels)))
        for text in self.densities:
            if not any(_reads(text, share) for share in shares):
                raise _unknown("densities", text, list(dict.fromkeys(f"{100 * share:.4g}" for share in shares)))
        if not self.levels and not self.densities:
            return [set(named) for named in known]
        return [{level for level, mine in named.items() if self._wants(level, mine)} for named in known]

    def _wants(self, level: int, shares: Iterable[float]) -> bool:
        return level in self.levels or any(_reads(text, share) for share in shares for text in self.densities)


ALL = Selection()


def chosen_optimizers(recipes: Iterable[Recipe], names: Sequence[str]) -> list[str]:
    """Return the labels of the optimizers with these names or labels, all where there are none, in the recipes' order.

    Raises:
        UsageError: There is no such optimizer.
    """
    known: dict[str, str] = {}
    for recipe in recipes:
        optimizers = recipe.train.optimizer
        known |= {label: each.name for label, each in zip(optimizer_labels(optimizers), optimizers, strict=True)}
    for name in names:
        if name not in known and name not in known.values():
            raise _unknown("optimizers", name, list(dict.fromkeys([*known.values(), *known])))
    wanted = names or list(known)
    return [label for label, name in known.items() if label in wanted or name in wanted]


def _reads(text: str, density: float) -> bool:
    """Return True if a density, a fraction, is the one that a text in percent names."""
    try:
        wanted = float(text)
    except ValueError:
        return False
    return float(f"{100 * density:.{len(text.partition('.')[2])}f}") == wanted


def _unknown(option: str, name: str, known: Sequence[str]) -> UsageError:
    return UsageError(f"--{option} {name}: there are {', '.join(known)}")
