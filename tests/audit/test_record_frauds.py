"""Frauds on the records of a store, each planted with sealed manifests and true keys, and the check that finds it.

Who edits a store can rewrite any file and its hash; the identity in job.json, which the key is a hash of, stays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lottery.analysis.views import rows_of
from lottery.audit.audit import audit
from lottery.audit.last_rates import last_rate
from lottery.audit.left_out import left_out
from lottery.audit.repeated import repeated
from lottery.files.tensors import encode
from lottery.plan.jobs import Job
from lottery.plan.kinds import CORRECT_FILE
from lottery.plan.origins import TICKET
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import pack_correct, read_correct, read_mask, read_state
from lottery.results.other_jobs import family
from lottery.results.study import Study, study
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import look, prepare
from lottery.runner.run import work
from lottery.store.manifest import MANIFEST, FileRecord, Manifest
from lottery.store.store import Store
from lottery.verification.records import check_records
from lottery.verification.states import jobs_with_states, prove_job
from tests.support import ROOT
from tests.support.masks import other_bits
from tests.support.micro import micro_text

TEXT = micro_text(
    "data={name: digits, validation: 100, limit: 300}",
    "model.widths=[12]",
    "train.optimizer.lr=1e-2",
    "prune.levels=3",
    "rewind=[init, 4it]",
    "seeds=5",
    "branches=[{name: shuffle, levels: 1}]",
    "compare={margin: 5}",
)
RECIPE = parse_recipe(TEXT, "forged.yaml")


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("genuine") / "store"
    context = prepare(Request(RECIPE, root, root, device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return root


class Forger:
    """A copy of the store to be edited, and what was edited. Files are links to the genuine ones until then."""

    def __init__(self, genuine: Path, root: Path):
        shutil.copytree(genuine, root, copy_function=os.link)
        self.store = Store(root)
        self.plan = look(Request(RECIPE, root, root, device="cpu", deterministic=True)).plan
        self.edited: list[str] = []

    def job(self, kind: str = "ticket", level: int = 1, seed: int = 0, to: str = "init") -> Job:
        return next(
            job
            for job in self.plan
            if (job.kind, job.level, job.seed) == (kind, level, seed)
            and (
                kind == "dense"
                or (job.rewind is not None and (str(job.rewind.to) if job.rewind.to.value else "init") == to)
            )
        )

    def write(self, job: Job, **files: bytes) -> None:
        """Replace files, by their names with `__` for the dot, and seal the manifest anew."""
        folder, manifest = self.store.folder(job.key), self.manifest(job)
        kept = dict(manifest.files)
        for name, data in files.items():
            path = folder / name.replace("__", ".")
            _put(path, data)
            kept[path.name] = FileRecord.of(data)
        self.seal(job, replace(manifest, files=kept))

    def metrics(self, job: Job, change: Callable[[dict[str, Any]], None]) -> None:
        metrics = self.store.read_json(job.key, "metrics.json")
        change(metrics)
        self.write(job, metrics__json=json.dumps(metrics).encode())

    def become(self, job: Job, other: Job) -> None:
        """All files of another job under this one's key, but for the identity."""
        folder, theirs, manifest = self.store.folder(job.key), self.manifest(other), self.manifest(job)
        files = {name: record for name, record in theirs.files.items() if name != "job.json"}
        for name in files:
            _put(folder / name, (self.store.folder(other.key) / name).read_bytes())
        self.seal(job, replace(manifest, files={"job.json": manifest.files["job.json"], **files}))

    def manifest(self, job: Job) -> Manifest:
        return Manifest.read(str(self.store.folder(job.key)), job.key)

    def seal(self, job: Job, manifest: Manifest) -> None:
        _put(self.store.folder(job.key) / MANIFEST, manifest.encode())
        self.edited.append(job.key)

    def study(self, *overrides: str) -> Study:
        return study(parse_recipe(TEXT, "forged.yaml", overrides), store=self.store.root)

    def context(self) -> RunContext:
        root = self.store.root
        return look(Request(RECIPE, root, root, device="cpu", deterministic=True))


