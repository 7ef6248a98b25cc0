"""Types of the columns that every table of a view has, for tables, or columns, in which nothing is known yet.

`text`, `int`, `float` or `bool` by the name of the column. Columns that only some recipes have, such as `rewind` or
those of a control, are not here. A test holds this to what the views make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Type = Literal["text", "int", "float", "bool"]

_LETTERS: Mapping[str, Type] = {"s": "text", "i": "int", "f": "float", "b": "bool"}
_MEAN = "{0}:f {0}_std:f {0}_n:i {0}_diverged:i"
_INTERVAL = "n:i difference:f low:f high:f"

_COLUMNS = {
    "means": f"optimizer:s density:f {_MEAN.format('dense')} dense_step:f {_MEAN.format('ticket')} ticket_step:f "
    "ticket_diff:f note:s",
    "matrix": f"optimizer:s {_MEAN.format('dense')} dense_best:b cells:s test:s",
    "long": "optimizer:s rewind:s seed:i level:i kind:s retrained_with:s lr:f sample:i density:f status:s "
    "diverged_step:i best_accuracy_step:i best_accuracy_train_loss:f best_accuracy_validation_loss:f "
    "best_accuracy_validation_accuracy:f best_accuracy_test_loss:f best_accuracy_test_accuracy:f early_stop_step:i "
    "early_stop_train_loss:f early_stop_validation_loss:f early_stop_validation_accuracy:f early_stop_test_loss:f "
    "early_stop_test_accuracy:f end_step:i end_train_loss:f end_validation_loss:f end_validation_accuracy:f "
    "end_test_loss:f end_test_accuracy:f best_accuracy_censored:b early_stop_censored:b device:s threads:i "
    "deterministic:b torch:s lottery:s engine:s key:s",
    "transfer": "found_with:s density:f note:s",
    "transfer_tests": f"found_with:s retrained_with:s level:i density:f against:s {_INTERVAL} p:f p_adjusted:f "
    "p_matching:f p_matching_adjusted:f p_losing:f p_losing_adjusted:f verdict:s reason:s",
    "rates": "optimizer:s lr:f validation_accuracy:f validation_loss:f diverged:i note:s",
    "costs": "optimizer:s level:i density:f n:i trainings:i steps:i madds_dense:f madds_sparse:f evaluation_madds:f "
    "seconds:f example_madds_dense:i example_madds_sparse:i total_trainings:i total_steps:i total_madds_dense:f "
    f"total_madds_sparse:f total_seconds:f {_MEAN.format('dense')} {_MEAN.format('ticket')} "
    f"{_MEAN.format('equal_cost')} note:s",
    "verdicts": f"optimizer:s level:i density:f verdict:s also:s {_INTERVAL} bca_low:f bca_high:f bound:f better_by:f "
    "p_matching:f p_matching_adjusted:f p_losing:f p_losing_adjusted:f p_better:f p_better_adjusted:f p_equivalent:f "
    "p_equivalent_adjusted:f steps_ratio:f p_earlier:f p_winning_adjusted:f seeds_needed:i reason:s",
    "sparsest": "optimizer:s density:f n:i crossing:f low:f high:f how:s",
    "claims": f"optimizer:s level:i density:f claim:s against:s {_INTERVAL} bca_low:f bca_high:f p:f p_adjusted:f "
    "p_inferior:f p_inferior_adjusted:f seeds_needed:i correction:s verdict:s reason:s",
    "decomposition": "optimizer:s level:i density:f n:i against:s",
    "audit": "optimizer:s seed:i level:i kind:s branch:s key:s field:s ticket:s dense:s allowed:b ok:b note:s",
    "examples": f"optimizer:s level:i density:f network:s n:i examples:i {_INTERVAL.partition(' ')[2]} seeds_share:f "
    "examples_share:f disagreement:f dense_disagreement:f worst_class:i worst_class_diff:f classes_lost:i",
    "layers": "optimizer:s level:i layer:s n:i density:f kept:i effective_density:f survival:f sign_change_share:f "
    "start_rank:f start_magnitude:f end_magnitude:f dead_units:f dead_share:f",
    "overlaps": "optimizer:s between:s other:s level:i density:f layer:s n:i pairs:i overlap:f overlap_chance:f "
    "jaccard:f jaccard_chance:f t:f p:f",
}


def column_types(view: str) -> dict[str, Type]:
    """Return the types of the columns that every table of a view has, in order; none for an analysis of a recipe."""
    each = (column.rpartition(":") for column in _COLUMNS.get(view, "").split())
    return {name: _LETTERS[letter] for name, _, letter in each}
