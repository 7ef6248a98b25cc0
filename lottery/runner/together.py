"""What the ranks of a training do together beside its steps: tell, compare, and fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from lottery.distributed.group import Group, Messages
from lottery.errors import Interrupted, LotteryError, MachineError, RankLost
from lottery.files.tensors import encode
from lottery.pruning.mask import Mask
from lottery.runner.messages import pack_mask
from lottery.training.trainer import Diverged, Stopped

_FAILED = "failed"


class FailedAtRank0(LotteryError):
    """Rank 0 could not tell what the others wait for."""


def told(group: Group, make: Callable[[], Messages] = dict) -> dict[str, bytes]:
    """Return the messages that rank 0 makes; where it fails to, the others are told so and fail as well.

    Raises:
        FailedAtRank0: Rank 0 has raised an error.
    """
    if group.rank:
        messages = group.tell(None)
        if _FAILED in messages:
            raise FailedAtRank0(messages[_FAILED].decode())
        return messages
    try:
        made = make()
    except Exception as error:
        group.tell({_FAILED: str(error).encode()})
        raise
    return group.tell(made)


@contextmanager
def failing_together(group: Group) -> Iterator[None]:
    """Let an error end the job where all ranks have met it, and the run where some have not.

    A training that diverges or is stopped does so on all ranks, which have equal numbers and agree.

    Raises:
        RankLost: A rank is gone, or has not met the error.
    """
    try:
        yield
    except (Diverged, Stopped, Interrupted, MachineError, MemoryError):
        raise  # the last two end the run of this rank, which the others notice
    except Exception as error:
        try:
            group.check_all_failed()
        except RankLost as lost:
            raise RankLost(str(error)) from lost
        raise


def check_same_mask(group: Group, mask: Mask) -> None:
    """Raise RankLost, on all ranks, where their masks differ."""
    if group.size > 1 and not group.same(hashlib.sha256(pack_mask(mask)).hexdigest()):
        raise RankLost("their masks differ")


def check_same_weights(group: Group, weights: Mapping[str, Tensor]) -> None:
    """Raise RankLost, on all ranks, where parameters or running statistics differ in a bit."""
    if group.size > 1 and not group.same(hashlib.sha256(encode(weights)).hexdigest()):
        raise RankLost("their weights differ; processors or GPUs of one kind are needed")
