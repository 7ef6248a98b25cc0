"""Traits of data sets, beside those of the other catalogues in `lottery.traits`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import Field
from pydantic.dataclasses import dataclass

from lottery.traits import CHECKED, Arguments, Traits


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class DatasetTraits(Traits):
    """The traits of a data set."""

    files: tuple[str, ...] = Field(
        default=(),
        description="Paths in the folder of data sets of the files that alone determine it. Read by `lottery/data`.",
    )
    state: Callable[[Path, Arguments], str] | None = Field(
        default=None,
        description="`f(root, arguments)`: a text that is another one wherever its files have changed, for files of "
        "names that are not known beforehand; it is found without reading them. Read by `lottery/data`.",
    )
    computed_by: tuple[str, ...] | None = Field(
        default=None,
        description="The packages, as pip calls them, that compute it from its arguments alone, without any file; what "
        "they have computed is kept for the next start. Read by `lottery/data`.",
    )
    crops: tuple[str, ...] | None = Field(
        default=None,
        description="Keys that must be given for `random_resized_crop`, which None refuses. Read by `lottery/recipe`.",
    )

    def named_keys(self) -> dict[str, tuple[str, ...]]:
        """Return the keys of the entry that traits name, by trait."""
        return {**super().named_keys(), "crops": self.crops or ()}
