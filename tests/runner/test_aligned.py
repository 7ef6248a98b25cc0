"""Masks of another seed in the order of one's own units: what refuses them before any training, and what they meet."""

from __future__ import annotations

from pathlib import Path

import pytest

from lottery.errors import UsageError
from lottery.landscape.alignment import weight_matching
from lottery.landscape.permutations import hidden_units, permuted
from lottery.pruning.mask import Mask
from lottery.results.artifacts import read_mask, read_trained
from lottery.runner.starting_point import starting_point
from lottery.seed import generator
from tests.support.micro import finished, micro, prepared, problems
from tests.support.verified import wrong


@pytest.mark.parametrize("norm", ["layer", "spectral", "weight"])
def test_a_network_whose_units_have_no_order_is_refused_before_any_training(norm: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"branches\.1: moved: .* no hidden units .*; leave out the control"):
        prepared(micro(f"model.norm={norm}", "seeds=2", "branches=[reinit, {name: aligned, as: moved}]"), tmp_path)


def test_one_seed_alone_and_levels_that_follow_from_results_are_refused() -> None:
    (told,) = problems("branches=[aligned]")
    assert "aligned takes the mask of another seed; give at least two seeds" in told
    auto = ("prune={fraction: 0.5, levels: auto}", "compare={margin: 1}", "seeds=4", "branches=[aligned]")
    assert any("aligned takes the mask of the next seed" in line for line in problems(*auto))


@pytest.mark.slow
def test_in_a_study_the_mask_is_the_next_seeds_moved_by_the_order_of_both_dense_networks(tmp_path: Path) -> None:
    study = (
        "seeds=[3, 8]",
        "prune.levels=1",
        "train.optimizer=[adam, {name: sgd, lr: 0.1}]",
        "transfer=all",
        "branches=[aligned]",
    )
    context = finished(prepared(micro(*study, "model.norm=batch"), tmp_path))
    job = next(job for job in context.plan if job.branch is not None and job.branch.name == "aligned")

    def of(kind: str, seed: int) -> str:
        return next(
            j.key
            for j in context.plan
            if (j.kind.value, j.seed, j.optimizer_index) == (kind, seed, job.optimizer_index)
        )

    draws, store = generator(job.seed, "branch/aligned/1"), context.store
    groups = hidden_units(context.networks.fresh(job.seed, context.plan.recipe.model, draws))
    one, other = (read_trained(store, of("dense", seed), None, "end") for seed in (job.seed, 11 - job.seed))
    orders = weight_matching(groups, one, other, draws)
    theirs = read_mask(store, of("ticket", 11 - job.seed))
    moved = Mask(permuted(dict(theirs), groups, orders))
    assert starting_point(context, job).mask == moved
    assert moved != theirs
    assert wrong(context) == []
