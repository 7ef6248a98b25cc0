"""What an analysis will look at is told from the recipe as the plan has it; one that has nothing is refused by key."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from lottery.analysis.measurements import networks_of
from lottery.plan.expand import plan
from lottery.recipe.analyses import AnalysisSpec
from lottery.recipe.analysis_subjects import Trunks, about_subjects, subjects
from tests.support.analyses import asking
from tests.support.micro import micro, problems

BRANCHES = (
    "branches=[{name: reinit, samples: 2}, {name: random, as: few, samples: 3, levels: [1]}, one_shot, "
    "{name: shuffle, as: shuffle2, levels: [2]}]"
)
STUDIES = {
    "one of each": ("prune.levels=1", "seeds=1"),
    "several": (
        BRANCHES,
        "prune.levels=3",
        "seeds=3",
        "rewind=[init, 4it]",
        "train.optimizer=[{name: adam, lr: 3e-3}, {name: sgd, lr: 0.1}, {name: sgd, lr: 0.2}]",
    ),
    "two": (BRANCHES, "prune.levels=2", "seeds=2"),
    "no ticket": ("prune.levels=0", "seeds=2"),
    "one shot": ("prune={one_shot: [0.5, 0.2]}", "seeds=1"),
}
ENTRIES: dict[str, list[dict[str, Any]]] = {
    "hessian": [
        {}, {"of": ["dense"]}, {"of": ["ticket"]}, {"of": ["pruned"]}, {"of": ["one_shot"]}, {"of": ["few", "shuffle2"]}
    ],
    "barrier": [
        {},
        *({"between": [pairing]} for pairing in ("level-level", "seed-seed", "optimizer-optimizer", "dense-ticket")),
        *({"of": pair} for pair in (["dense", "reinit"], ["reinit", "few"], ["ticket", "shuffle2"])),
    ],
    "plane": [{}, {"through": ["dense", "ticket", "shuffle2"]}],
    "signals": [{}, {"of": ["dense", "few"]}],
    "instability": [
        {}, {"of": ["ticket"]}, {"of": ["dense", "ticket"], "at": ["init"]}, {"at": ["4it"]},
        {"of": ["ticket"], "at": ["4it"]},
    ],
}  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_the_recipe_tells_what_the_plan_looks_at_and_nothing_else_is_refused(study: str) -> None:
    bare = micro(*STUDIES[study])
    trunks = Trunks.of({name: getattr(bare, name) for name in ("prune", "branches", "rewind", "seeds", "train")})
    assert trunks is not None
    named = {"dense", "ticket", "pruned", *(branch.label for branch in bare.branches)}
    full, empty = 0, 0
    for name, keys in ENTRIES.items():
        for key, levels in product(keys, (None, (0,), (1, 2), (0, 1))):
            spec = AnalysisSpec.model_validate({"name": name, **key, **({"levels": levels} if levels else {})})
            if not {*(spec.of or ()), *(spec.through or ())} <= named:
                continue
            jobs = [
                job for job in plan(bare.model_copy(update={"analyses": (spec,)}), "f" * 64) if job.analysis is not None
            ]
            assert {(job.level, networks_of(job)) for job in jobs} == set(subjects(spec, trunks)), (key, levels)
            refused = any(about_subjects((), spec, trunks))
            assert refused or jobs, (name, key, levels)
            assert not (refused and jobs) or name == "instability", (name, key, levels)
            full, empty = full + bool(jobs), empty + (not jobs)
    assert full > 10 and empty > 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            [asking("{name: instability, levels: [2]}")],
            "analyses.0.levels.0: level 2 is of tickets, and there are dense networks alone, which are what it looks at"
            " where nothing is said; write `of: ticket`, or level 0",
        ),
        (
            [asking("{name: instability, of: dense, levels: [0, 1]}")],
            "analyses.0.levels.1: level 1 is of tickets, and there are dense networks alone; write `of: ticket`",
        ),
        (
            [asking("{name: instability, of: ticket, levels: 0}")],
            "analyses.0.levels: level 0 is the dense network, and there are tickets alone; write `of: dense`",
        ),
        (
            [asking("{name: instability, of: reinit}"), "branches=[reinit]"],
            "analyses.0.of: the children are those of dense networks and tickets, not of reinit",
        ),
        (
            [asking("{name: instability, of: ticket}"), "prune.levels=0"],
            "analyses.0.of: no networks are there to look at together: ticket of no level; name other levels",
        ),
        (
            [asking("{name: hessian, of: dense, levels: [1, 2]}")],
            "analyses.0.levels: no networks are there to look at: dense of 0; name other levels or networks",
        ),
        (
            [asking("{name: hessian, of: one_shot, levels: 1}"), "branches=[one_shot]"],
            "analyses.0.levels: no networks are there to look at: one_shot of 2; name other levels",
        ),
        (
            [asking("{name: plane, levels: 0}")],
            "analyses.0.levels: no networks are there to look at together: dense of 0; ticket of 1, 2; pruned of 1, 2",
        ),
        (
            [asking("{name: barrier, between: seed-seed}")],
            "analyses.0.between: no pair of networks is there to look at: seed-seed two seeds, at the levels",
        ),
        (
            [asking("{name: barrier, between: [optimizer-optimizer, level-level], levels: 1}")],
            "analyses.0.levels: no pair of networks is there to look at: optimizer-optimizer two optimizers, level-",
        ),
        (
            [asking("{name: barrier, of: [reinit, shuffle]}"),
             "branches=[{name: reinit, samples: 2}, {name: shuffle, samples: 3}]"],
            "analyses.0.of: reinit and shuffle have different numbers of samples, so that none go together",
        ),
    ],
)  # fmt: skip
def test_an_analysis_without_any_job_is_refused_with_its_key(changes: list[str], said: str) -> None:
    found = problems(*changes)
    assert len(found) == 1 and said in found[0], found


CLAIM = (
    "replicates={{source: paper, claims: [{{text: a, source: b, densities: [0.5], most: 1.0, analysis: {}, value: {},"
    " networks: {}}}]}}"
)


@pytest.mark.parametrize(
    ("analysis", "value", "networks", "said"),
    [
        ("barrier", "test_error_barrier", "dense - tickets", "looks at no 'dense - tickets'; did you mean"),
        ("barrier", "test_error_barrier", "ticket - dense", "replicates.claims.0.networks: barrier looks at no"),
        ("barrier", "test_error_barrier", "dense - ticket", ""),
        ("barrier", "test_error_barrier", "ticket above - ticket", ""),
        ("barrier", "test_error_barrier", "dense - dense of another seed", "looks at no"),  # one seed
        ("hessian", "trace", "ticket", ""),
        ("hessian", "trace", "reinit", "replicates.claims.0.networks: hessian looks at no 'reinit'; there are dense"),
        ("instability", "test_error_barrier", "dense from 4it", ""),
        ("instability", "test_error_barrier", "ticket from 4it", "looks at no 'ticket from 4it'; did you mean"),
    ],
)
def test_networks_that_a_claim_names_are_those_of_its_analysis(
    analysis: str, value: str, networks: str, said: str
) -> None:
    changes = (asking("barrier", "hessian", "{name: instability, at: 4it}"), CLAIM.format(analysis, value, networks))
    if not said:
        assert micro(*changes).replicates is not None
        return
    found = problems(*changes)
    assert len(found) == 1 and said in found[0], found
