"""The place of this process among the ranks, as `torchrun` or `lottery run --ranks` tells it in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lottery.errors import UsageError

MEETING = "LOTTERY_MEETING"  # where the ranks that `launch` starts meet, an address as torch.distributed takes it


@dataclass(frozen=True)
class Place:
    """The place of one process among the ranks.

    Attributes:
        rank: Its number.
        size: Number of ranks.
        local_rank: Its number among those on its machine.
        ranks_here: Their number there.
        meeting: Where they meet, an address as `torch.distributed.init_process_group` takes it.
        launched: True if `lottery.distributed.launch` started it.
    """

    rank: int
    size: int
    local_rank: int
    ranks_here: int
    meeting: str
    launched: bool


def place_of_environment(variables: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that the environment gives this process, None where it is no rank, or the only one.

    Raises:
        UsageError: Part of it is missing, or no number.
    """
    given = {name: variables.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    launched = MEETING in variables
    if not given["RANK"] or not given["WORLD_SIZE"] or not (launched or variables.get("MASTER_ADDR")):
        return None
    try:
        rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
        local_rank, ranks_here = int(given["LOCAL_RANK"]), int(given["LOCAL_WORLD_SIZE"])
    except ValueError as error:
        raise UsageError(
            f"{' '.join(f'{name}={value}' for name, value in given.items())}: the environment has the ranks of "
            "torch.distributed, but not all of them; start with torchrun, or unset RANK"
        ) from error
    if size == 1:
        return None
    return Place(rank, size, local_rank, ranks_here, variables.get(MEETING, "env://"), launched)
