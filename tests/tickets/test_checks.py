"""Edits of a ticket file that keep its key: each is found by the check that is named, or listed as only said."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lottery.cli.main import main
from lottery.data.load import load
from lottery.device import machine
from lottery.errors import DamagedFile, LotteryError, UsageError
from lottery.files.tensors import decode, encode, part
from lottery.network.layout import state_of
from lottery.plan.jobs import Job
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import READINGS
from lottery.results.artifacts import pack, unpack
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.tickets import file as ticketfile
from lottery.tickets.checks import checks, findings
from lottery.tickets.container import sealed
from lottery.tickets.export import export
from lottery.tickets.file import Ticket, read
from lottery.tickets.forms import export_network
from lottery.tickets.measures import measure
from lottery.tickets.onnx_form import PACKAGES
from lottery.tickets.retrain import context_of_ticket, retrain
from lottery.values import Component
from tests.support.micro import micro_text

TEXT = micro_text(
    "data={name: digits, validation: 100, limit: 300}",
    "model={name: lenet, widths: [8, 6], norm: batch}",
    "train.optimizer=adam",
    "prune={fraction: 0.5, levels: 3, rates: {output: 0.5}}",
    "rewind=[init, 4it]",
    "tune={trials: 2}",
)
CPU = machine("cpu", deterministic=True)


@dataclass(frozen=True)
class Study:
    context: RunContext
    folder: Path

    @property
    def store(self) -> Store:
        return self.context.store

    def ticket(self, level: int, to: str = "0it") -> Job:
        jobs = [job for job in self.context.plan if job.kind == "ticket" and job.level == level]
        return next(job for job in jobs if job.rewind is not None and str(job.rewind.to) == to)


def run(text: str, folder: Path) -> Study:
    context = prepare(Request(parse_recipe(text, "r.yaml"), folder, folder / "store", device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return Study(context, folder)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(TEXT, tmp_path_factory.mktemp("forged"))


@dataclass
class File:
    """A ticket file taken apart: what `seal` puts together again has a hash that is right."""

    tensors: dict[str, Tensor]
    head: dict[str, str]
    about: dict[str, Any]

    @property
    def mask(self) -> Mask:
        return Mask.unpack(part(self.tensors, "mask/"), self.head)

    def put(self, mask: Mask) -> None:
        self.tensors |= {f"mask/{name}": bits for name, bits in mask.pack()[0].items()}

    def seal(self, folder: Path) -> Ticket:
        head = {**self.head, "about": json.dumps(self.about, sort_keys=True)}
        path = folder / "forged.ticket"
        path.write_bytes(sealed(self.tensors, head))
        return read(path)


def opened(study: Study, level: int = 3, to: str = "0it") -> File:
    return apart(export(study.store, study.ticket(level, to).key, study.folder))


def apart(content: bytes) -> File:
    tensors, head = decode(content)
    del head["sha256"]
    return File(tensors, head, json.loads(head["about"]))


def failed(ticket: Ticket, study: Study, *, again: bool = False, data: bool = False) -> set[str]:
    context = context_of_ticket(ticket, study.context.splits, CPU, study.folder / "nothing") if data or again else None
    return {finding.name for finding in checks(ticket, context, again=again) if not finding.holds}


def accuracy(file: File) -> None:
    for reading in ("best_accuracy", "early_stop", "end"):
        file.about["evidence"]["ticket"][reading]["test_accuracy"] = 0.99


def one_point(file: File) -> None:
    file.about["evidence"]["ticket"]["best_accuracy"]["test_accuracy"] += 0.01


def dense_accuracy(file: File) -> None:
    file.about["evidence"]["dense"]["end"]["test_accuracy"] = 0.1


def another_measure(file: File) -> None:
    file.about["evidence"]["ticket"]["end"]["test_top5"] = 0.999


def validation_accuracy(file: File) -> None:
    file.about["evidence"]["ticket"]["early_stop"]["validation_accuracy"] += 0.03


def density(file: File) -> None:
    file.about["evidence"]["density"] = 0.001


def start_weights(file: File) -> None:
    for name in file.tensors:
        if name.startswith("start/"):
            file.tensors[name] = torch.ones_like(file.tensors[name])


def one_start_weight(file: File) -> None:
    weight = file.tensors["start/fc1.weight"]
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))


def all_alive(file: File) -> None:
    full = Mask({name: torch.ones_like(bits) for name, bits in file.mask.items()})
    file.put(full)
    for name, bits in full.items():
        for place in {name.split("/fc")[0] for name in file.tensors if name.startswith(("start/", "trained/"))}:
            file.tensors[f"{place}/{name}"] = torch.randn(bits.numel())
    file.about["evidence"] |= {"alive": full.alive(), "density": 1.0}


def one_weight_more(file: File) -> None:
    mask = {name: bits.clone() for name, bits in file.mask.items()}
    bits = mask["fc1.weight"].view(-1)
    bits[int((~bits).nonzero()[0])] = True
    file.put(Mask(mask))


def moved_mask(file: File) -> None:
    """Another mask of the same counts, with the weights that the initialization has there."""
    start, mask = _initial(file), file.mask
    other = Mask({name: bits.view(-1).flip(0).view(bits.shape) for name, bits in mask.items()})
    file.put(other)
    file.tensors |= {f"start/{name}": value for name, value in pack(start, other).items()}


def _initial(file: File) -> dict[str, Tensor]:
    from lottery.network.build import build_model

    made = build_model(
        Component("lenet", {"widths": [8, 6], "norm": "batch"}), (1, 8, 8), 10, init=Component("glorot_normal"), seed=0
    )
    return state_of(made)


def recipe_rewind(file: File) -> None:
    file.about["recipe"]["rewind"] = [{"to": "8it", "mode": "finetune"}]


def recipe_seeds(file: File) -> None:
    file.about["recipe"]["seeds"] = [99]


def recipe_length(file: File) -> None:
    file.about["recipe"]["train"]["length"] = "24it"


def recipe_report(file: File) -> None:
    file.about["recipe"]["report"] = "end"


def rate(file: File) -> None:
    file.about["recipe"]["train"]["optimizer"][0]["lr"] = 0.5


def rate_and_trial(file: File) -> None:
    rate(file)
    file.about["choice"][1]["training"]["optimizer"]["lr"] = 0.5


def rate_without_trial(file: File) -> None:
    rate(file)
    file.about["choice"] = file.about["choice"][:1]


def step(file: File) -> None:
    file.about["step"] = 10


def trained_hash(file: File) -> None:
    file.about["evidence"]["trained_sha256"] = "0" * 64


def trained_weights(file: File) -> None:
    """Others than the maker's, with a hash that is right."""
    import hashlib

    for name, value in file.tensors.items():
        if name.startswith("trained/") and value.is_floating_point():
            value.mul_(-1).add_(0.1)
    made = hashlib.sha256(encode(part(file.tensors, "trained/end/"))).hexdigest()
    file.about["evidence"]["trained_sha256"] = made


