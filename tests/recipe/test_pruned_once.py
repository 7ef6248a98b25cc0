"""one_shot where it is the ticket itself: shown to the byte, left out of plans, refused where it is all there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lottery import registry
from lottery.errors import RecipeError
from lottery.plan.jobs import Job
from lottery.pruning.start import Start
from lottery.recipe.load import parse_recipe
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import _criterion, starting_point
from lottery.runner.stored_level import StoredLevel
from lottery.seed import generator
from lottery.training.state import flatten
from tests.support.micro import micro_text
from tests.support.studies import hand, made, view_of

TEXT = micro_text(
    "data.limit=400",
    "model.norm=batch",
    "train.schedule={name: cosine}",
    "prune={scope: layer, fraction: 0.5, levels: 1, rates: {output: 0.5}}",
    "rewind=4it",
    "finetune={rate: 0.1}",
)
IN_GLOBAL = "prune={scope: global, fraction: 0.5, levels: 1}"


def trained(folder: Path, *overrides: str) -> tuple[RunContext, Job]:
    """A study with its dense network and the ticket of level 1 trained."""
    words = [*overrides, *([] if any("finetune" in each for each in overrides) else ["finetune=null"])]
    recipe = parse_recipe(TEXT, "once.yaml", words)
    context = prepare(Request(recipe, folder, folder, device="cpu", deterministic=True, checkpoint_seconds=60))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done"}
    return context, next(job for job in context.plan if job.kind == "ticket")


def at_once(context: RunContext, ticket: Job) -> Start:
    """Where the control of this ticket would start, which is in no plan at level 1."""
    trunk = context.plan.trunk(ticket)
    level = StoredLevel(context, ticket, criterion=lambda draws: _criterion(context, trunk[-1], draws))
    start = registry.branches["one_shot"].make(level, generator(ticket.seed, "branch/one_shot/1", 0))
    assert isinstance(start, Start)
    return start


@pytest.mark.parametrize(
    "overrides",
    [
        ["rewind=init"],
        ["rewind={to: 4it, mode: weights}"],
        ["rewind={to: 4it, mode: lr}"],
        ["rewind={to: 4it, mode: finetune}"],
        [IN_GLOBAL],
        ["prune={scope: erk, fraction: 0.5, levels: 1}"],
        ["prune={levels: 1, densities: {fc1: 0.2, fc2: 0.7}}"],
        ["prune.rounds=3", "prune.criterion=movement"],
        ["prune.criterion=snip"],
        ["prune.criterion=grasp"],
        [IN_GLOBAL, "model.norm=weight"],
        [IN_GLOBAL, "model.norm=spectral"],
        ["prune={one_shot: [0.2], scope: global}"],
    ],
    ids=" ".join,
)
def test_at_level_1_it_starts_where_the_ticket_starts_to_the_byte(tmp_path: Path, overrides: list[str]) -> None:
    context, ticket = trained(tmp_path, *overrides)
    own, control = starting_point(context, ticket), at_once(context, ticket)
    assert control.mask == own.mask and 0 < own.mask.density < 1
    assert control.spec == own.spec and (control.model, control.dataset) == (own.model, own.dataset)
    assert control.weights.keys() == own.weights.keys()
    assert all(torch.equal(control.weights[name], value) for name, value in own.weights.items())
    found: list[dict[str, torch.Tensor]] = [{}, {}]
    mine, theirs = (flatten(s.optimizer_state, "", into) for s, into in zip((control, own), found, strict=True))
    assert mine == theirs and found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_a_criterion_that_draws_draws_another_mask_and_keeps_the_control(tmp_path: Path) -> None:
    context, ticket = trained(tmp_path, "prune.criterion=random")
    assert at_once(context, ticket).mask != starting_point(context, ticket).mask
    assert labels("prune.criterion=random") == [(1, "one_shot"), (2, "one_shot"), (3, "one_shot")]


def labels(*overrides: str, branches: str = "[one_shot]") -> list[tuple[int, str]]:
    planned = hand("prune.levels=3", "seeds=1", f"branches={branches}", *overrides)
    return [(job.level, job.branch.label) for job in planned if job.branch is not None]


def test_level_1_of_iterative_pruning_is_left_out_of_the_plan_and_nothing_else_is() -> None:
    assert labels() == [(2, "one_shot"), (3, "one_shot")]
    assert labels(branches="[{name: one_shot, levels: [1, 3], samples: 2, as: once}]") == [(3, "once"), (3, "once")]
    assert labels(branches="[shuffle, one_shot]") == [
        (1, "shuffle"),
        (2, "shuffle"),
        (2, "one_shot"),
        (3, "shuffle"),
        (3, "one_shot"),
    ]
    # at initialization and in training the ticket is not pruned from the trained dense network, the control is
    assert [level for level, _ in labels("prune.when=init")] == [1, 2, 3]
    gradual = "prune={when: training, levels: 3, during: {start: 0it, end: 50it, every: 10it}}"
    assert [level for level, _ in labels(gradual)] == [1, 2, 3]


def test_keys_of_all_that_stays_are_as_they_would_be_without_it() -> None:
    full = hand("prune.levels=3", "branches=[shuffle, one_shot]")
    rest = hand("prune.levels=3", "branches=[shuffle]").jobs.keys()
    deep = hand("prune.levels=3", "branches=[{name: one_shot, levels: [2, 3]}]").jobs.keys()
    assert full.jobs.keys() == rest | deep


def test_its_family_of_claims_has_the_other_levels_only() -> None:
    planned = hand("prune.levels=3", "seeds=5", "compare={margin: 1}", "branches=[one_shot]")
    rows = view_of("claims", planned, made(planned, ({}, {})))
    assert [(row["level"], row["against"]) for row in rows] == [(2, "one_shot"), (3, "one_shot")]


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "once.yaml", overrides)
    return list(caught.value.problems)


ITSELF = "at level 1 one_shot is the ticket itself, pruned once from the dense network"
AT_ONCE = "tickets of prune.one_shot are pruned once from the dense network, as one_shot is; leave the branch out"


def test_it_is_refused_with_its_place_where_no_other_level_is_asked_for() -> None:
    alone = TEXT + "branches:\n  - {name: one_shot, levels: [1]}\n"
    deep = ("finetune=null", "prune.levels=4")
    line = TEXT.count("\n") + 2
    assert problems(alone, *deep) == [f"once.yaml:{line}:22: branches.0.levels: {ITSELF}; name a level from 2 on"]
    assert parse_recipe(alone, "once.yaml", [*deep, "prune.criterion=random"])
    shallow = TEXT + "branches:\n  - one_shot\n"
    way = "raise prune.levels, or leave the branch out"
    assert problems(shallow, "finetune=null", "prune.levels=1") == [f"once.yaml:{line}:5: branches.0: {ITSELF}; {way}"]
    assert parse_recipe(shallow, "once.yaml", ["finetune=null", "prune.levels=0"])
    assert problems(shallow, "finetune=null", "prune={one_shot: [0.5, 0.2]}") == [
        f"once.yaml:{line}:5: branches.0: {AT_ONCE}"
    ]
