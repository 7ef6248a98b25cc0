"""The fairness audit: a study as it ran hides nothing; change one field of one record, and the audit says which."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lottery.analysis.views import rows_of
from lottery.audit import protocol_checks
from lottery.audit.audit import audit
from lottery.audit.rows import rows
from lottery.errors import RecipeError
from lottery.plan.expand import plan
from lottery.plan.jobs import Job, Plan
from lottery.plan.keys import training_identity
from lottery.recipe.audit_fields import FIELDS, FIXED
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import CHOSEN, READINGS
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.manifest import Manifest
from lottery.store.store import Store
from lottery.values import Component
from tests.support import ROOT
from tests.support.micro import micro_text
from tests.support.studies import Recorded, everything, hand, made, record, ticket

DOCS = ROOT / "docs"
STUDY = (
    "model.widths=[8]",
    "train.optimizer=[{name: adam, weight_decay: 1e-4}, momentum]",
    "train.schedule={name: cosine, warmup: 2it}",
    "train.accumulate=2",
    "train.clip=1.0",
    "train.label_smoothing=0.1",
    "seeds=2",
    "tune={trials: 2}",
    "transfer={levels: 1}",
)
FAIR = micro_text(
    *STUDY,
    "data={name: digits, validation: 100, limit: 300, augment: {crop: 1}}",
    "rewind=4it",
    "branches=[shuffle, one_shot, {name: random, weights: rewound}, supermask, longer_dense]",
)
UNFAIR = micro_text(
    *STUDY,
    "data={name: mnist1d, samples: 500, validation: 100}",
    "rewind=[init, 4it, {to: 4it, mode: finetune}]",
    "branches=[reinit, small_dense, {name: retrain, optimizer: {name: sgd, lr: 0.0123}}, "
    "{name: other_data, dataset: {name: mnist1d, samples: 600, seed: 7}}]",
)
STRANGE = "e" * 64  # the key of a dense network that is none of the study's

Finished = tuple[Plan, Store]


def ran(text: str, folder: Path) -> Finished:
    recipe = parse_recipe(text, "audited.yaml")
    context = prepare(Request(recipe, folder, folder / "store", device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context.plan, context.store


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return ran(FAIR, tmp_path_factory.mktemp("fair"))


@pytest.fixture(scope="module")
def unfair(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return ran(UNFAIR, tmp_path_factory.mktemp("unfair"))


class Planted(Store):
    """A store in which single files and manifests are others than those that are there; None for one that is not."""

    def __init__(self, root: Path, files: Mapping[tuple[str, str], Any], manifests: Mapping[str, Manifest | None]):
        super().__init__(root)
        self.files, self.manifests_planted = files, manifests

    def read_json(self, key: str, name: str) -> Any:
        return self.files[key, name] if (key, name) in self.files else super().read_json(key, name)

    def find(self, key: str) -> Manifest | None:
        return self.manifests_planted[key] if key in self.manifests_planted else super().find(key)


def study_of(
    finished: Finished, files: Any = (), manifests: Any = (), allow: tuple[str, ...] = (), engine: str = "dense"
) -> Study:
    planned, store = finished
    overrides = [f"compare={{margin: 1, allow: {list(allow)}}}", f"train.engine={engine}"]
    recipe = parse_recipe(json.dumps(planned.recipe.canonical()), "r", overrides)
    planted = Planted(store.root, dict(files), dict(manifests))
    replanned = plan(recipe, planned.fingerprint, planned.others)
    return Study(replanned, records(replanned, planted), planted)


def job_of(finished: Finished, kind: str = "ticket", level: int = 1, place: int = 0, **about: Any) -> Job:
    """The first job of this kind."""
    jobs = [job for job in finished[0] if (job.kind, job.level, job.optimizer_index) == (kind, level, place)]
    return next(job for job in jobs if all(getattr(job, name) == value for name, value in about.items()))


def violations(study: Study) -> dict[str, set[str]]:
    """The fields found, by the column they were found in."""
    found: dict[str, set[str]] = {}
    for finding in audit(study).findings:
        if not finding.allowed_by:
            found.setdefault(finding.cell[3], set()).add(finding.field)
    return found


def test_a_study_as_it_ran_has_no_violation(fair: Finished) -> None:
    study = study_of(fair)
    assert violations(study) == {} and audit(study).withheld() == {}
    named = {(row["branch"], row["field"]) for row in rows_of(study, "audit") if row["field"] != "compared"}
    longer = {("longer_dense", field) for field in ("steps", "own_steps", "evaluation_grid", "weights")}
    retrained = {(f"with {name}", field) for name in ("adam", "momentum") for field in ("weights", "optimizer_state")}
    assert named == {("supermask", "steps"), ("supermask", "own_steps"), *longer, *retrained}


def test_the_summary_counts_what_was_compared(fair: Finished) -> None:
    summaries = [row for row in rows(study_of(fair)) if row["field"] == "compared"]
    assert [(row["optimizer"], row["ok"]) for row in summaries] == [("adam", True), ("momentum", True)]
    measured = [job for job in fair[0] if job.kind in ("dense", "ticket", "branch") and job.optimizer_index == 0]
    assert summaries[0]["note"] == f"{len(measured)} trainings, {len(FIELDS) + len(FIXED)} fields; Engine: dense."


def test_behind_what_was_found_are_the_trainings_that_were_compared(fair: Finished) -> None:
    study = study_of(fair)
    found = {"own": 0, "retrained": 0}
    for row in rows(study):
        jobs = [study.plan.jobs[key] for key in row.made_from]
        if "the value beside it is the ticket's" in row["note"]:
            found["own"] += 1
            assert {job.kind for job in jobs} == {"ticket", "branch"}
        elif str(row["branch"]).startswith("with "):
            found["retrained"] += 1
            retrained = [job for job in jobs if job.transfer is not None]
            beside = {(job.kind, job.optimizer_index, job.seed) for job in jobs if job.transfer is None}
            assert retrained and beside == {("dense", job.transfer, job.seed) for job in retrained}
    assert min(found.values()) > 0


# A ticket of another dense network: one thing in what determined that one's training is different.

TRAININGS: dict[str, tuple[str, Any, set[str]]] = {  # field -> key, value there, other fields that follow
    "optimizer": ("optimizer", {"name": "adam", "version": 1, "weight_decay": 0.5}, {"learning_rate", "tuning"}),
    "schedule": ("schedule", {"name": "constant", "version": 1}, set()),
    "warmup": ("warmup", "3it", set()),
    "length": ("length", "13it", {"steps"}),
    "batch_size": ("batch_size", 51, set()),
    "accumulate": ("accumulate", None, set()),
    "clip": ("clip", 2.0, set()),
    "label_smoothing": ("label_smoothing", None, set()),
    "batch_norm": ("batch_norm", "local", set()),
    "ranks": ("ranks", 2, set()),
    "precision": ("precision", "bf16", set()),
    "augment": ("augment", {"crop": 2}, set()),
    "data": ("data", {"name": "mnist1d", "version": 1}, set()),
    "fingerprint": ("fingerprint", "0" * 64, set()),
    "validation": ("validation", 90, set()),
    "stratify": ("stratify", True, set()),
    "limit": ("limit", None, set()),
    "metrics": ("metrics", ["top5"], set()),
    "model": ("model", {"name": "lenet", "version": 1, "widths": [9]}, set()),
    "init": ("init", {"name": "kaiming_normal", "version": 1}, set()),
    "evaluation_grid": ("evaluate_every", "2it", set()),
    "seed": ("seed", 7, set()),
    "other": ("weight_average", 0.99, set()),
}


def from_elsewhere(finished: Finished, key: str, value: Any) -> dict[tuple[str, str], Any]:
    """The files of a study whose first ticket is one of a dense network that has this value there."""
    one, (_, store) = job_of(finished), finished
    above = store.read_json(str(one.parent), "job.json")
    training = {**above["training"], key: value}
    return {
        (STRANGE, "job.json"): {**above, "training": {k: v for k, v in training.items() if v is not None}},
        (one.key, "job.json"): {**one.identity, "parent": STRANGE},
    }


@pytest.mark.parametrize("field", TRAININGS)
def test_a_ticket_of_a_dense_network_trained_otherwise_is_caught(fair: Finished, field: str) -> None:
    key, value, follow = TRAININGS[field]
    study = study_of(fair, from_elsewhere(fair, key, value))
    expected = {field, "identity", *follow}
    assert violations(study)["ticket"] == expected
    reasons = audit(study).withheld()[0, "4it", 1, "ticket"]
    assert {reason.partition(":")[0] for reason in reasons} == expected


# One measure of one record is different.


def remeasured(metrics: dict[str, Any], steps: list[int]) -> dict[str, Any]:
    """The metrics of a training with these rows of the curve only, as they would have been."""
    curve = [row for row in metrics["curve"] if row["step"] in steps]
    least = min(curve, key=lambda row: row["validation_loss"])
    most = max(curve, key=lambda row: row["validation_accuracy"])
    last = curve[-1]["step"]
    tested = {"test_loss": 1.0, "test_accuracy": 0.5}
    chosen = {
        name: {**row, **tested, "censored": row["step"] == last}
        for name, row in (("early_stop", least), ("best_accuracy", most))
    }
    return {**metrics, "curve": curve, "end": {**curve[-1], **tested}, **chosen}


def _leak(metrics: dict[str, Any]) -> dict[str, Any]:
    metrics["curve"][0]["test_accuracy"] = 0.5
    return metrics


def _later(metrics: dict[str, Any]) -> dict[str, Any]:
    """Every reading has the values of another row than the one chosen, one that no other reading has."""
    taken = {metrics[name]["step"] for name in READINGS}
    other = next(row for row in metrics["curve"] if row["step"] not in taken)
    for name in CHOSEN:
        metrics[name] = {**metrics[name], **other, "censored": False, "test_loss": 1.0, "test_accuracy": 0.5}
    return metrics


MEASURES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], set[str]]] = {
    "steps": (lambda m: remeasured(m, [4, 8]), {"own_steps", "accuracy"}),
    "evaluation_grid": (lambda m: remeasured(m, [4, 12]), {"accuracy"}),
    "learning_rate": (lambda m: {**m, "lr": 0.5}, set()),
    "model": (lambda m: {**m, "sizes": {"fc1.weight": 3}}, {"mask"}),
    "mask": (lambda m: {**m, "density": m["density"] / 10}, set()),
    "test_use": (_leak, {"stopping"}),
    "stopping": (_later, {"accuracy"}),
}


@pytest.mark.parametrize("field", MEASURES)
def test_a_ticket_measured_otherwise_is_caught(fair: Finished, field: str) -> None:
    one, (change, follow) = job_of(fair), MEASURES[field]
    metrics = change(deepcopy(fair[1].read_json(one.key, "metrics.json")))
    found = violations(study_of(fair, {(one.key, "metrics.json"): metrics}))
    assert field in found["ticket"] and found["ticket"] <= {field, *follow}
    assert found.keys() <= {
        "ticket",
        "shuffle",
        "one_shot",
        "random",
        "supermask",
        "with momentum",
    }  # controls of that ticket


ENVIRONMENTS = {
    "lottery": "0.0.1",
    "torch": "2.0.0",
    "platform": "Darwin arm64",
    "device": "NVIDIA H100",
    "torchvision": "0.1",
    "pillow": "1.0",
    "pytorch_optimizer": "1.0",
    "curvlinops": "1.0",
    "variables": "NVIDIA_TF32_OVERRIDE=1",
}
ROUNDING = {
    "python": "3.9.0",
    "threads": 8,
    "deterministic": False,
    "numpy": "1.0",
    "scipy": "1.0",
    "numba": "0.1",
    "engine": "sparse",
    "variables": "MKL_CBWR=COMPATIBLE",
}
NEWER = ("numpy", "scipy", "numba", "torchvision", "pillow", "pytorch_optimizer", "curvlinops", "variables")


@pytest.mark.parametrize("names", [NEWER, ("numpy",)])
def test_what_was_not_recorded_withholds_nothing_and_is_said_to_be_open(fair: Finished, names: tuple[str, ...]) -> None:
    one = job_of(fair)
    manifest = fair[1].find(one.key)
    assert manifest is not None
    recorded = {name: value for name, value in manifest.environment.items() if name not in names}
    study = study_of(fair, manifests={one.key: replace(manifest, environment=recorded)})
    assert violations(study) == {} and audit(study).withheld() == {}
    assert f"which {', '.join(names)} it ran on" in audit(study).unproven[0]


def test_a_package_that_is_not_installed_differs_from_no_version(fair: Finished) -> None:
    one = job_of(fair)
    manifest = fair[1].find(one.key)
    assert manifest is not None
    without = {one.key: replace(manifest, environment={**manifest.environment, "curvlinops": "not installed"})}
    study = study_of(fair, manifests=without)
    assert violations(study) == {} and audit(study).unproven[0] == audit(study_of(fair)).unproven[0]


@pytest.mark.parametrize("field", ROUNDING)
def test_what_changes_rounding_only_withholds_nothing_whatever_engine_is_asked_for(fair: Finished, field: str) -> None:
    one = job_of(fair)
    manifest = fair[1].find(one.key)
    assert manifest is not None
    planted = {one.key: replace(manifest, environment={**manifest.environment, field: ROUNDING[field]})}
    for engine in ("auto", "dense"):
        assert violations(study_of(fair, manifests=planted, engine=engine)) == {}


@pytest.mark.parametrize("field", ENVIRONMENTS)
@pytest.mark.parametrize("earlier", [False, True])
def test_a_ticket_trained_elsewhere_is_caught(fair: Finished, field: str, earlier: bool) -> None:
    one = job_of(fair)
    manifest = fair[1].find(one.key)
    assert manifest is not None
    other = {**manifest.environment, field: ENVIRONMENTS[field]}
    environment = {**manifest.environment, "earlier": [other]} if earlier else other
    planted = {one.key: replace(manifest, environment=environment)}
    assert violations(study_of(fair, manifests=planted)) == {"ticket": {field}}


def test_a_dense_network_trained_elsewhere_withholds_every_verdict_on_its_optimizer(fair: Finished) -> None:
    one = job_of(fair, "dense", 0)
    manifest = fair[1].find(one.key)
    assert manifest is not None
    planted = {one.key: replace(manifest, environment={**manifest.environment, "lottery": "0"})}
    cells = audit(study_of(fair, manifests=planted)).withheld()
    assert {cell[:1] + cell[3:] for cell in cells} == {
        *((0, name) for name in ("ticket", "shuffle", "one_shot", "random", "supermask", "longer_dense")),
        (1, "with adam"),
    }
    assert cells[0, "4it", 2, "ticket"] == [f"lottery: {manifest.environment['lottery']}, dense network 0 (seed 0)"]


def test_a_seed_that_only_one_side_has_is_caught(fair: Finished) -> None:
    lost = job_of(fair, level=2, seed=1)
    study = study_of(fair, manifests={lost.key: None})
    assert violations(study) == {"ticket": {"seeds"}}
    assert audit(study).withheld() == {(0, "4it", 2, "ticket"): ["seeds: 0, dense network 0, 1; seed 1: missing"]}
    dense_lost = job_of(fair, "dense", 0, seed=1)
    found = violations(study_of(fair, manifests={dense_lost.key: None}))
    assert found["ticket"] == found["shuffle"] == {"seeds"}


def test_a_diverged_ticket_is_a_seed_lost() -> None:
    planned = hand("seeds=3")
    found = everything(planned) | made(planned, ticket(2, 0.0, diverged=40))
    cells = audit(Study(planned, found, Recorded(planned))).withheld()
    assert cells == {(0, "init", 1, "ticket"): ["seeds: 0, 1, dense network 0, 1, 2; seed 2: diverged at step 40"]}


@pytest.mark.parametrize("state", ["rewind", "ticket", "branch", "dense"])
def test_a_record_that_is_not_what_its_key_says_is_caught(fair: Finished, state: str) -> None:
    one = job_of(fair, state, 0 if state in ("rewind", "dense") else 1)
    found = violations(study_of(fair, {(one.key, "job.json"): {**one.identity, "schema": 0}}))
    assert {field for fields in found.values() for field in fields} == {"identity"}


def test_a_record_without_an_identity_proves_nothing(fair: Finished) -> None:
    one = job_of(fair)
    found = violations(study_of(fair, {(one.key, "job.json"): None}))
    assert found["ticket"] == {"identity"}


def test_a_chain_of_parents_that_ends_nowhere_or_in_itself_is_caught(fair: Finished) -> None:
    one = job_of(fair)
    for parent in ("0" * 64, one.key, "no key at all"):
        found = violations(study_of(fair, {(one.key, "job.json"): {**one.identity, "parent": parent}}))
        assert found["ticket"] == {"identity"}


def trial(finished: Finished, best: bool) -> Job:
    """A trial of the first optimizer: the one that was chosen, or another."""
    planned, store = finished
    choice = job_of(finished, "choice", 0)
    chosen = store.read_json(choice.key, "metrics.json")["lr"]
    return next(planned.jobs[k] for k in choice.needs if (planned.jobs[k].optimizer.args["lr"] == chosen) is best)


def test_a_trial_that_looked_at_the_test_set_is_caught(fair: Finished) -> None:
    one = trial(fair, best=False)
    metrics = deepcopy(fair[1].read_json(one.key, "metrics.json"))
    metrics["end"]["test_accuracy"] = 0.5
    found = violations(study_of(fair, {(one.key, "metrics.json"): metrics}))
    assert found["dense"] == found["ticket"] == {"test_use"}


def test_a_learning_rate_that_is_not_the_best_of_its_trials_is_caught(fair: Finished) -> None:
    one = trial(fair, best=False)
    metrics = deepcopy(fair[1].read_json(one.key, "metrics.json"))
    metrics["best_accuracy"]["validation_accuracy"] = 1.0
    assert violations(study_of(fair, {(one.key, "metrics.json"): metrics}))["dense"] == {"tuning"}


def test_a_learning_rate_tuned_on_a_seed_of_the_study_is_caught(fair: Finished) -> None:
    files = {}
    for best in (True, False):
        one = trial(fair, best)
        files[one.key, "job.json"] = {**one.identity, "training": {**one.identity["training"], "seed": 0}}
    assert violations(study_of(fair, files))["dense"] == {"tuning", "identity"}


# What a recipe can do by itself.


def unfair_fields(unfair: Finished, allow: tuple[str, ...] = ()) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for finding in audit(study_of(unfair, allow=allow)).findings:
        if not finding.allowed_by:
            found.setdefault(finding.cell[1::2], set()).add(finding.field)
    return found


def test_controls_that_a_recipe_trains_otherwise_are_caught(unfair: Finished) -> None:
    assert unfair_fields(unfair) == {
        **{(point, "retrain"): {"tuning"} for point in ("init", "4it", "4it (finetune)")},
        **{("4it", name): {"own_steps"} for name in ("reinit", "small_dense")},
        **{("4it (finetune)", name): {"own_steps", "steps"} for name in ("reinit", "small_dense")},
    }
    assert unfair_fields(unfair, ("own_steps", "steps", "tuning")) == {}


def test_another_rate_for_the_same_optimizer_is_a_difference_the_branch_does_not_name() -> None:
    planned = hand("branches=[{name: retrain, optimizer: {name: adam, lr: 0.5}}]")
    found = violations(Study(planned, everything(planned), Recorded(planned)))
    assert found == {"retrain": {"learning_rate"}}
    planned = hand("branches=[{name: retrain, optimizer: {name: sgd, lr: 0.5}}]")
    assert violations(Study(planned, everything(planned), Recorded(planned))) == {}


def test_what_a_branch_or_a_way_of_rewinding_changes_is_listed(unfair: Finished) -> None:
    listed = {
        (row["rewind"], row["branch"] or row["kind"], row["field"]): row["note"]
        for row in rows(study_of(unfair))
        if row["allowed"] and row["optimizer"] == "adam"
    }
    names = {key[1:] for key in listed if key[0] == "init"}
    assert names == {
        *(("retrain", field) for field in ("optimizer", "learning_rate", "last_rate")),
        *(("other_data", field) for field in ("data", "fingerprint")),
        ("small_dense", "model"),
    } | {("reinit", "weights"), ("small_dense", "weights")}
    assert listed["4it (finetune)", "ticket", "steps"] == "named by rewind.mode finetune; 2 trainings (seeds 0, 1)"
    assert ("4it (finetune)", "ticket", "schedule") in listed


# What a recipe allows.

PLANTED = {
    *TRAININGS,
    *MEASURES,
    *ENVIRONMENTS,
    *ROUNDING,  # which withhold nothing
    "tuning",
    "own_steps",
    "seeds",
    "identity",
    "weights",
    "optimizer_state",
    "trunk",  # in test_own_trunk.py
    "accuracy",  # in test_record_frauds.py
    "last_rate",  # in test_record_frauds.py
}


def test_every_field_is_planted_somewhere_in_these_tests() -> None:
    assert {*FIELDS, *FIXED} == PLANTED


@pytest.mark.parametrize("field", [field for field in TRAININGS if field in FIELDS])
def test_an_allowed_difference_is_listed_and_withholds_nothing_itself(fair: Finished, field: str) -> None:
    key, value, follow = TRAININGS[field]
    study = study_of(fair, from_elsewhere(fair, key, value), allow=(field,))
    told_wrong = {field} & {"evaluation_grid", "metrics"}  # a curve or a measure that is not what is named
    assert violations(study)["ticket"] == {"identity", *follow, *told_wrong}
    (row,) = [row for row in rows(study) if row["allowed"] and row["field"] == field and row["kind"] == "ticket"]
    assert row["ok"] and row["note"] == "named by compare.allow; 2 trainings (levels 1, 2)"
    assert row["key"] == job_of(fair).key[:12]
    assert row["ticket"] != row["dense"]


def test_a_lost_seed_can_be_allowed(fair: Finished) -> None:
    study = study_of(fair, manifests={job_of(fair, level=2, seed=1).key: None}, allow=("seeds",))
    assert audit(study).withheld() == {}


@pytest.mark.parametrize(
    ("allow", "problem"),
    [
        ("[torch, lerning_rate]", "there is no field 'lerning_rate'; did you mean 'learning_rate'?"),
        (
            "[torch, test_use]",
            "test_use cannot be allowed to differ: the test set is read at the steps of the three readings",
        ),
        ("[torch, torch]", "the same as item 0; every one may be given once"),
    ],
)
def test_what_cannot_be_allowed_is_refused_with_key_and_line(allow: str, problem: str) -> None:
    text = f"{FAIR}compare:\n  margin: 1\n  allow: {allow}\n"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "audited.yaml")
    line = text.splitlines().index(f"  allow: {allow}") + 1
    (said,) = caught.value.problems
    assert re.match(rf"audited\.yaml:{line}:18: compare\.allow\.1: {re.escape(problem)}", said)


def test_the_documentation_lists_every_field_with_its_meaning() -> None:
    text = (DOCS / "fairness.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    assert {name: told.get(name) for name in FIELDS} == FIELDS
    assert {name: told.get(name) for name in FIXED} == FIXED


def test_every_setting_of_a_training_is_compared_by_a_field_of_its_own() -> None:
    everything_else = ["train.precision=bf16", "data.stratify=true", "metrics=[top5]"]
    everything_else += ["train.batch_norm=local", "train.ranks=2", "model.norm=batch"]
    recipe = parse_recipe(FAIR, "audited.yaml", everything_else)
    known = training_identity(recipe, "f" * 64, 0, Component("adam", {"lr": 0.1}))
    assert known.keys() - {"optimizer"} == {key for key, _, _ in TRAININGS.values()} - {"optimizer", "weight_average"}


# The proofs on metrics alone.


def curve(*losses: float) -> list[dict[str, Any]]:
    """The accuracy rises as the loss falls, so that both choose the same row."""
    return [
        {"step": 10 * at, "train_loss": 0.1, "validation_loss": loss, "validation_accuracy": 1 / (1 + loss)}
        for at, loss in enumerate(losses)
    ]


def measured(losses: tuple[float, ...], chosen: int, reading: str = "early_stop", **changed: Any) -> dict[str, Any]:
    """Metrics whose row at `reading` is the one of this index, with changed values; the other chosen row is right."""
    drawn, tested = curve(*losses), {"test_accuracy": 0.5}
    right = losses.index(min(losses))
    metrics: dict[str, Any] = {"curve": drawn, "end": {**drawn[-1], **tested}}
    for name in CHOSEN:
        at, values = (chosen, changed) if name == reading else (right, {})
        metrics[name] = {**drawn[at], **tested, "censored": at == len(losses) - 1, **values}
    return metrics


FIRST = {"early_stop": "lowest validation loss", "best_accuracy": "highest validation accuracy"}


@pytest.mark.parametrize("reading", CHOSEN)
def test_the_first_of_equal_rows_is_the_step_to_choose(reading: str) -> None:
    assert list(protocol_checks.wrong_readings(measured((3, 1, 2, 1), 1, reading), reading, True)) == []
    (said,) = protocol_checks.wrong_readings(measured((3, 1, 2, 1), 3, reading), reading, True)
    assert said == f"step 30 was chosen, the first {FIRST[reading]} is at step 10"


@pytest.mark.parametrize("reading", CHOSEN)
def test_a_network_pruned_in_training_is_judged_after_the_last_pruning(reading: str) -> None:
    metrics = measured((1, 3, 2, 4), 2)
    metrics["best_accuracy"] = metrics["early_stop"]
    assert list(protocol_checks.wrong_readings(metrics, reading, True, results_from=10)) == []
    metrics[reading] = {**metrics["curve"][0], "test_accuracy": 0.5, "censored": False}
    assert len(list(protocol_checks.wrong_readings(metrics, reading, True, results_from=10))) == 1


@pytest.mark.parametrize(
    ("early", "said"),
    [
        ({"train_loss": 0.2}, "its values at step 10 are not those of the curve"),
        ({"censored": True}, "it is called censored, step 10 of 30"),
    ],
)
def test_the_chosen_step_has_the_values_of_its_row(early: dict[str, Any], said: str) -> None:
    for reading in CHOSEN:
        assert list(protocol_checks.wrong_readings(measured((3, 1, 2, 2), 1, reading, **early), reading, True)) == [
            said
        ]


def test_the_end_is_the_last_row_and_without_a_validation_split_nothing_is_chosen() -> None:
    metrics = measured((3, 1, 2), 1)
    metrics["end"]["step"] = 10
    assert list(protocol_checks.wrong_readings(metrics, "early_stop", True)) == [
        "end is not the last row of the curve, step 20"
    ]
    found = list(protocol_checks.wrong_readings(measured((3, 1, 2), 1), "end", False))
    assert found == ["a step was chosen though no examples are held out to choose it"]
    bare = {"curve": [{"step": 0, "train_loss": 1}], "end": {"step": 0, "train_loss": 1, "test_r2": 0.5}}
    assert list(protocol_checks.wrong_readings({**bare, "early_stop": None}, "end", False)) == []
    assert list(protocol_checks.wrong_readings(bare, "early_stop", True)) == [
        "no step was chosen by the validation accuracy",
        "no step was chosen by the validation loss",
        "there is no test measure at early_stop, which the recipe reports",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best_test_accuracy": 0.9}, "test values stand in best_test_accuracy"),
        ({"other": {"deep": [{"test_loss": 1}]}}, "test values stand in other"),
    ],
)
def test_test_values_stand_nowhere_but_at_the_end_and_the_chosen_step(change: dict[str, Any], said: str) -> None:
    assert list(protocol_checks.leaks(measured((3, 1, 2), 1))) == []
    assert list(protocol_checks.leaks({**measured((3, 1, 2), 1), **change})) == [said]


def test_one_step_has_one_test_accuracy() -> None:
    assert list(protocol_checks.leaks(measured((3, 2, 1), 2))) == []
    found = list(protocol_checks.leaks(measured((3, 2, 1), 2, test_accuracy=0.6)))
    assert found == ["test_accuracy has two values at step 20"]


@pytest.mark.parametrize(
    ("length", "whole", "total", "steps"),
    [
        ("500it", "10ep", 4690, 500),
        ("init", "10ep", 4690, 0),
        ("2ep", "10ep", 4690, 938),
        ("2ep", "4690it", 4690, None),
        ("3ep", "7ep", 100, None),
    ],
)
def test_lengths_are_told_in_steps_where_the_records_can(length: str, whole: str, total: int, steps: int) -> None:
    assert protocol_checks.in_steps(length, whole, total) == steps


def test_what_records_cannot_prove_is_told() -> None:
    planned = hand("train.length=10ep", "train.evaluate_every=1ep")
    environment = {"torch": "2.11.0", "device": "cpu", "threads": 1, "deterministic": True, "lottery": "0.1.0"}
    (summary,) = rows(Study(planned, everything(planned, environment=environment), Recorded(planned)))
    assert summary["ok"] and "do not prove python is not recorded" not in summary["note"]
    assert "that 10ep are the steps trained" in summary["note"] and "which python" in summary["note"]


@pytest.mark.slow
def test_thousands_of_trainings_are_audited_in_seconds() -> None:
    planned = hand("seeds=100", "prune.levels=9", "branches=[reinit, shuffle]")
    study = Study(planned, {job.key: record(job) for job in planned if job.kind != "rewind"}, Recorded(planned))
    began = time.monotonic()
    assert audit(study).withheld() == {} and len(study.found) == 2800
    assert time.monotonic() - began < 10


def test_each_identity_is_read_once() -> None:
    planned = hand("seeds=2", "prune.levels=3", "branches=[reinit]")
    read: list[str] = []

    class Counting(Recorded):
        def read_json(self, key: str, name: str) -> Any:
            read.append(key)
            return super().read_json(key, name)

    study = Study(planned, everything(planned), Counting(planned))
    rows(study)
    audit(study).withheld()
    assert sorted(read) == sorted(planned.jobs)


def test_a_control_without_a_step_has_no_grid_to_be_held_to_where_lengths_are_in_epochs(tmp_path: Path) -> None:
    text = micro_text(
        "data={name: digits, validation: 200, limit: 300}",
        "model.widths=[8]",
        "train.length=2ep",
        "train.evaluate_every=1ep",
        "rewind=init",
        "branches=[supermask]",
    )
    planned, store = ran(text, tmp_path)
    found = study_of((planned, store))
    assert violations(found) == {} and any(job.branch for job in planned)
