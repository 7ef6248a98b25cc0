"""Several studies: what each is called, and which cannot be compared."""

from __future__ import annotations

import pytest

from lottery.errors import UsageError
from lottery.plan.expand import plan
from lottery.results.several import several
from lottery.results.study import Study
from tests.support.studies import Recorded, hand


def study(*changes: str, data: str = "f") -> Study:
    planned = plan(hand(*changes).recipe, data * 64)
    return Study(planned, {}, Recorded(planned))


def labels(*studies: Study) -> list[str]:
    return [label for label, _ in several(studies)]


def test_a_study_is_called_as_its_recipe_is_and_those_of_one_name_by_what_tells_them_apart() -> None:
    assert labels(study("name=a"), study("name=b")) == ["a", "b"]
    assert labels(study(), study("prune.criterion=random")) == ["hand (criterion=magnitude)", "hand (criterion=random)"]
    late = [study("rewind=20it"), study("rewind=20it", "seeds=5"), study("name=a"), study()]
    assert labels(*late) == [
        "hand (rewind=20it, seeds=[0, 1])",
        "hand (rewind=20it, seeds=[0, 1, 2, 3, 4])",
        "a",
        "hand (rewind=init, seeds=[0, 1])",
    ]


def test_as_few_keys_as_it_takes_stand_behind_a_name() -> None:
    many = [study("prune.fraction=0.3", "prune.levels=2"), study("prune.fraction=0.4", "prune.levels=3")]
    assert labels(*many) == ["hand (fraction=0.3)", "hand (fraction=0.4)"]


def test_the_same_study_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"hand: is named twice"):
        several([study(), study()])


def test_accuracies_on_other_data_and_at_another_reading_are_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"b: has other data than hand .two versions of its files"):
        several([study(), study("name=b", data="e")])
    with pytest.raises(UsageError, match=r"b: has other data than hand .* limit: 100"):
        several([study(), study("name=b", "data.limit=100", data="e")])
    with pytest.raises(UsageError, match=r"b: is read at end, hand at best_accuracy; .*--set report=end"):
        several([study(), study("name=b", "report=end")])