def no_trained_weights(file: File) -> None:
    file.tensors = {name: value for name, value in file.tensors.items() if not name.startswith("trained/")}


def optimizer_state(file: File) -> None:
    file.tensors["optimizer/x"] = torch.zeros(1)
    file.about["optimizer"] = {"tensor": "optimizer/x"}


def stray_tensor(file: File) -> None:
    file.tensors["weights/fc1.weight"] = torch.zeros(3)


def double_precision(file: File) -> None:
    file.tensors["start/fc1.bias"] = file.tensors["start/fc1.bias"].double()


def not_finite(file: File) -> None:
    file.tensors["start/fc1.bias"][0] = torch.nan


def no_statistics(file: File) -> None:
    file.tensors["trained/end/after1.0.running_var"][0] = torch.inf


def smaller_inputs(file: File) -> None:
    file.about["shape"] = [1, 4, 4]


def other_shape(file: File) -> None:
    file.about["shape"] = [1, 4, 16]  # as many inputs


def classes(file: File) -> None:
    file.about["classes"] = 11


def alive(file: File) -> None:
    file.about["evidence"]["alive"]["fc1.weight"] -= 1


def dense_steps(file: File) -> None:
    file.about["evidence"]["dense"]["end"]["step"] = 6


def parent(file: File) -> None:
    file.about["chain"][1]["parent"] = "0" * 64


def length_of_the_chain(file: File) -> None:
    del file.about["chain"][1]


def shorter_training(file: File) -> None:
    file.about["chain"][-1]["training"]["length"] = "6it"


def no_prune(file: File) -> None:
    del file.about["chain"][1]["prune"]


