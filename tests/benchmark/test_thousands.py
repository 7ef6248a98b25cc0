"""The store of many finished jobs that `lottery bench` makes of few trainings."""

from __future__ import annotations

from pathlib import Path

from lottery.audit.audit import audit
from lottery.audit.repeated import repeated
from lottery.benchmark.thousands import STUDY, make_finished
from lottery.recipe.load import parse_recipe
from lottery.results.study import study


def test_all_seeds_are_finished_audited_as_the_trained_one_and_count_as_different(tmp_path: Path) -> None:
    recipe = parse_recipe(STUDY, "bench", ["seeds=3", "prune.levels=1", "branches=[reinit]"])
    make_finished(recipe, 1, tmp_path, tmp_path / "store")
    found = study(recipe, store=tmp_path / "store")
    assert (len(found.found), found.missing) == (3 * 2 * 3, 0)  # seeds, optimizers; dense, ticket and control
    told: dict[int, set[object]] = {0: set(), 1: set(), 2: set()}
    for finding in audit(found).findings:
        assert finding.seed is not None
        told[finding.seed].add((finding.cell, finding.words))
    assert told[0] == told[1] == told[2]  # what is said of the trained one, and no fraud
    assert repeated(found) == {}
