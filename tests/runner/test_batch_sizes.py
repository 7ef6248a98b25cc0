"""Batches that a network does not take are found before any training, with the key and the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lottery import registry
from lottery.data.loader import Data
from lottery.errors import UsageError
from lottery.recipe.load import parse_recipe
from lottery.runner.assemble import training_of
from lottery.runner.batch_sizes import check_other_model, refusal
from lottery.runner.context import RunContext
from lottery.runner.events import Request
from lottery.runner.prepare import look
from lottery.runner.run import work
from tests.support.micro import micro_text

TEXT = micro_text(
    "model={name: lenet, widths: [24, 12], norm: batch}",
    "train={optimizer: {name: sgd, lr: 0.01}, batch_size: 50, length: 1ep, evaluate_every: 10it}",
    "prune={levels: 1}",
)
OWN = "{name: momentum, lr: 0.01, batch_size: 40}"


def context_of(folder: Path, *overrides: str) -> RunContext:
    request = Request(parse_recipe(TEXT, "batches.yaml", overrides), folder, folder, device="cpu", deterministic=True)
    return look(request)


def refused(folder: Path, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        context_of(folder, *overrides)
    return str(caught.value)


def switchable(spatial: bool) -> Any:
    return registry.normalizations["switchable"].make(4, spatial)


ALONE = "Expected more than 1 value per channel when training"
SPATIAL = "Expected more than 1 spatial element when training"
BY_ITSELF = "normalizes each value by itself"
LAYERS = [  # a layer, the shape of an example, the batches it is tried with, and what it says of each
    (nn.BatchNorm1d(4), (4,), {1: ALONE, 2: None}),
    (nn.BatchNorm1d(4, track_running_stats=False), (4,), {1: ALONE, 2: None}),
    (nn.BatchNorm1d(4), (4, 1), {1: ALONE, 2: None}),
    (nn.BatchNorm1d(4), (4, 5), {1: None}),
    (nn.BatchNorm2d(4), (4, 1, 1), {1: ALONE, 2: None}),
    (nn.BatchNorm2d(4), (4, 2, 1), {1: None}),
    (nn.BatchNorm3d(4), (4, 1, 1, 1), {1: ALONE, 2: None}),
    (nn.SyncBatchNorm(4), (4, 1, 1), {1: ALONE, 2: None}),
    (nn.InstanceNorm2d(4), (4, 1, 1), {1: SPATIAL, 50: SPATIAL}),
    (nn.InstanceNorm2d(4), (4, 2, 1), {1: None}),
    (nn.GroupNorm(4, 4), (4,), {1: BY_ITSELF, 2: BY_ITSELF}),
    (nn.GroupNorm(4, 4), (4, 1, 2), {1: None}),
    (nn.GroupNorm(2, 4), (4,), {1: None}),
    (nn.LayerNorm(1), (3, 1), {1: BY_ITSELF, 2: BY_ITSELF}),
    (nn.LayerNorm((3, 1)), (3, 1), {1: None}),
    (switchable(True), (4, 1, 1), {1: ALONE, 2: None}),
    (switchable(True), (4, 1, 2), {1: None}),
    (switchable(False), (4,), {1: ALONE, 2: None}),
]


@pytest.mark.parametrize(("layer", "shape", "said"), LAYERS, ids=lambda value: str(value)[:40])
def test_each_normalization_is_refused_the_batches_over_which_it_has_nothing_to_normalize(
    layer: nn.Module, shape: tuple[int, ...], said: dict[int, str | None]
) -> None:
    for size, expected in said.items():
        found = refusal(nn.Sequential(nn.Identity(), layer), torch.randn(size, *shape))
        assert (found is None) == (expected is None)
        if found is not None and expected is not None:
            assert expected in found.why and found.layer == f"1 ({type(layer).__name__})"


@pytest.mark.parametrize(("layer", "shape", "said"), LAYERS, ids=lambda value: str(value)[:40])
def test_what_is_refused_torch_refuses_or_computes_a_constant_of(
    layer: nn.Module, shape: tuple[int, ...], said: dict[int, str | None]
) -> None:
    for size, expected in said.items():
        try:
            taken = bool(layer.train()(torch.randn(size, *shape)).std() > 1e-2)  # rounding leaves less
        except ValueError:
            taken = False
        assert taken == (expected is None)


def test_a_trial_draws_from_no_generator_and_leaves_no_hooks() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Dropout(0.5))
    before = torch.get_rng_state()
    assert refusal(model, torch.randn(3, 4, generator=torch.Generator())) is None
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_maps_of_one_position_are_no_batch_of_one_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG-11 normalizes digits of twice the size over maps of 1x1, as it does 28x28 pixels."""
    digits = registry.datasets["digits"]

    def large(root: Path) -> Any:
        splits = digits.make(root)
        grown = {f"{part}_x": getattr(splits, f"{part}_x").repeat(1, 1, 2, 2) for part in ("train", "test")}
        return type(splits)(**{**splits.__dict__, **grown})

    monkeypatch.setitem(registry.datasets._entries, "digits", type(digits)("digits", large, "-", 1, digits.traits))
    vgg = "model={name: vgg11, width: 2}"
    said = "the last of the batches of 50 would be one of 151 examples alone, which norm7 (BatchNorm2d)"
    message = refused(tmp_path, vgg, "data.limit=151")
    assert message.startswith(f"train.batch_size: {said} cannot take: Expected more than 1 value per channel")
    assert message.endswith("change it, or data.limit by one")
    context_of(tmp_path, vgg, "data.limit=152")
    context_of(tmp_path, vgg, "data.limit=151", "model.norm=layer")


LAST = "the last of the batches of {} would be one of {} examples alone, which after1.0 (BatchNorm1d) cannot take"


