"""Words for the weights of a network that are never pruned, as density counts the prunable ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study


def in_words(left: Mapping[str, int], prunable: int) -> str:
    """Return the share of weights that are never pruned, among those that multiply or look up inputs, and their layers.

    Args:
        left: number of weights that are never pruned, by layer.
        prunable: number of the others.
    """
    count = sum(left.values())
    return f"never pruned: {100 * count / (count + prunable):.3g} % of the weights ({', '.join(left)})"


def of_records(records: Iterable[Record]) -> list[str]:
    """Return what finished trainings of a recipe's network say of it: nothing if all its weights can be pruned."""
    found = (record.metrics for record in records if record.job.kind.in_trunk)
    told = (in_words(metrics["never_pruned"], sum(metrics["sizes"].values())) for metrics in found if _has(metrics))
    return list(dict.fromkeys(told))


def sentences(study: Study) -> list[str]:
    """Return the sentences of a study's report on it."""
    return [f"{words[0].upper()}{words[1:]}; density counts the others." for words in of_records(study.found.values())]


def _has(metrics: Mapping[str, object]) -> bool:
    return bool(metrics.get("never_pruned"))