def _put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # it may be a link to a genuine one
    path.write_bytes(data)


@pytest.fixture
def forger(genuine: Path, tmp_path: Path) -> Forger:
    return Forger(genuine, tmp_path / "store")


def found_by_records(study: Study) -> set[str]:
    """The checks of `lottery verify RECIPE` that fail."""
    return {check.name for check in check_records(study) if not check.holds}


def found_again(forger: Forger, *, every: bool = False) -> set[str]:
    """The checks of `lottery verify RECIPE --again --deterministic` that fail for what was edited."""
    context = forger.context()
    jobs = [job for job in jobs_with_states(context) if every or job.key in forger.edited]
    return {f"{proof.check} again" for job in jobs for proof in prove_job(context, job) if proof.wrong}


# Each fraud edits a store; then the checks on records that find it, and those of --again.


def level_3_with_the_files_of_level_1(forger: Forger) -> None:
    for seed in RECIPE.seeds:
        forger.become(forger.job(level=3, seed=seed), forger.job(level=1, seed=seed))


def densities_a_tenth(forger: Forger) -> None:
    def tenth(metrics: dict[str, Any]) -> None:
        metrics["density"] /= 10

    for seed in RECIPE.seeds:
        forger.metrics(forger.job(level=2, seed=seed), tenth)


