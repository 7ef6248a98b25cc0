"""Criteria in a study: which scope they rank over, which examples they see, what is refused, and the same anywhere."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.swin_transformer import SwinTransformer

from lottery.data.loader import Data
from lottery.data.splits import Splits
from lottery.errors import UsageError
from lottery.network.build import effective
from lottery.plan.expand import plan
from lottery.pruning.scoring import Context
from lottery.recipe.load import restore_recipe
from lottery.registry import Entry, criteria, models
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.runner.starting_point import starting_point
from lottery.seed import generator
from lottery.traits import CriterionTraits, ModelTraits
from tests.support import ROOT
from tests.support.settings import LAYERS, context_of, problems, study, tickets

INIT = "prune.when=init"


def keys(*overrides: str) -> set[str]:
    return set(plan(study(*overrides), "0" * 64).jobs)


@pytest.mark.parametrize("name", ["snip", "grasp", "synflow"])
def test_where_no_scope_is_named_it_is_the_criterions(name: str) -> None:
    own = study(INIT, f"prune.criterion={name}")
    assert own.prune.scope == "global"
    assert keys(INIT, f"prune.criterion={name}") == keys(INIT, f"prune.criterion={name}", "prune.scope=global")
    assert keys(INIT, f"prune.criterion={name}") != keys(INIT, f"prune.criterion={name}", "prune.scope=layer")
    assert restore_recipe(own.canonical()) == own and own.canonical()["prune"]["scope"] == "global"


def test_other_criteria_keep_the_keys_of_each_layer() -> None:
    for name in ("magnitude", "random", "movement", "gradient_weight"):
        assert keys(f"prune.criterion={name}") == keys(f"prune.criterion={name}", "prune.scope=layer")


def test_a_scope_that_is_named_stays_whatever_the_criterion(tmp_path: Path) -> None:
    context = context_of(tmp_path, INIT, "prune.criterion=snip", "prune.scope=layer", "prune.levels=1")
    list(work(context))
    assert starting_point(context, tickets(context)[0]).mask.alive() == {
        f"{n}.weight": s // 2 for n, s in LAYERS.items()
    }


def test_densities_of_each_layer_are_no_ranking_over_all() -> None:
    recipe = study("prune={densities: {fc1: 0.1}, criterion: snip, when: init, levels: 1}")
    assert recipe.prune.scope == "layer" and "scope" not in recipe.canonical()["prune"]
    assert restore_recipe(recipe.canonical()) == recipe


def test_a_rate_under_a_scope_that_is_the_criterions_says_so() -> None:
    (own,) = problems(INIT, "prune.criterion=snip", "prune.rates={output: 0.5}")
    assert own.endswith(
        "with scope global, snip's own, a rate is 0 (left alone) or 1, not 0.5; or write `scope: layer`"
    )
    (named,) = problems(INIT, "prune.criterion=snip", "prune.scope=global", "prune.rates={output: 0.5}")
    assert "with scope global a rate is 0" in named
    study(INIT, "prune.criterion=snip", "prune.scope=layer", "prune.rates={output: 0.5}")


def data_of(labels: Tensor, **more: Any) -> Data:
    x = torch.arange(len(labels), dtype=torch.float32)[:, None]
    return Data(Splits(x, labels, x, labels, 3), seed=4, device=torch.device("cpu"), **more)


def test_examples_by_class_are_the_seeds_first_of_each_in_its_order() -> None:
    labels = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(1))
    data = data_of(labels, validation=10, limit=45)
    whole = [(int(x), int(y)) for xs, ys in data.evaluation("train") for x, y in zip(xs, ys, strict=True)]
    expected = [pair for place, pair in enumerate(whole) if [c for _, c in whole[:place]].count(pair[1]) < 4]
    parts = list(data.balanced(4, 5))
    assert [len(y) for _, y in parts] == [5, 5, 2] and len(expected) == 12
    assert [(int(x), int(y)) for xs, ys in parts for x, y in zip(xs, ys, strict=True)] == expected


def test_grasp_sees_so_many_examples_of_each_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def look(weights: Any, context: Context, *, per_class: int = 10) -> dict[str, Tensor]:
        assert context.balanced is not None
        seen.extend(y for _, y in context.balanced(per_class))
        return {name: weight.abs() for name, weight in weights.items()}

    monkeypatch.setitem(criteria._entries, "grasp", Entry("grasp", look, "here", 1, CriterionTraits()))
    context = context_of(tmp_path, INIT, "prune.criterion={name: grasp, per_class: 13}", "prune.levels=1")
    list(work(context))
    assert [len(y) for y in seen] == [128, 2]
    assert torch.cat(seen).bincount().tolist() == [13] * 10


def test_more_examples_than_there_are_is_refused_with_its_number(tmp_path: Path) -> None:
    (known,) = problems(INIT, "data.limit=100", "prune.criterion=snip")
    assert known == (
        "--set prune.criterion=snip: prune.criterion: snip looks at 128 examples, the seed trains on 100; write "
        "`examples: 100` or less"
    )
    (named,) = problems(INIT, "data.limit=100", "prune.criterion={name: snip, examples: 101}")
    assert "prune.criterion.examples: snip looks at 101 examples" in named
    with pytest.raises(UsageError, match=r"prune\.criterion: snip looks at 2000 examples, the seed trains on 1237;"):
        context_of(tmp_path, INIT, "prune.criterion={name: snip, examples: 2000}")
    context_of(tmp_path, INIT, "prune.criterion={name: snip, examples: 1237}")


def test_more_examples_of_a_class_than_a_seed_trains_on_is_refused(tmp_path: Path) -> None:
    overrides = (INIT, "seeds=[0, 1, 2]", "data.limit=300", "prune.criterion={name: grasp, per_class: %d}")
    splits = context_of(tmp_path).splits
    counts = []
    for seed in range(3):
        order = torch.randperm(len(splits.train_y), generator=generator(seed, "split"))[200:][:300]
        counts.append(int(splits.train_y[order].bincount(minlength=10).min()))
    least = min(counts)
    context_of(tmp_path, *overrides[:3], overrides[3] % least)
    with pytest.raises(UsageError, match=rf"prune\.criterion: grasp takes {least + 1} .* write `per_class: {least}`"):
        context_of(tmp_path, *overrides[:3], overrides[3] % (least + 1))


def test_examples_by_class_are_refused_where_targets_are_numbers(tmp_path: Path) -> None:
    regression = ("data={name: matrix_factorization, size: 20}", "model=deep_linear", "report=end")
    recipe = study(*regression, INIT, "prune.criterion=grasp")
    with pytest.raises(UsageError, match=r"grasp takes 10 examples of each class, and the targets of these"):
        prepare(Request(recipe, tmp_path, tmp_path, device="cpu"))


def test_networks_without_path_sums_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (known,) = problems(INIT, "model={name: highway, width: 8, depth: 3}", "prune.criterion=synflow")
    assert known == (
        "--set prune.criterion=synflow: prune.criterion: synflow scores sums over paths of weights, and highway "
        "multiplies what it computes, as gates and attention do; name another criterion"
    )
    stand_in(monkeypatch, Gated)
    with pytest.raises(UsageError, match=r"prune\.criterion: synflow scores sums over paths .* lenet multiplies"):
        context_of(tmp_path, INIT, "prune.criterion=synflow")
    context_of(tmp_path, INIT, "prune.criterion=snip")


def stand_in(monkeypatch: pytest.MonkeyPatch, model: type[nn.Module]) -> None:
    """Have a recipe's `lenet` be this model."""

    def make(input_shape: Any, classes: int, *, widths: Any = ()) -> nn.Module:
        return model()

    monkeypatch.setitem(models._entries, "lenet", Entry("lenet", make, "here", 1, ModelTraits()))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.gate, self.output = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        logits: Tensor = self.output(self.fc1(x) * self.gate(x).sigmoid())
        return logits


