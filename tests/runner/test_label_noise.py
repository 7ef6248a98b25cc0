"""Label noise with all that it meets: keys, tuning, transfer, tables without data, verify, audit, ticket files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lottery.analysis.views import rows_of
from lottery.audit.audit import audit
from lottery.data.load import load
from lottery.data.splits import fingerprint
from lottery.errors import DataError
from lottery.plan.expand import plan
from lottery.plan.keys import data_identity, digest
from lottery.results.study import study
from lottery.runner.context import RunContext
from lottery.tickets.checks import findings
from lottery.tickets.export import open_ticket
from lottery.tickets.file import read, ticket_bytes
from lottery.tickets.retrain import context_of_ticket
from lottery.values import Component, LabelNoise
from tests.support.micro import finished, micro, prepared, problems
from tests.support.verified import wrong

NOISE = "data.label_noise={share: 0.4, seed: 5}"
STUDY = (
    NOISE,
    "data.validation=100",
    "data.limit=300",
    "model.widths=[8]",
    "train.optimizer=[adam, sgd]",
    "prune.levels=1",
    "tune={trials: 2}",
    "transfer=all",
    "branches=[reinit]",
)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return finished(prepared(micro(*STUDY), tmp_path_factory.mktemp("noisy")))


def test_all_trainings_see_the_noisy_labels_and_the_clean_test_set(noisy: RunContext) -> None:
    clean, data = load(Component("digits"), Path("nowhere")), noisy.data(0)
    changed = int((noisy.splits.train_y != clean.train_y).sum())
    assert changed == round(0.4 * len(clean.train_y))
    assert noisy.splits.test_y.equal(clean.test_y)
    seen = torch.cat([y for part in ("train", "validation") for _, y in data.evaluation(part)])
    _, held_out = next(iter(data.evaluation("validation")))
    assert len(seen) == 400 and len(held_out) == 100


def test_the_noise_is_in_the_identity_of_the_data_and_in_each_key() -> None:
    print_of = fingerprint(load(Component("digits"), Path("nowhere")))
    recipes = [micro(), micro("data.label_noise=0.4"), micro(NOISE), micro("data.label_noise={share: 0.4, seed: 6}")]
    plans = [plan(recipe, print_of) for recipe in recipes]  # even where the fingerprint were the same
    assert all(not one.jobs.keys() & other.jobs.keys() for one in plans for other in plans if one is not other)
    assert len({digest(data_identity(recipe.data)) for recipe in recipes}) == 4
    assert plan(micro("data.label_noise=0"), print_of).jobs.keys() == plans[0].jobs.keys()


def test_a_noisy_study_holds_against_its_records_and_states_and_its_audit_finds_nothing(noisy: RunContext) -> None:
    assert wrong(noisy) == []
    found = audit(study(noisy.plan.recipe, store=noisy.store))
    assert not found.withheld()


def test_tables_of_a_noisy_study_need_no_data_and_the_clean_one_is_not_met(noisy: RunContext) -> None:
    found = study(noisy.plan.recipe, store=noisy.store)
    assert found.plan.jobs.keys() == noisy.plan.jobs.keys() and not found.missing
    for view in ("means", "transfer", "rates"):
        assert list(rows_of(found, view))
    clean = micro(*STUDY[1:])
    assert not study(clean, store=noisy.store, data="nowhere").found


def test_a_ticket_file_knows_its_noise_and_other_labels_are_refused(noisy: RunContext, tmp_path: Path) -> None:
    job = next(job for job in noisy.plan if job.kind == "ticket")
    path = tmp_path / "noisy.ticket"
    path.write_bytes(ticket_bytes(open_ticket(noisy.store, job.key, tmp_path)))
    ticket = read(path)
    assert ticket.recipe.data.label_noise == LabelNoise(share=0.4, seed=5)
    assert fingerprint(ticket.data(tmp_path)) == noisy.plan.fingerprint
    context = context_of_ticket(ticket, ticket.data(tmp_path), noisy.machine, tmp_path / "none")
    assert all(found.holds is not False for found in findings(ticket, context, again=True))
    data = ticket.recipe.data.model_copy(update={"label_noise": None})
    clean = replace(ticket, recipe=ticket.recipe.model_copy(update={"data": data}))
    with pytest.raises(DataError, match="is not what the ticket was trained on"):
        clean.data(tmp_path)


@pytest.mark.slow
def test_levels_auto_walks_with_noise(tmp_path: Path) -> None:
    recipe = micro(
        NOISE,
        "model.widths=[8]",
        "prune={fraction: 0.5, levels: auto, frontier: {most_levels: 1, first_seeds: 3}}",
        "seeds=3",
        "compare={margin: 90}",
    )
    context = finished(prepared(recipe, tmp_path))
    assert {job.kind.value for job in context.plan} >= {"dense", "ticket"}


def test_a_control_on_other_data_is_refused_beside_noise() -> None:
    other = "branches=[{name: other_data, dataset: {name: mnist1d, samples: 600}}]"
    (told,) = problems(NOISE, other)
    assert "branches.0.dataset: data.label_noise is of the recipe's own data, and these have none" in told


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("1.5", "data.label_noise: input should be less than or equal to 1, not 1.5"),
        ("-0.1", "data.label_noise: input should be greater than 0, not -0.1"),
        ("{share: 0.1, sed: 1}", "data.label_noise.sed: there is no key 'sed' here; did you mean 'seed'?"),
        ("{seed: 1}", "data.label_noise: the key 'share' is missing"),
        ("true", "data.label_noise: write keys and values, {key: value}, not True"),
    ],
)
def test_label_noise_that_is_none_is_refused_at_its_line(option: str, told: str) -> None:
    assert problems(f"data.label_noise={option}") == [f"--set data.label_noise={option}: {told}"]
