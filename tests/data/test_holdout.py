"""Which examples are held out and trained on, with every class in its share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn.model_selection import train_test_split

from lottery.data.holdout import Sizes, shares, sizes, split
from lottery.data.load import load
from lottery.data.loader import Data
from lottery.data.splits import Splits
from lottery.errors import RecipeError, UsageError
from lottery.plan.expand import plan
from lottery.plan.keys import training_identity
from lottery.recipe.load import parse_recipe
from lottery.recipe.schema import Recipe
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.seed import generator
from lottery.values import Component
from tests.support.micro import micro_text

CPU = torch.device("cpu")
COUNTS = (50, 30, 15, 5)  # examples of each class
LABELS = torch.repeat_interleave(torch.arange(4), torch.tensor(COUNTS))[
    torch.randperm(100, generator=generator(9, "x"))
]
TEXT = micro_text(
    "data.stratify=true",
    "model.widths=[8]",
    "train.optimizer.lr=1e-3",
    "train.length=4it",
    "train.evaluate_every=2it",
    "prune.levels=1",
    "seeds=2",
)


def read(*overrides: str) -> Recipe:
    return parse_recipe(TEXT, "split.yaml", overrides)


def counts(chosen: torch.Tensor) -> list[int]:
    return LABELS[chosen].bincount(minlength=4).tolist()


@pytest.mark.parametrize("stratify", [False, True])
@pytest.mark.parametrize(("validation", "limit"), [(0, None), (40, None), (40, 50), (40, 60), (40, 1000)])
def test_the_sizes_of_a_split_are_known_without_it(stratify: bool, validation: int, limit: int | None) -> None:
    expected = sizes(100, validation, limit)
    for seed in range(3):
        held_out, kept = split(LABELS, seed, validation, limit, stratify)
        assert Sizes(len(held_out), len(kept)) == expected
    assert Sizes(0, 101).steps_per_epoch(25) == 5


def test_parts_are_shared_out_by_largest_remainder() -> None:
    assert shares([50, 30, 15, 5], 20) == [10, 6, 3, 1]
    assert shares([50, 30, 15, 5], 21) == [11, 6, 3, 1]  # 10.5, 6.3, 3.15, 1.05
    assert shares([50, 30, 15, 5], 27) == [14, 8, 4, 1]  # 13.5, 8.1, 4.05, 1.35: the remainder of 1.35 is below .5
    assert shares([1, 1, 1], 2) == [1, 1, 0]  # equal remainders: the first
    assert shares([3, 0, 1], 4) == [3, 0, 1]
    for total in range(101):
        parts = shares(list(COUNTS), total)
        assert sum(parts) == total
        assert all(abs(part - count * total / 100) < 1 for part, count in zip(parts, COUNTS, strict=True))


@pytest.mark.parametrize("validation", [20, 41, 60])  # no equal remainders, which scikit-learn breaks by chance
def test_each_class_has_its_share_held_out_as_scikit_learn_counts_it(validation: int) -> None:
    held_out, kept = split(LABELS, 3, validation, None, stratify=True)
    theirs = train_test_split(range(100), test_size=validation, stratify=LABELS, random_state=0)[1]
    assert counts(held_out) == counts(torch.tensor(theirs))
    assert sorted([*held_out.tolist(), *kept.tolist()]) == list(range(100))


def test_the_seed_draws_which_examples_of_a_class_these_are() -> None:
    order = torch.randperm(100, generator=generator(3, "split")).tolist()
    held_out, kept = (part.tolist() for part in split(LABELS, 3, 20, None, stratify=True))
    expected = [
        n for label, share in enumerate((10, 6, 3, 1)) for n in [n for n in order if LABELS[n] == label][:share]
    ]
    assert held_out == [n for n in order if n in expected] and kept == [n for n in order if n not in expected]
    assert set(split(LABELS, 4, 20, None, stratify=True)[0].tolist()) != set(held_out)


def test_the_limit_is_shared_out_too_and_a_larger_one_adds_to_it() -> None:
    held_out, small = split(LABELS, 3, 20, 40, stratify=True)
    assert counts(small) == [20, 12, 6, 2]
    again, large = split(LABELS, 3, 20, 60, stratify=True)
    assert again.equal(held_out) and set(small.tolist()) < set(large.tolist())
    assert len(split(LABELS, 3, 20, 500, stratify=True)[1]) == 80
    assert counts(split(LABELS, 3, 0, 20, stratify=True)[1]) == [10, 6, 3, 1]


def test_without_stratify_the_split_is_that_of_the_permutation() -> None:
    order = torch.randperm(100, generator=generator(3, "split"))
    held_out, kept = split(LABELS, 3, 20, 30, stratify=False)
    assert held_out.equal(order[:20]) and kept.equal(order[20:50])


@pytest.mark.parametrize(
    ("validation", "limit", "message"),
    [
        (5, None, "the validation split of 5 examples would have none of class 3, .* 5; raise data.validation"),
        (95, None, "the training part of 5 examples would have none of class 3, of which there are 5; lower data.vali"),
        (20, 4, "the training part of 4 examples would have none of class 3, of which there are 5; raise data.limit"),
    ],
)
def test_a_class_that_a_part_would_lack_is_refused(validation: int, limit: int | None, message: str) -> None:
    with pytest.raises(UsageError, match=f"^data.stratify: {message}"):
        split(LABELS, 0, validation, limit, stratify=True)


def test_a_class_that_chance_leaves_nothing_of_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prepare(Request(read("data={name: digits, validation: 200}"), tmp_path, tmp_path, device="cpu"))
    prepare(Request(read("data={name: digits, limit: 20, stratify: true}"), tmp_path, tmp_path, device="cpu"))
    assert caplog.messages == []
    context = prepare(Request(read("data={name: digits, limit: 20}"), tmp_path, tmp_path, device="cpu"))
    (_, y) = next(context.data(0).evaluation("train"))
    first = min(set(range(10)) - set(y.tolist()))
    says = f"the split of seed 0 leaves no training example of class {first}; `stratify: true` keeps some of each"
    assert caplog.messages == [f"data: {says}"]


def test_a_class_without_any_example_asks_for_none() -> None:
    held_out, _ = split(LABELS * 2, 0, 20, None, stratify=True)  # classes 0, 2, 4 and 6
    assert (LABELS[held_out] * 2).bincount().tolist() == [10, 0, 6, 0, 3, 0, 1]


def test_numbers_have_no_classes_to_share_out(tmp_path: Path) -> None:
    recipe = read("data={name: matrix_factorization, size: 20, limit: 10, stratify: true}", "model={name: deep_linear}")
    with pytest.raises(UsageError, match=r"^data\.stratify: is for classes, the targets of these data are numbers"):
        prepare(Request(recipe, tmp_path, tmp_path, device="cpu"))


def test_streamed_images_are_split_like_those_in_memory(tmp_path: Path) -> None:
    for part, many in (("train", (8, 4)), ("test", (1, 1))):
        for label, count in zip("ab", many, strict=True):
            for i in range(count):
                file = tmp_path / "pets" / part / label / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (20 * i, 100, 200 * (label == "b"))).save(file)

    def data(**args: Any) -> Data:
        folder = {"folder": "pets", "size": 4, "std": (1.0, 1.0, 1.0), **args}
        splits: Splits = load(Component("image_folder", folder), tmp_path)
        return Data(splits, seed=1, validation=3, limit=6, stratify=True, device=CPU)

    memory, streamed = data(), data(stream=True)
    for part, expected in (("validation", [2, 1]), ("train", [4, 2])):
        (x, y), (other_x, other_y) = next(memory.evaluation(part)), next(streamed.evaluation(part))  # type: ignore
        assert y.bincount().tolist() == expected and y.equal(other_y) and x.equal(other_x)


def test_it_is_part_of_a_key_only_where_it_is_asked_for(tmp_path: Path) -> None:
    def identity(*overrides: str) -> dict[str, Any]:
        recipe = read(*overrides)
        return training_identity(recipe, "f", 0, recipe.train.optimizer[0])

    asked, not_asked = identity(), identity("data.stratify=false")
    assert asked == {**not_asked, "stratify": True}
    tuned = ("tune={trials: 2}", "train.optimizer=adam")
    assert all(job.identity["training"]["stratify"] for job in plan(read(*tuned), "f") if job.kind == "trial")
    context = prepare(Request(read(), tmp_path, tmp_path, device="cpu"))
    (_, y) = next(context.data(1).evaluation("validation"))
    assert y.bincount().tolist() == shares(context.splits.train_y.bincount().tolist(), 200)


def test_without_anything_to_share_out_it_is_refused_at_its_line() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(micro_text("data={name: digits, stratify: true}"), "split.yaml")
    (problem,) = caught.value.problems
    assert problem == (
        "split.yaml:2:22: data.stratify: shares out data.validation and data.limit by class, and neither is given; add "
        "one"
    )


def test_other_data_are_split_by_their_own_classes(tmp_path: Path) -> None:
    recipe = read(
        "data={name: mnist1d, samples: 500, validation: 50, stratify: true}",
        "branches=[{name: other_data, dataset: {name: mnist1d, samples: 600, seed: 7}}]",
    )
    context = prepare(Request(recipe, tmp_path, tmp_path, device="cpu"))
    (other,) = (branch.component.args["dataset"] for branch in recipe.branches)
    (_, y) = next(context.data(0, other).evaluation("validation"))
    splits = load(other, tmp_path)
    assert y.bincount().tolist() == shares(splits.train_y.bincount().tolist(), 50)
