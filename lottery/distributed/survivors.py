"""A communication hook for DistributedDataParallel that reduces the gradients of surviving weights only.

Gradients of pruned weights are 0 on every rank, since masks are equal on all of them. So the survivors of each bucket
are gathered into a flat tensor, that is reduced, and the sums are put back: the bytes sent fall with the density, and
the results are those of the plain reduction. With two ranks they are so to the bit; with more, gloo and NCCL add in an
order that depends on where a value lies in the tensor.
"""

# annotations are no strings here: DistributedDataParallel compares those of a hook with its own types
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed import GradBucket, all_reduce  # type: ignore[attr-defined]
from torch.futures import Future

from lottery.distributed.group import Group


class Survivors:
    """The hook, to which `restrict` tells the mask: `ddp.register_comm_hook(None, survivors.reduce)`.

    Parameters that no mask has (biases, normalizations, layers that are never pruned) are sent whole, and so is a
    bucket in which nothing is pruned. What a pruned weight's gradient is on this rank is not looked at: it is 0 after
    the reduction.

    Attributes:
        group: The ranks that reduce.
        bytes_sent: Bytes of gradients that this rank has handed to reductions so far.
        bytes_dense: Those that the plain reduction would have been handed.
    """

    def __init__(self, group: Group):
        self.group, self.bytes_sent, self.bytes_dense = group, 0, 0
        self._factors: dict[int, Tensor] = {}
        self._places: dict[tuple[int, ...], Tensor | None] = {}

    def restrict(self, factors: Mapping[Any, Tensor]) -> None:
        """Send, from now on, gradients where the factors are not 0; parameters without factors are sent whole."""
        self._factors = {id(parameter): factor for parameter, factor in factors.items()}
        self._places = {}

    def reduce(self, state: None, bucket: GradBucket) -> Future[Tensor]:
        """Start the reduction of a bucket and return its result to come, the mean over ranks."""
        buffer, places = bucket.buffer(), self._places_in(bucket)
        sent = buffer if places is None else buffer.index_select(0, places)
        self.bytes_sent += sent.numel() * sent.element_size()
        self.bytes_dense += buffer.numel() * buffer.element_size()
        sent.mul_(1 / self.group.size)  # before the sum and by the inverse, as DistributedDataParallel does it
        if not len(sent):
            done: Future[Tensor] = torch.futures.Future()
            done.set_result(buffer.zero_())
            return done
        work = all_reduce(sent, group=self.group.handle, async_op=True)
        assert work is not None

        def put_back(future: Future[Any]) -> Tensor:
            summed: Tensor = future.value()[0]
            return summed if places is None else buffer.zero_().index_copy_(0, places, summed)

        return work.get_future().then(put_back)

    def _places_in(self, bucket: GradBucket) -> Tensor | None:
        """Return the places of the survivors in the bucket's buffer, None where nothing is pruned."""
        parameters = bucket.parameters()
        key = tuple(id(parameter) for parameter in parameters)
        if key not in self._places:
            buffer = bucket.buffer()
            alive = torch.ones(len(buffer), dtype=torch.bool, device=buffer.device)
            for parameter, gradient in zip(parameters, bucket.gradients(), strict=True):
                if (factor := self._factors.get(id(parameter))) is not None:
                    # the order of values in the buffer is the parameter's own; `gradients` always say row by row
                    dense = torch.ops.aten.is_non_overlapping_and_dense(parameter)
                    strides = parameter.stride() if dense else gradient.stride()
                    begin = gradient.storage_offset() - buffer.storage_offset()
                    alive.as_strided(parameter.shape, strides, begin).copy_(factor != 0)
            self._places[key] = None if alive.all() else alive.nonzero().flatten()
        return self._places[key]