FOUND: list[tuple[Callable[[File], None], str]] = [
    (density, "density"),
    (start_weights, "start weights"),
    (one_start_weight, "start weights"),
    (all_alive, "mask"),
    (one_weight_more, "mask"),
    (recipe_rewind, "recipe"),
    (recipe_seeds, "recipe"),
    (recipe_length, "recipe"),
    (recipe_report, "recipe"),
    (rate, "rate"),
    (rate_and_trial, "rate"),
    (rate_without_trial, "rate"),
    (step, "step"),
    (trained_hash, "trained weights"),
    (no_trained_weights, "trained weights"),
    (optimizer_state, "optimizer"),
    (stray_tensor, "weights"),
    (double_precision, "weights"),
    (not_finite, "weights"),
    (no_statistics, "weights"),
    (smaller_inputs, "mask"),
    (classes, "mask"),
    (alive, "density"),
    (dense_steps, "steps"),
    (parent, "key"),
    (length_of_the_chain, "key"),
    (shorter_training, "key"),
    (no_prune, "key"),
]
FOUND_WITH_DATA: list[tuple[Callable[[File], None], str]] = [
    (accuracy, "ticket end"),
    (one_point, "ticket best_accuracy"),
    (validation_accuracy, "ticket early_stop"),
    (another_measure, "ticket end"),
    (trained_weights, "ticket best_accuracy"),
    (other_shape, "data"),
]
SAID: list[tuple[Callable[[File], None], str]] = [
    (dense_accuracy, "dense end"),
    (moved_mask, "mask content"),
]


@pytest.mark.parametrize(("edit", "name"), FOUND, ids=lambda value: getattr(value, "__name__", value))
def test_an_edit_that_keeps_the_key_is_found_without_data(
    edit: Callable[[File], None], name: str, study: Study, tmp_path: Path
) -> None:
    file = opened(study)
    edit(file)
    ticket = file.seal(tmp_path)
    if name != "key":
        assert ticket.key == study.ticket(3).key
    assert name in failed(ticket, study)
    with pytest.raises(LotteryError, match=f"the file is not trained, .*{name}: "):
        retrain(ticket, study.folder, tmp_path / "store", device="cpu")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(("edit", "name"), FOUND_WITH_DATA, ids=lambda value: getattr(value, "__name__", value))
def test_an_edit_of_what_data_tell_is_found_with_data(
    edit: Callable[[File], None], name: str, study: Study, tmp_path: Path
) -> None:
    file = opened(study)
    edit(file)
    ticket = file.seal(tmp_path)
    assert failed(ticket, study) == set()
    assert name in {finding.name for finding in findings(ticket) if finding.holds is None}
    assert name in failed(ticket, study, again=True)


@pytest.mark.parametrize(("edit", "name"), SAID, ids=lambda value: getattr(value, "__name__", value))
def test_an_edit_that_only_training_the_chain_again_finds_is_named_as_said(
    edit: Callable[[File], None], name: str, study: Study, tmp_path: Path
) -> None:
    file = opened(study)
    edit(file)
    ticket = file.seal(tmp_path)
    context = context_of_ticket(ticket, study.context.splits, CPU, tmp_path)
    said = {finding.name for finding in findings(ticket, context, again=True) if finding.holds is None}
    assert failed(ticket, study, data=True) == set() and name in said


def test_a_state_at_a_later_step_is_said_but_its_form_is_proven(study: Study, tmp_path: Path) -> None:
    file = opened(study, to="4it")
    start_weights(file)
    name = next(name for name in file.tensors if name.startswith("optimizer/") and file.tensors[name].dim())
    file.tensors[name] += 1
    ticket = file.seal(tmp_path)
    said = {finding.name for finding in findings(ticket) if finding.holds is None}
    assert failed(ticket, study, data=True) == set() and {"start weights", "optimizer"} <= said
    file.about["optimizer"] = None
    assert "optimizer" in failed(file.seal(tmp_path), study)
    file.about["optimizer"] = {"dict": []}
    assert "optimizer" in failed(file.seal(tmp_path), study)


def test_weights_that_cannot_be_measured_are_wrong(study: Study, tmp_path: Path) -> None:
    file = opened(study)
    no_statistics(file)
    assert {"weights", "trained weights", "ticket end"} <= failed(file.seal(tmp_path), study, again=True)


def test_data_that_are_others_are_wrong_and_prove_nothing_else(study: Study, tmp_path: Path) -> None:
    ticket = opened(study).seal(tmp_path)
    other = load(Component("matrix_factorization"), tmp_path)
    context = context_of_ticket(ticket, other, CPU, tmp_path)
    assert {finding.name for finding in checks(ticket, context, again=True) if not finding.holds} == {"data"}


