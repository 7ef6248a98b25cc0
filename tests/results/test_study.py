"""What all tables of a study start from is worked out once."""

from __future__ import annotations

import pytest

from lottery.results.study import Study, once
from tests.support.studies import Recorded, everything, hand


def a_study() -> Study:
    planned = hand()
    return Study(planned, everything(planned), Recorded(planned))


def test_a_study_is_asked_once_and_another_one_anew() -> None:
    asked: list[Study] = []

    @once
    def rows(study: Study) -> list[int]:
        asked.append(study)
        return [len(asked)]

    one, other = a_study(), a_study()
    assert rows(one) is rows(one) and rows(one) == [1]
    assert rows(other) == [2] and len(asked) == 2


def test_what_could_not_be_made_is_tried_again() -> None:
    tries: list[Study] = []

    @once
    def rows(study: Study) -> int:
        tries.append(study)
        if len(tries) == 1:
            raise OSError
        return len(tries)

    study = a_study()
    with pytest.raises(OSError):
        rows(study)
    assert rows(study) == 2
