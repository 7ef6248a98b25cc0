"""Training examples that a user hands over to a criterion: batches of (inputs, targets)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lottery.errors import UsageError

Batch: TypeAlias = tuple[Tensor, Tensor]
Batches: TypeAlias = Iterable[Batch] | Batch

AT_ONCE = 128  # examples, where they are counted by class: a second derivative takes memory


class Examples:
    """Batches on the device of a network, which can be gone through again.

    Args:
        data: Batches (inputs, targets), or one pair of tensors.
        network: Says on which device.
        whose: Beginning of what is said where there are none.

    Raises:
        UsageError: They can be gone through once only.
    """

    def __init__(self, data: Batches, network: nn.Module, whose: str = ""):
        pair = isinstance(data, (tuple, list)) and len(data) == 2 and all(isinstance(each, Tensor) for each in data)
        self._batches: Iterable[Batch] = [data] if pair else data  # type: ignore[assignment, list-item]
        self._device, self._whose = next(network.parameters()).device, whose
        if isinstance(self._batches, Iterator):
            raise UsageError("data: is used up by one pass; hand over a DataLoader, a list of batches or two tensors")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(next(self._all())[0].shape[1:])

    def first(self, count: int | None) -> Iterator[Batch]:
        """Yield batches of the first examples, all where `count` is None.

        Raises:
            UsageError: There are not so many, or they are no batches of tensors.
        """
        seen = 0
        for x, y in self._all():
            left = len(y) if count is None else min(len(y), count - seen)
            yield x[:left], y[:left]
            seen += left
            if seen == count:
                return
        if count is not None:
            raise UsageError(f"data: has {seen:,} examples, the criterion looks at {count:,}; hand over more")

    def of_each_class(self, count: int) -> Iterator[Batch]:
        """Yield batches of the first `count` examples of each class.

        Raises:
            UsageError: A class has not so many, or the targets are no classes.
        """
        chosen: list[Batch] = []
        seen = torch.zeros(0, dtype=torch.int64)
        for x, y in self._all():
            if y.is_floating_point() or y.dim() != 1:
                raise UsageError("data: the criterion takes examples of each class, and these targets are no classes")
            classes = y.cpu()
            size = max(len(seen), int(classes.max()) + 1)
            seen = torch.cat([seen, seen.new_zeros(size - len(seen))])
            # the number of examples of its own class that come before each, in this batch and the earlier ones
            before = torch.nn.functional.one_hot(classes, size).cumsum(0).gather(1, classes[:, None])[:, 0] - 1
            keep = (before + seen[classes] < count).to(y.device)
            seen += torch.bincount(classes, minlength=size)
            chosen.append((x[keep], y[keep]))
        if few := [number for number, there in enumerate(seen.tolist()) if there < count]:
            there = int(seen[few[0]])
            raise UsageError(
                f"data: has {there} examples of class {few[0]}, the criterion takes {count}; hand over more"
            )
        x, y = (torch.cat(each) for each in zip(*chosen, strict=True))
        parts = -(-len(y) // AT_ONCE)  # of about equal size, so that normalizations get no example alone
        yield from zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)

    def _all(self) -> Iterator[Batch]:
        empty = True
        for batch in self._batches:
            if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and all(isinstance(e, Tensor) for e in batch)):
                raise UsageError("data: its batches have to be pairs of tensors, (inputs, targets)")
            empty = False
            yield batch[0].to(self._device), batch[1].to(self._device)
        if empty:
            raise UsageError(f"{self._whose}looks at training examples; hand some over as `data`")