EVIDENCE: list[dict[str, Any]] = [
    {"evidence": {"ticket": ticket, "dense": {}, "environment": where, "created": "today"}}
    for ticket, where in (("x", {}), ({}, 3), ({"end": {"step": "1", "test_loss": 0.5}}, {}), ({"end": []}, {}))
]


def test_what_is_no_ticket_inside_is_one_line(study: Study, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"chain": []},
        {"chain": 3},
        {"shape": None},
        {"evidence": 1},
        {"step": "x"},
        *EVIDENCE,
    ]
    for change in changes:
        file = opened(study)
        file.about |= change
        with pytest.raises(DamagedFile, match="is no ticket that lottery ticket export has written") as caught:
            file.seal(tmp_path)
        assert "\n" not in str(caught.value)
    for name in ("alive", "density"):
        file = opened(study)
        file.about["evidence"][name] = "nothing"
        assert failed(file.seal(tmp_path), study) == {"density"}


def test_a_file_cannot_forge_lines_of_its_own_verdict(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = opened(study)
    density(file)
    file.about["evidence"]["created"] = "today\nok     density: 0.001 of the mask\x1b[8m"
    file.seal(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lottery", "ticket", "verify", str(tmp_path / "forged.ticket")])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    assert end.value.code == 1 and "WRONG  density: 0.154839 of the mask; the evidence says 0.001\n" in told.out
    assert "\nok     density" not in told.out and "\x1b" not in told.out
    assert told.err.endswith("forged.ticket: 1 check failed; do not trust this file\n")


# What a file is trained to


def test_nothing_that_a_file_is_trained_to_can_stand_in_for_a_result_of_a_study(study: Study, tmp_path: Path) -> None:
    """Another mask passes what can be checked, is trained with a hash of its own making, in the store of a study
    that lacks this level: the study trains its own."""
    folder = tmp_path / "study"
    store = Store(folder)
    for manifest in study.store.manifests():
        if manifest.key != study.ticket(2).key:
            files = {name: study.store.read(manifest.key, name) for name in manifest.files}
            store.commit(
                manifest.key, files, kind=manifest.kind, parent=manifest.parent, environment=manifest.environment
            )
    before = {manifest.key for manifest in store.manifests()}
    file = opened(study, level=2)
    moved_mask(file)
    first = retrain(file.seal(tmp_path), study.folder, tmp_path / "apart", device="cpu", deterministic=True)
    made = Store(tmp_path / "apart").find(first.key)
    assert made is not None and not first.identical
    file.tensors |= {
        f"trained/end/{name}": value
        for name, value in Store(tmp_path / "apart").read_tensors(first.key, "weights.safetensors").items()
    }
    file.about["evidence"]["trained_sha256"] = made.files["weights.safetensors"].sha256
    ticket = file.seal(tmp_path)
    planted = retrain(ticket, study.folder, folder, device="cpu", deterministic=True)
    assert planted.identical and ticket.key == study.ticket(2).key
    assert {manifest.key for manifest in store.manifests()} - before == {planted.key}
    context = prepare(Request(study.context.plan.recipe, study.folder, folder, device="cpu", deterministic=True))
    assert [event.kind for event in work(context) if event.kind in ("start", "done", "failed")] == ["start", "done"]
    for name in ("mask.safetensors", "weights.safetensors"):
        assert store.read(ticket.key, name) == study.store.read(ticket.key, name)


def test_a_retraining_has_the_key_of_all_that_the_file_says(study: Study, tmp_path: Path) -> None:
    keys = [opened(study).seal(tmp_path).retraining(deterministic=True).key]
    keys += [opened(study).seal(tmp_path).retraining(deterministic=False).key]
    for edit in (dense_accuracy, trained_weights, recipe_report):
        file = opened(study)
        edit(file)
        keys.append(file.seal(tmp_path).retraining(deterministic=True).key)
    assert len(set(keys)) == len(keys) and not set(keys) & set(study.context.plan.jobs)


# Files as they were written

BASE = (
    "data={name: digits, validation: 60, limit: 200}",
    "model.widths=[6, 5]",
    "train={optimizer: {name: adam, lr: 1e-2}, batch_size: 50, length: 8it, evaluate_every: 2it}",
    "prune={fraction: 0.4, levels: 2, scope: layer}",
    "seeds=[3]",
)
KINDS = {
    "every way of rewinding": (
        "rewind=[init, 2it, {to: 2it, mode: lr}, {to: init, mode: finetune}]",
        "finetune={rate: 0.1}",
    ),
    "epochs, global": ("train.length=2ep", "rewind=1ep", "prune.scope=global", "prune.rates={output: 0}"),
    "erk, orthogonal, spectral, a batch size of the optimizer": (
        "prune.scope=erk",
        "init=orthogonal",
        "model.norm=spectral",
        "train.optimizer.batch_size=all",
    ),
    "one shot, an init that looks at data": ("prune={one_shot: [0.5, 0.1], scope: global}", "init=lsuv"),
    "densities, no validation, another such init": (
        "prune={levels: 2, densities: {fc1: 0.2, output: 0.9}}",
        "data={name: digits, limit: 200}",
        "init={name: metainit, steps: 3}",
    ),
    "at the initialization": ("prune={criterion: snip, when: init, levels: 2, fraction: 0.4}",),
    "in rounds": ("prune={criterion: synflow, when: init, levels: 1, rounds: 3, fraction: 0.6}",),
    "three readings": ("train.optimizer.lr=0.2", "train.length=40it"),
    "regression": ("data={name: matrix_factorization, size: 20}", "model={name: deep_linear, width: 8}"),
    "a state that no mask restricts": (
        "train.optimizer={name: muon, lr: 1e-2, optimizer: {name: adam}}",
        "rewind=2it",
    ),
}
OfAKind = Callable[[str], tuple[Study, list[Ticket]]]


@pytest.fixture(scope="module")
def of_a_kind(tmp_path_factory: pytest.TempPathFactory) -> OfAKind:
    """All tickets of a study of this kind, from their files; each study runs once."""

    @cache
    def made(kind: str) -> tuple[Study, list[Ticket]]:
        folder = tmp_path_factory.mktemp("kind")
        study, found = run(micro_text(*BASE, *KINDS[kind]), folder), []
        for job in study.context.plan:
            if job.kind == "ticket":
                (folder / "a.ticket").write_bytes(export(study.store, job.key, folder))
                found.append(read(folder / "a.ticket"))
        return study, found

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_wrong_of_a_genuine_file(kind: str, of_a_kind: OfAKind, tmp_path: Path) -> None:
    study, tickets = of_a_kind(kind)
    assert tickets
    for ticket in tickets:
        context = context_of_ticket(ticket, study.context.splits, CPU, tmp_path)
        found = list(findings(ticket, context, again=True))
        assert [finding for finding in [*findings(ticket), *found] if finding.holds is False] == []
        proven = {finding.name for finding in found if finding.holds}
        assert {"key", "recipe", "rate", "mask", "density", "weights", "step", "steps", "trained weights"} <= proven
        assert {"ticket end", "data"} <= proven
        from_init = ticket.mode == "weights" and ticket.step == 0
        assert ("start weights" in proven) == from_init


def test_steps_of_epochs_and_an_init_that_looks_at_data_need_data(of_a_kind: OfAKind) -> None:
    ticket = of_a_kind("epochs, global")[1][0]
    (said,) = [finding for finding in findings(ticket) if finding.name == "step"]
    assert said.holds is None
    ticket = of_a_kind("one shot, an init that looks at data")[1][0]
    (said,) = [finding for finding in findings(ticket) if finding.name == "start weights"]
    assert said == ("start weights", None, "not checked without data: init lsuv looks at training examples")


def test_a_step_of_epochs_that_does_not_fit_the_length_is_found_without_data(
    of_a_kind: OfAKind, tmp_path: Path
) -> None:
    study, (ticket, *_) = of_a_kind("epochs, global")
    file = apart(ticketfile.ticket_bytes(ticket))
    file.about["step"] += 1
    assert "step" in failed(file.seal(tmp_path), study)
    for network in ("ticket", "dense"):
        for row in file.about["evidence"][network].values():
            if isinstance(row, dict):
                row["step"] *= 2
    file.about["step"] = 2 * ticket.step
    forged = file.seal(tmp_path)
    assert failed(forged, study) == set() and {"step", "steps"} <= failed(forged, study, data=True)


@pytest.mark.parametrize("init", ["orthogonal", "lsuv"])
def test_start_weights_of_another_machine_may_differ_by_its_rounding(
    init: str, of_a_kind: OfAKind, tmp_path: Path
) -> None:
    study, tickets = of_a_kind(next(kind for kind in KINDS if init in str(KINDS[kind])))
    file = apart(ticketfile.ticket_bytes(tickets[0]))
    name = "start/fc1.weight" if init == "lsuv" else "start/fc1.parametrizations.weight.original"
    file.tensors[name] *= 1 + 1e-6

    def holds(noise: float) -> bool | None:
        file.tensors[name][0] += noise
        ticket = file.seal(tmp_path)
        context = context_of_ticket(ticket, study.context.splits, CPU, tmp_path)
        return next(finding.holds for finding in findings(ticket, context) if finding.name == "start weights")

    assert holds(0) is False
    file.about["evidence"]["environment"]["device"] = "another processor"
    assert holds(0) is True
    assert holds(0.01) is (None if init == "lsuv" else False)


def test_exports_carry_the_weights_of_the_accuracy_that_is_told(of_a_kind: OfAKind, tmp_path: Path) -> None:
    study, (ticket, *_) = of_a_kind("three readings")
    rows = ticket.evidence["ticket"]
    assert len({rows[name]["step"] for name in READINGS}) > 1 and rows["best_accuracy"]["step"] < rows["end"]["step"]
    ((x, y),) = (
        context_of_ticket(ticket, study.context.splits, CPU, tmp_path).data(ticket.seed).evaluation("test", 10**6)
    )
    found = {}
    for at in (None, *READINGS):
        found[at], (told,) = export_network(study.store, ticket.key, study.folder, "dense", at=at)
        model, row = ticket.blank(), rows[at or "best_accuracy"]
        model.load_state_dict(decode(found[at])[0])
        accuracy = float((model.eval()(x).argmax(1) == y).double().mean())
        assert accuracy == pytest.approx(row["test_accuracy"], 1e-12)
        assert told.startswith(f"weights of step {row['step']}, at the ")
        assert told.endswith(f": test accuracy {100 * accuracy:.2f} %")
    assert found[None] == found["best_accuracy"] != found["end"]


@pytest.mark.slow  # torch imports and traces for seconds
def test_an_onnx_file_says_which_ticket_it_is_and_how_its_images_are_normalized(of_a_kind: OfAKind) -> None:
    for package in PACKAGES:
        pytest.importorskip(package, reason="needs the extra `onnx`")
    import onnx

    study, (ticket, *_) = of_a_kind("three readings")
    content, lines = export_network(study.store, ticket.key, study.folder, "onnx", at="end")
    about = {each.key: each.value for each in onnx.load_from_string(content).metadata_props}
    splits = study.context.splits
    assert about["ticket"] == ticket.key and about["weights"].startswith(
        f"step {ticket.evidence['ticket']['end']['step']}"
    )
    assert [tuple(json.loads(about[name])) for name in ("mean", "std")] == [splits.mean, splits.std]
    assert any(f"mean {splits.mean[0]:.4g}" in line for line in lines)


def test_without_a_validation_split_exports_carry_the_weights_of_the_end(of_a_kind: OfAKind) -> None:
    study, (ticket, *_) = of_a_kind("densities, no validation, another such init")
    default, told = export_network(study.store, ticket.key, study.folder, "dense")
    step, accuracy = (ticket.evidence["ticket"]["end"][name] for name in ("step", "test_accuracy"))
    assert told == [f"weights of step {step}, at the end: test accuracy {100 * accuracy:.2f} %"]
    assert default == export_network(study.store, ticket.key, study.folder, "dense", at="end")[0]
    with pytest.raises(UsageError, match="has no early_stop; there are end"):
        export_network(study.store, ticket.key, study.folder, "dense", at="early_stop")


def test_the_measures_of_a_file_are_those_of_a_pass_over_the_test_split(study: Study, tmp_path: Path) -> None:
    """By hand: the network of the kept weights, all test examples in one batch."""
    ticket = opened(study).seal(tmp_path)
    context = context_of_ticket(ticket, study.context.splits, CPU, tmp_path)
    model = ticket.blank()
    model.load_state_dict(unpack(ticket.trained("end"), ticket.mask))
    ((x, y),) = context.data(0).evaluation("test", 10**6)
    with torch.no_grad():
        accuracy = float((model.eval()(x).argmax(1) == y).double().mean())
    here = measure(ticket, context, "end")
    assert set(here) == {f"{part}_{name}" for part in ("validation", "test") for name in ("loss", "accuracy")}
    assert here["test_accuracy"] == ticket.evidence["ticket"]["end"]["test_accuracy"] == pytest.approx(accuracy, 1e-12)