def all_counts_a_half_to_match_their_density(forger: Forger) -> None:
    def half(metrics: dict[str, Any]) -> None:
        metrics["alive"] = {name: count // 2 for name, count in metrics["alive"].items()}
        metrics["density"] = sum(metrics["alive"].values()) / sum(metrics["sizes"].values())

    forger.metrics(forger.job(level=2), half)


def a_control_with_half_its_weights(forger: Forger) -> None:
    def half(metrics: dict[str, Any]) -> None:
        metrics["alive"] = {name: count // 2 for name, count in metrics["alive"].items()}
        metrics["density"] = sum(metrics["alive"].values()) / sum(metrics["sizes"].values())

    forger.metrics(forger.job("branch"), half)


def a_mask_outside_the_one_above(forger: Forger) -> None:
    job = forger.job(level=2)
    mask = other_bits(read_mask(forger.store, job.key))
    forger.write(job, mask__safetensors=encode(*mask.pack()))


def a_fuller_mask_with_weights_and_metrics_to_match(forger: Forger) -> None:
    job, above = forger.job(level=2), forger.job(level=1)
    forger.become(job, above)


def the_weights_of_the_level_above(forger: Forger) -> None:
    above = forger.store.read(forger.job(level=1).key, "weights.safetensors")
    forger.write(forger.job(level=2), weights__safetensors=above)


def tickets_swapped_between_seeds(forger: Forger) -> None:
    one, other = forger.job(level=1, seed=0), forger.job(level=1, seed=1)
    folder = forger.store.folder(one.key)
    manifest, files = forger.manifest(one), {path.name: path.read_bytes() for path in folder.iterdir()}
    forger.become(one, other)
    forger.write(other, **{name.replace(".", "__"): files[name] for name in manifest.files if name != "job.json"})


def the_last_tickets_swapped_between_seeds(forger: Forger) -> None:
    forger.become(forger.job(level=3, seed=0), forger.job(level=3, seed=1))


def another_mask_of_the_right_counts_inside_the_one_above(forger: Forger) -> None:
    job = forger.job(level=3)
    above, mask = read_mask(forger.store, forger.job(level=2).key), read_mask(forger.store, job.key)
    spare = {name: above[name] & ~mask[name] for name in mask}
    moved = {}
    for name, bits in mask.items():
        flat, free = bits.flatten().clone(), spare[name].flatten().nonzero().flatten()
        kept = flat.nonzero().flatten()[: len(free)]
        flat[kept], flat[free[: len(kept)]] = False, True
        moved[name] = flat.reshape(bits.shape)
    forger.write(job, mask__safetensors=encode(*Mask(moved).pack()))


def accuracies_of_tickets_5_points_higher(forger: Forger) -> None:
    def higher(metrics: dict[str, Any]) -> None:
        for reading in READINGS:
            metrics[reading]["test_accuracy"] += 0.05

    forger.metrics(forger.job(level=2), higher)


def _raised(forger: Forger, job: Job) -> None:
    correct: dict[str, Tensor] = {n: torch.from_numpy(bits) for n, bits in read_correct(forger.store, job.key).items()}
    raised = dict[str, Tensor]()
    for reading, bits in correct.items():
        raised[reading] = bits.clone()
        raised[reading][(~bits).nonzero().flatten()[: len(bits) // 20]] = True

    def as_the_bits(metrics: dict[str, Any]) -> None:
        for reading in READINGS:
            metrics[reading]["test_accuracy"] = int(raised[reading].sum()) / len(raised[reading])

    forger.metrics(job, as_the_bits)
    forger.write(job, correct__safetensors=encode(*pack_correct(raised)))


def accuracies_and_bits_of_a_ticket_moved_together(forger: Forger) -> None:
    _raised(forger, forger.job(level=2))


def accuracies_and_bits_of_a_dense_network_moved_together(forger: Forger) -> None:
    _raised(forger, forger.job("dense", 0))


def bits_taken_away(forger: Forger) -> None:
    job = forger.job(level=2)
    manifest = forger.manifest(job)
    forger.seal(job, replace(manifest, files={n: r for n, r in manifest.files.items() if n != CORRECT_FILE}))


def _with_weights(forger: Forger, job: Job, scale: float) -> None:
    tensors, _ = read_state(forger.store, job.key)
    changed = {n: v * scale if n.startswith("model/") else v for n, v in tensors.items()}
    forger.write(job, state__safetensors=encode(changed))


def an_initial_state_replaced(forger: Forger) -> None:
    _with_weights(forger, forger.job("rewind", 0), 1.5)


def a_rewind_state_replaced(forger: Forger) -> None:
    _with_weights(forger, forger.job("rewind", 0, to="4it"), 1.5)


def a_rewind_state_of_another_seed(forger: Forger) -> None:
    forger.become(forger.job("rewind", 0, seed=0, to="4it"), forger.job("rewind", 0, seed=1, to="4it"))


def a_rewind_state_of_a_later_step(forger: Forger) -> None:
    job = forger.job("rewind", 0, to="4it")
    _, values = read_state(forger.store, job.key)
    forger.write(job, state__json=json.dumps({**values, "step": 8}).encode())


def a_longer_training(forger: Forger) -> None:
    def longer(metrics: dict[str, Any]) -> None:
        last = metrics["curve"][-1]
        metrics["curve"] += [
            {**last, "step": step, "validation_accuracy": 0.0, "validation_loss": 9.0} for step in (16, 20, 24)
        ]
        metrics["end"] |= metrics["curve"][-1]
        for reading in ("best_accuracy", "early_stop"):
            metrics[reading]["censored"] = False

    forger.metrics(forger.job(level=2), longer)


def a_step_that_validation_did_not_choose(forger: Forger) -> None:
    def earlier(metrics: dict[str, Any]) -> None:
        row = next(row for row in metrics["curve"] if row["step"] not in {metrics[name]["step"] for name in READINGS})
        metrics["best_accuracy"] |= {**row, "censored": False}

    forger.metrics(forger.job(level=2), earlier)


def an_identity_edited(forger: Forger) -> None:
    job = forger.job(level=2)
    prune = {**job.identity["prune"], "fraction": "1/4"}
    forger.write(job, job__json=json.dumps({**job.identity, "prune": prune}).encode())


Fraud = Callable[[Forger], None]
FRAUDS: dict[Fraud, tuple[set[str], set[str]]] = {  # the checks on records that find it, those of --again
    level_3_with_the_files_of_level_1: ({"mask"}, {"mask again"}),
    densities_a_tenth: ({"mask"}, set()),
    all_counts_a_half_to_match_their_density: ({"mask"}, set()),
    a_control_with_half_its_weights: ({"mask"}, set()),
    a_mask_outside_the_one_above: ({"mask"}, {"mask again", "weights again"}),
    a_fuller_mask_with_weights_and_metrics_to_match: ({"mask"}, {"mask again"}),
    the_weights_of_the_level_above: ({"mask"}, {"weights again"}),
    tickets_swapped_between_seeds: ({"mask"}, {"mask again", "weights again"}),
    the_last_tickets_swapped_between_seeds: ({"mask"}, {"mask again", "weights again"}),
    another_mask_of_the_right_counts_inside_the_one_above: (set(), {"mask again", "weights again"}),
    accuracies_of_tickets_5_points_higher: ({"accuracy"}, {"weights again"}),
    accuracies_and_bits_of_a_ticket_moved_together: (set(), {"weights again"}),
    accuracies_and_bits_of_a_dense_network_moved_together: (set(), {"weights again"}),
    bits_taken_away: ({"accuracy"}, set()),
    an_initial_state_replaced: (set(), {"initial state again"}),
    a_rewind_state_replaced: (set(), {"rewind state again"}),
    a_rewind_state_of_another_seed: ({"state"}, {"rewind state again"}),
    a_rewind_state_of_a_later_step: ({"state"}, {"rewind state again"}),
    a_longer_training: ({"steps"}, {"weights again"}),
    a_step_that_validation_did_not_choose: ({"stopping"}, {"weights again"}),
    an_identity_edited: ({"identity"}, set()),
}


@pytest.mark.parametrize("fraud", FRAUDS, ids=lambda fraud: fraud.__name__)
def test_a_fraud_on_records_is_found_by_the_check_that_is_for_it(forger: Forger, fraud: Fraud) -> None:
    records, again = FRAUDS[fraud]
    fraud(forger)
    study = forger.study()
    assert found_by_records(study) == records
    assert found_again(forger) == again
    assert bool(audit(study).withheld()) == bool(records - {"state"})


def test_a_genuine_study_passes_every_check(forger: Forger) -> None:
    assert found_by_records(forger.study()) == set()
    assert found_again(forger, every=True) == set()


def test_the_best_three_of_five_seeds_are_told_with_the_difference_over_all(forger: Forger) -> None:
    here, every = forger.study("seeds=[0, 2, 4]"), forger.study()
    assert not left_out(every).seeds and left_out(here).seeds == {0: [1, 3]}
    means = {(row["rewind"], row["level"]): row["difference"] for row in rows_of(every, "verdicts")}
    ours = {(row["rewind"], row["level"]): row for row in rows_of(here, "verdicts")}
    for place, row in ours.items():
        over = f"over all 5 the mean difference to dense is {100 * means[place]:+.2f} points"
        here_only = f"(over those of the recipe {100 * row['difference']:+.2f})"
        assert f"the store has seeds 1, 3 as well: {over} {here_only}" in row["reason"]
    (told,) = [row["note"] for row in rows_of(here, "audit") if row["field"] == "left_out"]
    assert told == "the store has seeds 1, 3 of this study, left out by the recipe"
    assert not [row for row in rows_of(every, "audit") if row["field"] == "left_out"]


def test_levels_and_controls_that_the_recipe_leaves_out_are_told(forger: Forger) -> None:
    fewer = forger.study("prune.levels=2", "branches=[]", "rewind=init")
    every = {(row["rewind"], row["level"]): row for row in rows_of(forger.study(), "verdicts")}
    (told,) = [row["note"] for row in rows_of(fewer, "audit") if row["field"] == "left_out"]
    assert told.startswith("the store has, left out by the recipe: shuffle at 50 % (")
    assert f"12.5 % ({100 * every['init', 3]['difference']:+.2f} points, 5 seeds)" in told
    assert "4it" not in told  # tickets of another rewind point are another study


def test_a_margin_of_30_points_is_told_with_the_spread_it_is_compared_to(forger: Forger) -> None:
    study = forger.study("compare.margin=30")
    (told,) = [row["note"] for row in rows_of(study, "audit") if row["field"] == "margin"]
    assert told.startswith("the margin of 30 points is ") and "times the spread of the 5 dense networks" in told
    assert all("the margin of 30 points" in row["reason"] for row in rows_of(study, "verdicts"))
    assert not [row for row in rows_of(forger.study("compare.margin=0.01"), "audit") if row["field"] == "margin"]


def test_seeds_that_are_copies_of_another_are_told_and_genuine_ones_are_not(forger: Forger) -> None:
    assert not [row for row in rows_of(forger.study(), "audit") if row["field"] == "repeated"]
    for seed in (1, 3):
        forger.become(forger.job("branch", seed=seed), forger.job("branch"))
    for level in range(4):
        kind = "ticket" if level else "dense"
        forger.become(forger.job(kind, level, seed=4), forger.job(kind, level, seed=2))
    for to in ("init", "4it"):
        forger.become(forger.job("rewind", 0, seed=4, to=to), forger.job("rewind", 0, seed=2, to=to))
    study = forger.study()
    pair = "seeds 2, 4 have one and the same curve, to the last digit"
    assert [row["note"] for row in rows_of(study, "audit") if row["field"] == "repeated"] == [
        f"dense: {pair}; they count as one seed",
        f"ticket, rewound to init at 50 %, 25 %, 12.5 %: {pair}; they count as one seed",
        "shuffle, rewound to init at 50 %: seeds 0, 1, 3 have one and the same curve, to the last digit; "
        "they count as one seed",
    ]
    reasons = {(row["rewind"], row["level"]): row["reason"] for row in rows_of(study, "verdicts")}
    assert all(pair in reason for reason in reasons.values())  # the dense network is everybody's
    assert found_by_records(study) == set()
    assert found_again(forger) == {"initial state again", "rewind state again", "weights again"}


def test_curves_that_do_not_move_are_no_copies_of_each_other(forger: Forger) -> None:
    def still(metrics: dict[str, Any]) -> None:
        first = {**metrics["curve"][0], "train_loss": None, "validation_accuracy": 0.1, "validation_loss": 2.3}
        metrics["curve"] = [{**first, "step": row["step"]} for row in metrics["curve"]]

    for seed in (0, 1):
        forger.metrics(forger.job(level=3, seed=seed), still)
    assert not repeated(forger.study())


NOTHING_CAN = """
a curve edited until it chooses another step
accuracies and bits of a control moved together
seeds taken out of the store
"""


def _chosen_at_the_end(forger: Forger) -> None:
    """A ticket read at its last step by an edit of the rows before, which no weights are kept of."""
    job = next(
        job
        for job in forger.plan
        if job.kind == "ticket"
        and job.seed in (0, 2, 4)
        and "best_accuracy.safetensors" in forger.manifest(job).files
        and forger.store.read_json(job.key, "metrics.json")["early_stop"]["censored"]
    )

    def last_is_best(metrics: dict[str, Any]) -> None:
        *before, last = metrics["curve"]
        for row in before:
            row["validation_accuracy"] = min(row["validation_accuracy"], last["validation_accuracy"] - 0.01)
        metrics["best_accuracy"] = {**metrics["end"], "censored": True}

    forger.metrics(job, last_is_best)
    correct: dict[str, Tensor] = {n: torch.from_numpy(bits) for n, bits in read_correct(forger.store, job.key).items()}
    forger.write(job, correct__safetensors=encode(*pack_correct({**correct, "best_accuracy": correct["end"]})))
    manifest = forger.manifest(job)
    files = {name: file for name, file in manifest.files.items() if name != "best_accuracy.safetensors"}
    forger.seal(job, replace(manifest, files=files))


def test_what_nothing_can_find_is_found_by_nothing_and_stands_in_the_documentation(forger: Forger) -> None:
    _raised(forger, forger.job("branch"))
    _chosen_at_the_end(forger)
    for job in forger.plan:
        if job.seed in (1, 3):
            shutil.rmtree(forger.store.folder(job.key))
    study = forger.study("seeds=[0, 2, 4]")
    assert found_by_records(study) == set() and found_again(forger) == set() and not left_out(study).seeds
    text = (ROOT / "docs" / "fairness.md").read_text()
    for fraud in NOTHING_CAN.strip().splitlines():
        assert f"| {fraud} | nothing" in text


def test_every_fraud_stands_in_the_documentation_with_the_checks_that_find_it() -> None:
    text = (ROOT / "docs" / "fairness.md").read_text()
    told = {cells[1].strip(): cells[2] for line in text.splitlines() if len(cells := line.split("|")) == 4}
    for fraud, (records, again) in FRAUDS.items():
        row = told[fraud.__name__.replace("_", " ")]
        assert {name for name in ALL_CHECKS if f"`{name}`" in row} == records | again, fraud.__name__


ALL_CHECKS = {
    *("mask", "accuracy", "steps", "evaluation_grid", "stopping", "identity", "state"),
    *("mask again", "weights again", "initial state again", "rewind state again"),
}


# The index of identities.


def test_an_index_of_identities_is_as_good_as_reading_them_all(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    every = family(forger.store)
    monkeypatch.setattr("lottery.results.other_jobs.WORTH_A_NOTE", 1)
    assert family(forger.store) == every
    assert (forger.store.root / "notes" / "identities" / "index.json").is_file()
    monkeypatch.setattr("lottery.results.other_jobs._read", lambda *_: pytest.fail("read again"))
    assert family(forger.store) == every
    assert len(every.paths) == sum(job.kind in ("dense", "ticket", "branch") for job in forger.plan)


# Last learning rates.


@pytest.mark.parametrize(
    ("schedule", "origin", "share", "expected"),
    [
        ({"name": "constant", "version": 1}, None, None, 0.5),
        ({"name": "polynomial", "version": 1, "floor": 0.2}, None, None, 0.5 * (0.2 + 0.8 / 10)),
        ({"name": "multi_step", "version": 1, "at": ["5it", "9it"]}, None, None, 0.005),
        ({"name": "polynomial", "version": 1}, TICKET["finetune"], None, 0.05),
        ({"name": "polynomial", "version": 1}, TICKET["finetune"], 0.3, 0.15),
        ({"name": "multi_step", "version": 1, "at": ["1ep"]}, None, None, None),
    ],
)
def test_the_last_rate_is_that_of_the_last_step(
    schedule: dict[str, Any], origin: Any, share: float | None, expected: float | None
) -> None:
    found = last_rate({"schedule": schedule, "length": "10it"}, 0.5, origin, share, 10)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_a_control_that_ends_at_another_rate_is_listed_with_what_it_follows_from(tmp_path: Path) -> None:
    branch = "{name: retrain, optimizer: {name: adam, lr: 1e-2}, schedule: polynomial}"
    recipe = parse_recipe(TEXT, "r", [f"branches=[{branch}]", "seeds=1", "prune.levels=1", "rewind=init"])
    context = prepare(Request(recipe, tmp_path, tmp_path / "store", device="cpu", deterministic=True))
    assert list(work(context))
    rows = rows_of(study(recipe, store=tmp_path / "store"), "audit")
    (row,) = [row for row in rows if row["field"] == "last_rate"]
    assert (row["ticket"], row["dense"], row["branch"]) == (f"{0.01 / 12:.4g}", "0.01", "retrain")
    assert row["ok"] and row["note"] == "named by schedule"
