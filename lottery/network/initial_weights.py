"""Initial weights drawn again from a seed, and their distance from given ones, tolerated on other machines."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lottery.device import Machine
from lottery.environment import differing

ROUNDING = 1e-5  # of a tensor's largest value: as much as another processor or version of torch draws otherwise
MOST_THREADS = 256
CHANGES_BITS = ("torch", "platform", "device", "variables")  # of what an environment records, beside the threads


def alike(environment: Mapping[str, Any]) -> Machine:
    """Return this machine's processor with as many threads as an environment records.

    The number of threads decides how sums are split, and so the last bits of the result.
    """
    threads = environment.get("threads")
    if not isinstance(threads, int) or not 1 <= threads <= MOST_THREADS:
        threads = 1
    return Machine(torch.device("cpu"), threads, deterministic=True)


def elsewhere(environment: Mapping[str, Any], here: Machine) -> list[str]:
    """Return the known differences from this environment that can change bits; with none, bits must agree."""
    theirs, ours = ({name: each.get(name) for name in CHANGES_BITS} for each in (environment, here.environment()))
    return sorted(differing([[theirs], [ours]]))


def distance(drawn: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> float:
    """Return the largest difference as a share of the largest value of its tensor.

    0 where all values are equal, infinite where names, shapes, or values that are no floating point numbers differ.
    """
    if drawn.keys() != held.keys() or any(value.shape != held[name].shape for name, value in drawn.items()):
        return math.inf
    return max((_apart(value, held[name]) for name, value in drawn.items()), default=0.0)


def _apart(one: Tensor, other: Tensor) -> float:
    if torch.equal(one, other):
        return 0.0
    if not one.is_floating_point():
        return math.inf
    apart = float((one - other).abs().max() / one.abs().max())
    return math.inf if math.isnan(apart) else apart
