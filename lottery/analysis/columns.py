"""Columns of tables: names that say what their values are, so that no format has to guess it from the name.

A view makes them where it makes the values; the formats for people (terminal, Markdown, LaTeX, HTML) read them, files
for programs have the names alone. A plain string as a name stands for words or numbers without a unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Unit = Literal[
    "",  # words, or a number without a unit
    "density",  # share of weights that are kept
    "fraction",  # share of any other whole; a percentage on pages
    "points",  # difference of fractions; percentage points on pages
    "steps",  # mean of steps, told in whole ones
    "p",  # p-value
    "ordinal",  # number that names something: a seed, a level
    "key",  # key of a job, told by its first digits
    "date",  # ISO 8601
]
Quantity = Literal[
    "value",
    "mean",  # of a network over seeds
    "std",  # this and the next two are read in the cell of the mean
    "n",
    "best",  # True where it is shown to be better than the others of its column
    "diverged",
    "diff",  # a network's mean difference to the dense one
    "estimate",  # of a comparison
    "low",  # this and the next two are read in the cell of an estimate; or the start of an interval
    "high",  # read in the cell of `low`, where that is one
    "verdict",
    "swept",  # value of a key that a recipe sweeps: it says what a row is
]
Readers = Literal["all", "terminal", "programs"]  # of pages and terminals, of terminals alone, of neither


class Column(str):
    """The name of a column, which says what its values are. It is equal to the plain string.

    Args:
        name: The name, as in CSV, JSON and Parquet.
        unit: The unit of the values.
        quantity: What is told of a network or a comparison.
        network: The network that the values are of: `dense`, `ticket`, a control's label; empty for none.
        whole: The column whose cell this one is read in; empty for a cell of its own.
        words: The header on pages, without its unit; the name with spaces where none is given.
        label: The header on terminals; the name where none is given.
        readers: Who is shown the column. Files for programs have every column.
        confidence: The confidence of an interval, or 1 less the level of a test.
        corrects: The column of the p-value that this one is, corrected for others; pages leave that one out.
        shows: The verdict that a p-value can show; where no row says it, the p-value is for programs.
    """

    unit: Unit
    quantity: Quantity
    network: str
    whole: str
    words: str
    label: str
    readers: Readers
    confidence: float
    corrects: str
    shows: str

    def __new__(
        cls,
        name: str,
        unit: Unit = "",
        quantity: Quantity = "value",
        *,
        network: str = "",
        whole: str = "",
        words: str = "",
        label: str = "",
        readers: Readers = "all",
        confidence: float = 0.95,
        corrects: str = "",
        shows: str = "",
    ) -> Column:
        """Return the name with what it says; the arguments are those of the class."""
        column = super().__new__(cls, name)
        column.unit, column.quantity, column.network, column.whole = unit, quantity, network, whole
        column.words = words or name.replace("_", " ").replace("madds", "multiply-adds")
        column.label, column.readers = label or name, readers
        column.confidence, column.corrects, column.shows = confidence, corrects, shows
        return column


PLACES = ("study", "optimizer", "found_with", "rewind", "level", "density", "networks")  # they say what a row is
STUDY = Column("study")  # label of one of several studies
DENSITY = Column("density", "density")
LEVEL = Column("level", "ordinal")
LEVEL_OF_DENSITY = Column("level", "ordinal", readers="terminal")  # of a table whose `density` says it as well
SEED = Column("seed", "ordinal")
SEEDS = Column("n", words="seeds")  # number of seeds
DIFFERENCE = Column("difference", "points")
SEEDS_NEEDED = Column("seeds_needed", readers="programs")  # people are told in the row's `reason`
BOUND = Column("bound", "points", words="lower bound")
RATE = Column("lr", words="learning rate")
KEY = Column("key", "key")


def mean(network: str, metric: str = "") -> tuple[Column, Column, Column, Column]:
    """Return the columns of a network's accuracy, or of another metric.

    They are the mean over seeds, the standard deviation, the number of seeds, and the first step at which a training
    diverged.
    """
    name = Column(f"{network}_{metric}" if metric else network, "fraction", "mean", network=network)
    return (
        name,
        Column(f"{name}_std", "fraction", "std", network=network, whole=name),
        Column(f"{name}_n", "", "n", network=network, whole=name),
        Column(f"{name}_diverged", "ordinal", "diverged", network=network, whole=name),
    )


def diff(network: str) -> Column:
    """Return the column of the mean difference of a network, or of a part of it, to the dense one."""
    name = f"{network}_diff"
    words = f"{network.replace('_', ' ')} − dense"
    return Column(name, "points", "diff", network=network, words=words, label=name.replace("_", " "))


def steps(name: str, network: str = "") -> Column:
    """Return the column of a step, or of the mean of several."""
    return Column(name, "steps", network=network, label=name.replace("_", " "))


def estimate(name: str, confidence: float) -> tuple[Column, Column, Column, Column]:
    """Return the columns of a difference that are read in one cell: its value, the ends of its interval, a verdict."""
    return (
        Column(name, "points", "estimate", label=name.replace("_", " "), confidence=confidence),
        Column(f"{name}_low", "points", "low", whole=name),
        Column(f"{name}_high", "points", "high", whole=name),
        Column(f"{name}_verdict", "", "verdict", whole=name),
    )


def interval(unit: Unit, confidence: float, kind: str = "", words: str = "interval") -> tuple[Column, Column]:
    """Return the columns of the ends of an interval, `low` and `high`; of a `kind` such as bca, `bca_low` and so on."""
    low = Column(f"{kind}low", unit, "low", words=words, confidence=confidence)
    return low, Column(f"{kind}high", unit, "high", whole=low)


def comparison(figures: Mapping[str, Any], confidence: float) -> dict[str, Any]:
    """Return the figures of a paired comparison, see `paired.summary`, under their columns."""
    ends = (*interval("points", confidence), *interval("points", confidence, "bca_", "BCa interval"))
    return {column: figures[column] for column in (SEEDS, DIFFERENCE, *ends)}


def p_values(name: str, confidence: float, shows: str = "") -> tuple[Column, Column]:
    """Return the columns of a p-value as it is, and corrected for the others of its family."""
    plain = Column(name, "p", confidence=confidence, shows=shows)
    return plain, Column(f"{name}_adjusted", "p", confidence=confidence, shows=shows, corrects=name)
