"""Errors that a user can meet: one line that names the place, the value and the way out, and an exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence


class LotteryError(Exception):
    """Base of all errors of this project; `exit_code` is what the command line leaves with."""

    exit_code = 1


class UsageError(LotteryError):
    """Wrong usage, recipe or data: the user can mend it."""

    exit_code = 2


class DataError(UsageError):
    """Data that is missing, damaged or not what the recipe says."""


class RecipeError(UsageError):
    """The problems of one recipe, one line each: `file:line:column: key: what is wrong; the way out`."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class MachineError(LotteryError):
    """A refusal by the machine: disk full, no permission, out of memory."""

    exit_code = 3


class RankLost(MachineError):
    """A process of a training on several of them died, was not heard of in time, or met what the others did not."""

    def __init__(self, why: str):
        first = re.sub(r"^\[[^]]*\]:?\s*|\. This is typically.*", "", why.strip().partition("\n")[0])
        super().__init__(
            f"one of the ranks is gone or met what the others did not ({first}); all of them stop. Run the same "
            "command again: it goes on from the last checkpoint, with this or another number of ranks"
        )


class DamagedFile(LotteryError):
    """A stored file whose bytes are not those that were committed."""


class BrokenMask(LotteryError):
    """A pruned weight came out of a training different from zero."""


class Nondeterminism(LotteryError):
    """Two runs of one job gave different bytes where they must not."""


class Interrupted(LotteryError):
    """A run stopped by a signal, after its state was saved; `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int):
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped by signal {signal_number}; the state is saved")