@pytest.mark.parametrize(
    ("overrides", "key", "said"),
    [
        (["data.limit=151"], "train.batch_size", LAST.format(50, 151)),
        (["data.limit=1"], "train.batch_size", LAST.format(50, 1)),
        (["train.batch_size=1"], "train.batch_size", "a batch of one example, which after1.0"),
        (["train.accumulate=8", "data.limit=151"], "train.batch_size", LAST.format(50, 151)),
        (
            ["data.limit=121", f"train.optimizer=[{{name: sgd, lr: 0.1}}, {OWN}]"],
            "train.optimizer.1.batch_size",
            LAST.format(40, 121),
        ),
        (
            ["data.limit=121", f"branches=[reinit, {{name: retrain, optimizer: {OWN}}}]"],
            "branches.1.optimizer.batch_size (branch retrain)",
            LAST.format(40, 121),
        ),
        (
            ["data.limit=121", f"branches=[{{name: edge_popup, optimizer: {OWN}}}]"],
            "branches.0.optimizer.batch_size (branch edge_popup)",
            LAST.format(40, 121),
        ),
    ],
)
def test_a_training_with_one_example_alone_is_refused_with_its_key(
    tmp_path: Path, overrides: list[str], key: str, said: str
) -> None:
    message = refused(tmp_path, *overrides)
    assert message.startswith(f"{key}: {said}")
    assert message.endswith("write 2 or more" if "train.batch_size=1" in overrides else "data.limit by one")
    context_of(tmp_path, *overrides, "model.norm=none")


def test_other_data_have_last_batches_of_their_own(tmp_path: Path) -> None:
    overrides = ("data={name: mnist1d, samples: 200, validation: 100}", "model.widths=[24]", "train.batch_size=51")
    branch = "branches=[reinit, {{name: other_data, dataset: {{name: mnist1d, samples: {}}}}}]"
    context_of(tmp_path, *overrides, branch.format(210))  # four in five of them are training examples
    message = refused(tmp_path, *overrides, branch.format(190))
    assert message.startswith(f"branches.1.dataset: {LAST.format(51, 52)}")
    assert message.endswith("change train.batch_size, or data.limit by one")


def test_a_training_that_ends_before_the_last_batch_does_not_meet_it(tmp_path: Path) -> None:
    """151 examples are batches 0 to 3 of 50; a training of three steps has seen no other than the first three."""
    short = ("data.limit=151", "train.evaluate_every=1it")
    assert "alone" in refused(tmp_path, *short, "train.length=4it")
    context = context_of(tmp_path, *short, "train.length=3it")
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    assert "alone" in refused(tmp_path, *short, "train.length=3it", "branches=[longer_dense]")


@pytest.mark.parametrize(
    "criterion", ["{name: snip, examples: 1}", "{name: snip, examples: 501}", "{name: grasp, per_class: 1}"]
)
def test_scores_meet_no_example_alone_in_training_mode(tmp_path: Path, criterion: str) -> None:
    """SNIP is scored in evaluation mode, GraSP on examples of all classes."""
    overrides = (f"prune.criterion={criterion}", "prune.when=init", "data.limit=600", "train.length=2it")
    context = context_of(tmp_path, *overrides)
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}


def test_a_layer_that_normalizes_each_value_by_itself_is_refused_at_any_size(tmp_path: Path) -> None:
    """32 units are 32 groups of one: the network would compute one and the same for any input."""
    message = refused(tmp_path, "model.widths=[32]", "model.norm=group")
    assert message.startswith("model: after1.0 (GroupNorm) normalizes each value by itself")
    context_of(tmp_path, "model.widths=[64]", "model.norm=group")


def test_a_narrower_network_of_a_control_is_looked_at_when_it_is_known() -> None:
    narrow = nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(8, 8))
    with pytest.raises(UsageError, match=r"branch small: 1 \(GroupNorm\) normalizes each value by itself"):
        check_other_model(narrow, (4,), "small")
    check_other_model(nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8)), (4,), "small")


class Looking(nn.Module):
    """A network that looks at values."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm, self.output = norm, nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if not x.any():
            raise RuntimeError("these are no images")
        result: Tensor = self.output(self.norm(x))
        return result


def test_a_network_that_looks_at_values_is_tried_with_training_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looking(input_shape: tuple[int, ...], classes: int, *, norm: str = "batch") -> nn.Module:
        """See `Looking`."""
        return Looking(nn.BatchNorm1d(64) if norm == "batch" else nn.Identity())

    registry.models._load()
    monkeypatch.setattr(registry.models, "_entries", dict(registry.models._entries))
    registry.models.register("looking", source="-")(looking)
    seen: list[int] = []
    original = Data.evaluation

    def evaluation(self: Data, part: Any, batch_size: int | None = None) -> Any:
        seen.extend([batch_size] if batch_size else [])
        return original(self, part, batch_size)

    monkeypatch.setattr(Data, "evaluation", evaluation)
    assert LAST.format(50, 151).replace("after1.0", "norm") in refused(tmp_path, "model=looking", "data.limit=151")
    assert seen == [2, 50, 1]  # two before anything else, as with each network of a plugin
    context_of(tmp_path, "model={name: looking, norm: none}", "data.limit=151")


def test_what_is_not_refused_trains_to_the_end_with_every_norm(tmp_path: Path) -> None:
    """A last batch of two examples, in parts: no smaller one is ever made of it."""
    for norm in ("batch", "switchable"):
        overrides = (f"model.norm={norm}", "data.limit=152", "train.accumulate=4", "prune.levels=1")
        context = context_of(tmp_path / norm, *overrides)
        job = next(job for job in context.plan if job.kind == "dense")
        assert list(training_of(context, job).steps()) == [1, 2, 3, 4]
