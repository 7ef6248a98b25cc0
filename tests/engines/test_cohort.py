"""Trainings that hand in batches and are stepped together: who joins, who leaves, what is kept of those that ended."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from lottery.engines.cohort import Cohort, CohortEngine
from lottery.errors import UsageError
from lottery.pruning.mask import Mask
from lottery.pruning.masking import masked
from tests.support.perceptrons import Trained, batch, mask_of, network, values

CPU = torch.device("cpu")


def joined(cohort: Cohort, trained: Trained, mask: Mask) -> CohortEngine:
    engine = cohort.engine(trained[2], trained[1], mask)
    assert isinstance(engine, CohortEngine)
    return engine


def together(cohort: Cohort, engines: list[CohortEngine], steps: range) -> None:
    for step in steps:
        for engine in engines:
            engine.hand_in(*batch(step))
        cohort.step()
        for engine in engines:
            assert engine.step(*batch(step)).isfinite()


def test_a_member_has_the_same_bytes_whoever_joins_and_leaves() -> None:
    results = []
    for company in (False, True):
        cohort, first, other = Cohort(CPU, 2), network("adam", True, seed=1), network("adam", True, seed=2)
        mask = mask_of(first[0])
        with masked(first[0], mask, first[1]), masked(other[0], mask, other[1]):
            engine = joined(cohort, first, mask)
            others = [joined(cohort, other, mask)] if company else []
            together(cohort, [engine], range(4))
            together(cohort, [engine, *others], range(4, 9))
            together(cohort, [engine], range(9, 14))
            engine.flush()
        results.append(values(first))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_of_those_that_have_ended_nothing_is_kept() -> None:
    cohort, first, then = Cohort(CPU, 2), network("momentum", False), network("momentum", False)
    mask, model = mask_of(first[0]), weakref.ref(first[0])
    together(cohort, [joined(cohort, first, mask)], range(2))
    del first
    together(cohort, [joined(cohort, then, mask)], range(2))
    gc.collect()
    assert model() is None


def test_a_training_that_cannot_join_goes_by_itself_and_a_recipe_of_such_is_refused() -> None:
    cohort, (_, optimizer, objective) = Cohort(CPU, 2), network("adam", False, clip=1.0)
    assert cohort.engine(objective, optimizer, mask_of(objective.model)).name == "dense"
    well = network("adam", False)
    assert cohort.engine(well[2], well[1], None).name == "dense"  # its mask changes on the way
    with pytest.raises(UsageError, match=r"--lockstep 2: knows no train\.clip"):
        cohort.refuse(objective, optimizer)
