"""The share of one rank: its rows of each batch of a training, and of a split that is evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The rows that one of `size` ranks computes.

    The order of a pass is that of one process: each batch is first cut into the parts that gradient accumulation sends
    through the network one after the other, then each part among the ranks. So a part has the same examples on any
    number of ranks.

    Attributes:
        rank: Number of the rank.
        size: Number of ranks.
        parts: `train.accumulate` of the recipe.
    """

    rank: int = 0
    size: int = 1
    parts: int = 1

    def counts(self, batch: int) -> list[int]:
        """Return the rank's number of rows in each part of a batch of so many examples."""
        return [end - begin for begin, end in self._spans(batch)]

    def places(self, examples: int, batch_size: int) -> Tensor:
        """Return the rank's places in a pass over so many examples, in order, int64; all of its batches are in it."""
        whole, rest = divmod(examples, batch_size)
        starts = batch_size * torch.arange(whole)
        full = (starts[:, None] + self._rows(min(batch_size, examples))).flatten()
        return torch.cat([full, whole * batch_size + self._rows(rest)])

    def among(self, examples: int) -> slice:
        """Return the rank's examples of a split, one beside the other; their number differs by one at most."""
        return slice(examples * self.rank // self.size, examples * (self.rank + 1) // self.size)

    def _rows(self, batch: int) -> Tensor:
        return torch.cat([torch.arange(begin, end) for begin, end in self._spans(batch)])

    def _spans(self, batch: int) -> list[tuple[int, int]]:
        """Return begin and end of the rank's rows in each part of a batch."""
        spans, begin = list[tuple[int, int]](), 0
        count = parts_of(batch, self.parts)
        for part in range(count):
            length = batch // count + (part < batch % count)
            own = self.among(length)
            spans.append((begin + own.start, begin + own.stop))
            begin += length
        return spans


def parts_of(batch: int, accumulate: int) -> int:
    """Return the number of parts in which a batch goes through the network, each of at least two examples."""
    return max(1, min(accumulate, batch // 2))  # batch normalization takes no single examples


WHOLE = Share()