class Noisy(nn.Module):
    """Draws in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.output = nn.Linear(64, 24), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.output(x + torch.randn_like(x))
        return logits


@pytest.mark.parametrize("name", ["snip", "grasp", "gradient_weight"])
def test_what_draws_in_any_mode_draws_from_the_seed_while_it_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stand_in(monkeypatch, Noisy)
    context = context_of(tmp_path, INIT, f"prune.criterion={name}", "prune.levels=1")
    for event in work(context):
        if event.kind == "done" and event.label.endswith("dense"):
            break
    masks = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        masks.append(starting_point(context, tickets(context)[0]).mask)
        assert torch.equal(torch.get_rng_state(), before)
    assert masks[0] == masks[1]


def networks() -> Iterator[nn.Module]:
    """Small networks of torchvision that drop paths, units and attention in training."""
    torch.manual_seed(0)
    yield ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], stochastic_depth_prob=0.5, num_classes=3)
    yield SwinTransformer([2, 2], 8, [1, 1], [2, 2], [2, 2], 4.0, 0.3, 0.3, 0.5, num_classes=3)
    block = MBConvConfig(2, 3, 1, 8, 8, 2)
    yield EfficientNet([block], dropout=0.3, stochastic_depth_prob=0.5, num_classes=3, last_channel=16)


def digest_of(seed: int) -> str:
    """Of all scores, in a process whose global generator starts with this seed."""
    hashed = hashlib.sha256()
    draws = torch.Generator().manual_seed(3)
    x, y = torch.randn(6, 3, 16, 16, generator=draws), torch.tensor([0, 1, 2, 0, 1, 2])
    for name in ("snip", "grasp"):
        for network in list(networks()):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            given = Context(
                draws,
                network=lambda network=network: network,  # type: ignore[misc]
                loss=nn.CrossEntropyLoss(),
                examples=lambda _: iter([(x, y)]),
                balanced=lambda _: iter([(x, y)]),
            )
            for scores in criteria[name].make(effective(network), given).values():
                hashed.update(scores.numpy().tobytes())
                assert scores.count_nonzero()
            assert torch.equal(torch.get_rng_state(), before)
    return hashed.hexdigest()


@pytest.mark.slow
def test_scores_of_networks_with_stochastic_depth_are_the_same_bytes_in_any_process() -> None:
    program = f"import torch; from {__name__} import digest_of; torch.set_num_threads(1); print(digest_of(7))"
    command = [sys.executable, "-c", program]
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert digest_of(1) == other.stdout.strip()
