"""The origin of each kind of training in each mode of rewinding: weights, mask, schedule, optimizer state, steps.

The table of `docs/controls.md` is made from these, and the audit lists the differences that follow from them. T is the
length of the whole training, k the rewind point, both in steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lottery import registry
from lottery.values import Component

Mode = Literal["weights", "lr", "finetune"]
MODES: tuple[Mode, ...] = get_args(Mode)

REWOUND = "rewound"  # those of the dense network at step k
ABOVE = "trained, of the level above"
DENSE = "trained, of the dense network"


@dataclass(frozen=True)
class Origin:
    """The origin of one training, in the words of the documentation and the audit.

    `state` is the optimizer's: "rewound" (that of step k; fresh where k is 0), "fresh" or "none".
    """

    weights: str
    mask: str
    schedule: str
    state: Literal["rewound", "fresh", "none"]
    steps: str

    @property
    def goes_on(self) -> bool:
        """True if it starts from trained weights, so that what is measured before its first step is no result."""
        return self.weights.startswith("trained")

    @property
    def known(self) -> bool:
        """False for a control whose entry does not declare where its trainings come from."""
        return self.schedule != UNKNOWN

    @property
    def from_the_point(self) -> bool:
        """True if it trains on the schedule's steps from k on."""
        return self.schedule in (REST, LAST)


UNKNOWN = "not declared"  # what a control of a plugin does not declare
REST, LAST = "from step k", "last rate"
WHOLE = "from step 0"
UNTRAINED = "none"

Origins = Mapping[Mode, Origin]
COLUMNS = ("training", "`weights:`", "mode", "starts from weights", "mask", "schedule", "optimizer state", "steps")


def in_any_mode(weights: str, mask: str, schedule: str = WHOLE, state: Any = "fresh", steps: str = "T") -> Origins:
    """Return the same origin for each mode of rewinding; arguments are the fields of `Origin`."""
    return dict.fromkeys(MODES, Origin(weights, mask, schedule, state, steps))


def in_the_mode(mask: str, trained: str, *, change: str = "", state: Any = "rewound", steps: str = "T - k") -> Origins:
    """Return origins that differ by mode: rewound weights in mode `weights`, trained ones in the others.

    Args:
        mask: as in `Origin`.
        trained: the weights of the other modes.
        change: what is done to the weights, in words.
        state: as in `Origin`, of mode `weights`.
        steps: as in `Origin`.
    """
    return {
        "weights": Origin(REWOUND + change, mask, REST, state, steps),
        "lr": Origin(trained + change, mask, REST, "fresh", steps),
        "finetune": Origin(trained + change, mask, LAST, "fresh", steps),
    }


def at_the_point(mask: str) -> Origins:
    """Return rewound weights on the schedule from step k on, in every mode."""
    return in_any_mode(REWOUND, mask, REST, "rewound", "T - k")


TICKET = in_the_mode("the ticket's", ABOVE)
NETWORK = in_any_mode("initial", "none")


def origin_of(branch: Component | None, mode: str) -> Origin:
    """Return the origin of a control, or of a ticket if `branch` is None.

    A plugin's control without the trait `origins` has one of which nothing is known.
    """
    if branch is None:
        return TICKET[_mode(mode)]
    if branch.name not in registry.branches:
        return Origin(UNKNOWN, UNKNOWN, UNKNOWN, "none", UNKNOWN)
    entry = registry.branches[branch.name]
    option = entry.all_arguments(branch.args).get("weights", "")
    known: Mapping[str, Origins] = entry.traits.origins
    return known[option][_mode(mode)] if option in known else Origin(UNKNOWN, UNKNOWN, UNKNOWN, "none", UNKNOWN)


def carries_state(optimizer: Mapping[str, Any]) -> bool:
    """Return whether the optimizer keeps one state value per weight, so that a mask can be applied to a rewound state.

    Otherwise a rewound state is only valid for the dense network, and a ticket starts with a fresh one. `optimizer` is
    its name with its arguments; optimizers among these likewise.
    """
    names = [
        value["name"] for value in (optimizer, *optimizer.values()) if isinstance(value, Mapping) and "name" in value
    ]
    known = [registry.optimizers[name] for name in names if name in registry.optimizers]
    return all(entry.traits.coordinatewise for entry in known)


def _mode(mode: str) -> Mode:
    return next(each for each in MODES if each == mode)


def table() -> Iterator[tuple[str, ...]]:
    """Yield the rows of the documentation: control, its key `weights`, mode, and the parts of its origin.

    Modes of the same origin share a row.
    """
    kinds: list[tuple[str, str, Origins]] = [("dense", "", NETWORK), ("ticket", "", TICKET)]
    for entry in registry.branches:
        kinds += [(entry.name, option, origins) for option, origins in entry.traits.origins.items()]
    for name, option, origins in kinds:
        for origin in dict.fromkeys(origins.values()):
            modes = [mode for mode in MODES if origins[mode] == origin]
            said = "any" if len(modes) == len(MODES) else ", ".join(modes)
            yield name, option, said, origin.weights, origin.mask, origin.schedule, origin.state, origin.steps
