"""The split of the training set: the examples that a seed holds out for validation, and those that it trains on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lottery.errors import UsageError
from lottery.seed import generator


@dataclass(frozen=True)
class Sizes:
    """Numbers of the training examples that are held out and of those that are trained on: the same for each seed."""

    validation: int
    train: int

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of batches in one pass over what is trained on, the last and smaller one included."""
        return -(-self.train // batch_size)


def sizes(count: int, validation: int, limit: int | None) -> Sizes:
    """Return what `split` makes of so many training examples, without making it.

    Args:
        count: Number of examples in the training set.
        validation: Number of them that are held out.
        limit: Number of the others that are trained on at most; all where None.

    Raises:
        UsageError: Where nothing would be left to train on.
    """
    if not 0 <= validation < count:
        raise UsageError(f"data.validation: {validation} of {count} training examples leaves none to train on")
    if limit is not None and limit < 1:
        raise UsageError(f"data.limit: {limit} examples to train on; write at least 1, or leave it out")
    rest = count - validation
    return Sizes(validation, rest if limit is None else min(limit, rest))


def split(labels: Tensor, seed: int, validation: int, limit: int | None, stratify: bool) -> tuple[Tensor, Tensor]:
    """Return the numbers of the examples that are held out and of those trained on, in one permutation's order.

    Of a permutation drawn by the seed the first `validation` are held out, and the next `limit` are trained on. With
    `stratify` they are the first of each class: the classes have their shares of the training set among the held-out
    examples, and their shares of the rest among the examples trained on.

    Args:
        labels: Class of each training example, of shape (n,).
        seed: Seed of the permutation.
        validation: Number of examples to hold out.
        limit: Number of examples to train on; None for all that are left.
        stratify: Keep the shares of the classes.

    Raises:
        UsageError: A class would have no example in either part.
    """
    shuffled = torch.randperm(len(labels), generator=generator(seed, "split"))
    if not stratify:
        return shuffled[:validation], shuffled[validation:][:limit]
    if labels.is_floating_point():
        raise UsageError("data.stratify: is for classes, the targets of these data are numbers; leave it out")
    present = labels.bincount() > 0
    held_out, rest = _first_of_each(labels, shuffled, validation)
    if validation:
        _check(labels, present, held_out, "the validation split", "raise data.validation")
    kept, _ = _first_of_each(labels, rest, len(rest) if limit is None else min(limit, len(rest)))
    raise_limit = limit is not None and limit < len(rest)
    _check(labels, present, kept, "the training part", "raise data.limit" if raise_limit else "lower data.validation")
    return held_out, kept


def lost_class(labels: Tensor, seeds: Iterable[int], validation: int, limit: int | None) -> tuple[int, int] | None:
    """Return the first seed whose split by chance leaves no example of a class to train on, and the class."""
    if labels.is_floating_point():
        return None
    present = labels.bincount() > 0
    for seed in seeds:
        _, kept = split(labels, seed, validation, limit, stratify=False)
        if (lost := _lost(labels, present, kept)) is not None:
            return seed, lost
    return None


def shares(counts: list[int], total: int) -> list[int]:
    """Return `total` shared out in proportion to the counts, by largest remainder; the first of equals gets more."""
    floors, remainders = zip(*(divmod(count * total, sum(counts)) for count in counts), strict=True)
    missing = total - sum(floors)
    more = sorted(range(len(counts)), key=lambda place: -remainders[place])[:missing]
    return [floor + (place in more) for place, floor in enumerate(floors)]


def _first_of_each(labels: Tensor, order: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Return the first examples of each class in this order, in its share of `total`, and the others.

    Both keep the order.
    """
    ordered = labels[order]
    wanted = torch.tensor(shares(ordered.bincount().tolist(), total))
    first = places_in_class(ordered) < wanted[ordered]
    return order[first], order[~first]


def _check(labels: Tensor, present: Tensor, chosen: Tensor, part: str, way: str) -> None:
    if (lost := _lost(labels, present, chosen)) is not None:
        raise UsageError(
            f"data.stratify: {part} of {len(chosen)} examples would have none of class {lost}, of which there are "
            f"{int((labels == lost).sum())}; {way}, or leave stratify out"
        )


def _lost(labels: Tensor, present: Tensor, chosen: Tensor) -> int | None:
    """Return the first class that is present but not among the chosen."""
    lacking = present & (labels[chosen].bincount(minlength=len(present)) == 0)
    return int(lacking.nonzero()[0]) if bool(lacking.any()) else None


def places_in_class(labels: Tensor) -> Tensor:
    """Return for each example, of shape (n,), the number of examples of its class before it."""
    by_class, counts = labels.argsort(stable=True), labels.bincount()
    places = torch.empty_like(by_class)
    places[by_class] = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[by_class]]
    return places
