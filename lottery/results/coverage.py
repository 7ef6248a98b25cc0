"""What of a network's weights is never pruned, in words: density counts the prunable ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lottery.results.record import Record
    from lottery.results.study import Study


def in_words(left: Mapping[str, int], prunable: int) -> str:
    """The share of the weights that multiply or look up inputs which is never pruned, and their layers."""
    count = sum(left.values())
    return f"never pruned: {100 * count / (count + prunable):.3g} % of the weights ({', '.join(left)})"


def of_records(records: Iterable[Record]) -> list[str]:
    """What finished trainings of the recipe's network say of it: nothing where all its weights can be pruned."""
    found = (record.metrics for record in records if record.job.kind.in_trunk)
    told = (in_words(metrics["never_pruned"], sum(metrics["sizes"].values())) for metrics in found if _has(metrics))
    return list(dict.fromkeys(told))


def sentences(study: Study) -> list[str]:
    """The same of a study, as sentences of its report."""
    return [f"{words[0].upper()}{words[1:]}; density counts the others." for words in of_records(study.found.values())]


def _has(metrics: Mapping[str, object]) -> bool:
    return bool(metrics.get("never_pruned"))
