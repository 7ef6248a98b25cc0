"""Recurrent, attention, shared and other weights go through a whole study: levels, controls, views, files, exports."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from lottery.analysis.accuracy import means
from lottery.analysis.layers import layers
from lottery.analysis.mask_overlap import overlaps
from lottery.cli.main import main
from lottery.errors import UsageError
from lottery.files.tensors import part
from lottery.network.build import prunable
from lottery.network.layout import Layout, load
from lottery.plan.jobs import Job
from lottery.pruning.mask import pruned_count
from lottery.report.content import collect
from lottery.results.artifacts import read_mask, read_state, read_trained
from lottery.results.record import records
from lottery.results.study import Study
from lottery.runner.assemble import training_of
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.runner.stored_level import StoredLevel
from lottery.tickets.checks import checks
from lottery.tickets.export import export
from lottery.tickets.file import read
from lottery.tickets.forms import export_network as export_form
from lottery.tickets.load import load_ticket
from lottery.tickets.retrain import retrain
from tests.support.brought import MODELS, SHAPE, brought
from tests.support.micro import micro, micro_text

STUDY = (
    "data={name: digits, validation: 100, limit: 200}",
    "train={optimizer: {name: adam, lr: 1e-2}, batch_size: 50, length: 8it, evaluate_every: 4it}",
    "rewind=2it",
    "branches=[reinit, noise, same_sign, constant, supermask, random, one_shot, {name: shuffle, scope: global}]",
)
RATED = {"lstm": "rnn.weight_hh_l0*", "attention": "attention.q", "tied": "a", "tied_words": "hidden", "own": "matrix"}


@dataclass
class Finished:
    context: RunContext
    folder: Path

    def tickets(self) -> list[Job]:
        return [job for job in self.context.plan if job.kind == "ticket"]

    def network(self, weights: dict[str, Tensor]) -> nn.Module:
        network = self.context.networks.blank()
        load(network, weights)
        return network.eval()


def changes_for(model: str, rated: str = "output*") -> tuple[str, ...]:
    """The study of a model that is brought; half of these layers is pruned, and nothing of the output."""
    return *STUDY, f"model={model}", f"prune.rates={{{rated}: 0.5, output: 0}}"


def finish(model: str, folder: Path, *overrides: str, rated: str = "output*") -> Finished:
    recipe = micro(*changes_for(model, rated), *overrides)
    context = prepare(Request(recipe, folder, folder / "store", device="cpu", deterministic=True))
    ends = {event.kind for event in work(context)}
    assert ends <= {"start", "progress", "done", "found"}, ends
    return Finished(context, folder)


@pytest.fixture(scope="module", params=RATED)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    name = request.param
    with brought(name):
        yield finish(name, tmp_path_factory.mktemp(name), rated=RATED[name])


def test_each_layer_is_pruned_at_its_own_rate_and_to_exact_zeros(finished: Finished) -> None:
    sizes = {name: weight.numel() for name, weight in prunable(finished.context.networks.blank()).items()}
    slow = RATED[finished.context.plan.recipe.model.name].removesuffix("*")
    expected = dict(sizes)
    for job in finished.tickets():
        for name in expected:
            if not name.startswith("output"):
                rate = "1/4" if name.startswith(slow) else "1/2"
                expected[name] -= pruned_count(expected[name], Fraction(rate))
        mask = read_mask(finished.context.store, job.key)
        metrics = finished.context.store.read_json(job.key, "metrics.json")
        assert mask.alive() == metrics["alive"] == expected and metrics["sizes"] == sizes
        assert metrics["density"] == sum(expected.values()) / sum(sizes.values())
        trained = StoredLevel(finished.context, job).trained
        for name, bits in mask.items():
            assert not trained[name][~bits].any() and torch.count_nonzero(trained[name][bits]) > 0


def test_the_weights_that_survive_are_the_largest_of_their_layer(finished: Finished) -> None:
    dense, first = (
        StoredLevel(finished.context, finished.context.plan.trunk(finished.tickets()[0])[0]),
        finished.tickets()[0],
    )
    mask = read_mask(finished.context.store, first.key)
    network = finished.network(dict(dense.trained))
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, place in Layout.of(network).weights.items():
        sizes, bits = place.rows_of(parameters[place.parameter]).detach().abs(), mask[name]
        if not bits.all():
            assert sizes[bits].min() >= sizes[~bits].max()


def test_a_ticket_starts_at_the_stored_rewind_point_under_its_mask(finished: Finished) -> None:
    for job in finished.tickets():
        assert job.point is not None
        stored = part(read_state(finished.context.store, job.point)[0], "model/")
        model = training_of(finished.context, job).model
        expected = finished.network(stored)
        for name, value in expected.state_dict().items():
            assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("control", ["noise", "same_sign", "constant", "reinit", "one_shot", "shuffle", "random"])
def test_controls_train_what_they_say(finished: Finished, control: str) -> None:
    """In the network itself, under each name that a weight has there."""
    job = next(job for job in finished.context.plan if job.branch and job.branch.name == control and job.level == 2)
    start, level = starting_point(finished.context, job), StoredLevel(finished.context, finished.tickets()[1])
    model = training_of(finished.context, job, start).model
    network = finished.network(dict(level.rewound.weights))
    before, after = (dict(each.named_parameters(remove_duplicate=False)) for each in (network, model))
    layout = Layout.of(network)
    for alias, name in layout.same.items():
        assert after[alias] is after[name]
    for name, place in layout.weights.items():
        old, new = (place.rows_of(each[place.parameter]).detach() for each in (before, after))
        bits = start.mask[name]
        if control == "noise":
            assert torch.equal(new[~bits], old[~bits]) and not torch.isclose(new[bits], old[bits]).all()
        if control in ("same_sign", "constant"):
            assert bool(((new[bits] < 0) == (old[bits] < 0)).all())
        if control == "constant":
            assert torch.allclose(new.abs(), old.std(correction=0))
        if control in ("shuffle", "one_shot"):
            assert torch.equal(new, old)
        if control == "reinit":
            assert not torch.equal(new, old)
    if control == "shuffle":
        assert start.mask["output.weight"].all()
        shrinks = [name for name in level.mask if name != "output.weight"]
        assert (start.mask.alive() != level.mask.alive()) == (len(shrinks) > 1)
    assert sum(start.mask.alive().values()) == sum(level.mask.alive().values())


def test_views_name_the_layers(finished: Finished) -> None:
    context = finished.context
    study = Study(context.plan, records(context.plan, context.store), context.store, finished.folder)
    names = [name.removesuffix(".weight") for name in prunable(context.networks.blank())]
    rows = layers(study)
    assert [row["layer"] for row in rows if row["level"] == 2] == [*names, "all"]
    sizes, mask = (
        [w.numel() for w in prunable(context.networks.blank()).values()],
        read_mask(context.store, finished.tickets()[1].key),
    )
    kept = [row["kept"] for row in rows if row["level"] == 2]
    assert kept == [*mask.alive().values(), sum(mask.alive().values())]
    dense = {row["layer"]: row for row in rows if row["level"] == 0 and row["layer"] != "all"}
    assert {layer: row["kept"] for layer, row in dense.items()} == dict(zip(names, sizes, strict=True))
    assert all(row["density"] == row["effective_density"] == 1 for row in dense.values())
    for row in rows:
        assert 0 < row["effective_density"] <= row["density"] and row["end_magnitude"] > 0
    assert overlaps(study) == []  # one seed
    said = [note for note in means(study)[0]["note"].split("; ") if note.startswith("never pruned")]
    own = finished.context.plan.recipe.model.name == "own"
    assert said == (["never pruned: 2.47 % of the weights (standardized)"] if own else [])


def test_a_ticket_file_trains_the_same_ticket_again(finished: Finished, tmp_path: Path) -> None:
    job, path = finished.tickets()[1], tmp_path / "a.ticket"
    path.write_bytes(export(finished.context.store, job.key, finished.folder))
    ticket = read(path)
    assert all(fine for _, fine, _ in checks(ticket))
    assert retrain(ticket, finished.folder, tmp_path / "again", device="cpu", deterministic=True).identical
    model, mask = load_ticket(path)
    assert mask == read_mask(finished.context.store, job.key)
    assert all(not value[~mask[name]].any() for name, value in prunable(model).items())


def reference(finished: Finished, job: Job) -> tuple[Tensor, Tensor]:
    """Inputs and the outputs of the trained ticket for them, where its validation accuracy is best."""
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(4))
    store = finished.context.store
    return x, finished.network(dict(read_trained(store, job.key, read_mask(store, job.key), "best_accuracy")))(
        x
    ).detach()


def test_the_dense_form_computes_what_the_ticket_does(finished: Finished) -> None:
    job = finished.tickets()[1]
    content, _ = export_form(finished.context.store, job.key, finished.folder, "dense")
    model = MODELS[finished.context.plan.recipe.model.name]()
    model.load_state_dict(load_tensors(content), strict=True)
    x, expected = reference(finished, job)
    assert torch.equal(model.eval()(x), expected)


def test_the_form_of_torch_prune_computes_what_the_ticket_does_or_is_refused(finished: Finished) -> None:
    job, name = finished.tickets()[1], finished.context.plan.recipe.model.name
    if name == "attention":
        with pytest.raises(UsageError, match=r"cannot hold attention.out_proj.weight: .* export the form dense"):
            export_form(finished.context.store, job.key, finished.folder, "prune")
        return
    content, _ = export_form(finished.context.store, job.key, finished.folder, "prune")
    state, model, mask = load_tensors(content), MODELS[name](), read_mask(finished.context.store, job.key)
    for key in [key.removesuffix("_orig") for key in state if key.endswith("_orig")]:
        path, _, attribute = key.rpartition(".")
        torch_prune.identity(model.get_submodule(path), attribute)
    model.load_state_dict(state, strict=True)
    x, expected = reference(finished, job)
    assert torch.allclose(model.eval()(x), expected, atol=1e-6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.train()(x).square().sum().backward()
        optimizer.step()
    held = sum(int(value.sum()) for key, value in state.items() if key.endswith("_mask"))
    assert held >= sum(mask.alive().values())
    model.eval()(x)
    for key in [key.removesuffix("_mask") for key in state if key.endswith("_mask")]:
        module, attribute = model.get_submodule(key.rpartition(".")[0]), key.rpartition(".")[2]
        assert not getattr(module, attribute)[state[f"{key}_mask"] == 0].any()


def test_the_compact_form_computes_what_the_ticket_does_or_is_refused(finished: Finished, tmp_path: Path) -> None:
    from lottery.structure.compact_file import load_compact

    job = finished.tickets()[1]
    try:
        content, _ = export_form(finished.context.store, job.key, finished.folder, "compact")
    except UsageError as error:
        assert "export another form" in str(error)
        return
    (tmp_path / "small").write_bytes(content)
    x, expected = reference(finished, job)
    assert torch.allclose(load_compact(tmp_path / "small")(x), expected, atol=1e-5)


SCORED = {
    "attention": ("snip", "grasp", "gradient_weight", "movement"),
    "tied": ("grasp", "gradient_weight", "synflow"),
    "gru": ("grasp", "gradient_weight"),
}


@pytest.mark.parametrize(("name", "criterion"), [(name, each) for name, found in SCORED.items() for each in found])
def test_each_criterion_scores_parts_and_shared_weights(criterion: str, name: str, tmp_path: Path) -> None:
    """Gradients against those of the network itself, where the score is |g w|."""
    with brought(name):
        when = "trained" if criterion == "movement" else "init"
        changes = [f"prune.criterion={criterion}", f"prune.when={when}", "prune.levels=1", "branches=[]"]
        done = finish(name, tmp_path, *changes, "rewind=init", "prune.rates={}", "prune.rounds=1")
        mask = read_mask(done.context.store, done.tickets()[0].key)
        assert 0.49 < mask.density < 0.51
        if criterion != "gradient_weight":
            return
        model = done.network(dict(StoredLevel(done.context, done.tickets()[0]).rewound.weights))
        data, total = done.context.data(0), 0
        for x, y in data.evaluation("train"):
            (nn.functional.cross_entropy(model(x), y) * len(x)).backward()
            total += len(x)
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for weight, place in Layout.of(model).weights.items():
            parameter = parameters[place.parameter]
            assert parameter.grad is not None
            scores = place.rows_of((parameter * parameter.grad / total).abs().detach())
            assert scores[mask[weight]].min() >= scores[~mask[weight]].max() - 1e-7


def test_sums_over_paths_are_refused_for_attention_and_recurrent_layers(tmp_path: Path) -> None:
    with brought("attention", "gru"):
        for name in ("attention", "gru"):
            with pytest.raises(UsageError, match=r"prune.criterion: synflow .*" + name):
                changes = ["branches=[]", "prune.rates={}", "prune.criterion=synflow", "prune.when=init"]
                finish(name, tmp_path, *changes)


def test_learned_masks_are_refused_for_weights_that_are_no_layers_own(tmp_path: Path) -> None:
    with brought("attention", "tied", "gru"):
        for name, said in (
            ("attention", "attention.q, attention.k, attention.v"),
            ("tied", "a"),
            ("gru", "rnn.weight_ih_l0"),
        ):
            with pytest.raises(UsageError, match=f"branches: edge_popup learns masks .* and {said}"):
                finish(name, tmp_path, "branches=[edge_popup]", "prune.rates={}")


def test_a_plan_says_what_is_never_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["lottery", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert not left.value.code
        return capsys.readouterr().out

    recipe = tmp_path / "brought.yaml"
    recipe.write_text(micro_text(*changes_for("words", "hidden")))
    with brought("words"):
        told = {}
        for embeddings in ("false", "true"):
            options = ["--set", f"prune.embeddings={embeddings}", "--store", str(tmp_path / "store"), "--device", "cpu"]
            told[embeddings] = said("plan", str(recipe), *options)
            left = json.loads(said("plan", str(recipe), *options, "--json"))["never_pruned"]
            assert left == ({} if embeddings == "true" else {"embedding": 102})
    assert "\nnever pruned: 51.5 % of the weights (embedding)\n" in told["false"]
    assert "never pruned" not in told["true"]


def test_embeddings_asked_for_are_pruned_and_their_networks_are_others(tmp_path: Path) -> None:
    with brought("words", "gru"):
        changes = ["branches=[]", "prune.rates={}", "prune.levels=1", "data.limit=100"]
        plain = finish("words", tmp_path, *changes)
        asked = finish("words", tmp_path, *changes, "prune.embeddings=true")
        assert not plain.context.plan.jobs.keys() & asked.context.plan.jobs.keys()
        mask = read_mask(asked.context.store, asked.tickets()[0].key)
        assert mask.alive()["embedding.weight"] == 51 and next(iter(mask)) == "embedding.weight"
        for done, note in ((plain, "never pruned: 51.5 % of the weights (embedding)"), (asked, "")):
            found = records(done.context.plan, done.context.store)
            assert means(Study(done.context.plan, found, done.context.store))[0]["note"] == note
        found = records(plain.context.plan, plain.context.store)
        told = collect(Study(plain.context.plan, found, plain.context.store, tmp_path))
        accuracy = next(section for section in told.sections if section.name == "accuracy")
        assert "Never pruned: 51.5 % of the weights (embedding); density counts the others." in accuracy.sentences
        with pytest.raises(UsageError, match=r"prune.embeddings: gru has none; leave it out"):
            finish("gru", tmp_path, *changes, "prune.embeddings=true")
