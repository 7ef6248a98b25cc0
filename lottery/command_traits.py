"""Traits of what commands name and recipes do not, as `lottery.traits` has those of what a recipe can name."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from lottery.traits import CHECKED, Traits


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExecutorTraits(Traits):
    """The traits of an executor."""

    detached: bool = Field(
        default=False,
        description="True if its workers live on when the command that started them is gone. Read by "
        "`lottery/executors`.",
    )
    package: str | None = Field(
        default=None,
        description="The optional package that it imports, by the name of its module. Read by `lottery/benchmark`, "
        "`lottery/executors`.",
    )


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TrackerTraits(Traits):
    """The traits of a tracker."""

    package: str | None = Field(
        default=None,
        description="The optional package that it imports, by the name of its module. Read by `lottery/trackers`.",
    )
