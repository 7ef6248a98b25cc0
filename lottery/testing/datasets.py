"""The demands on a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from lottery.data.splits import Splits, fingerprint
from lottery.data.splits import problems as faults
from lottery.registry import Entry
from lottery.testing.examples import Examples, generator_untouched

LARGEST = 100.0  # of a feature: networks are made for numbers around 1


def problems(entry: Entry[Any], arguments: Mapping[str, Any], examples: Examples) -> Iterator[str]:
    """Yield what is wrong with a data set, which is read twice."""
    found: list[str] = []
    with generator_untouched(found.append):
        splits = entry.checked(entry.make(examples.data, **arguments), Splits)
    yield from found
    if wrong := list(faults(splits)):
        yield from wrong
        return
    if fingerprint(splits) != fingerprint(entry.make(examples.data, **arguments)):
        yield "gives other data when it is read again; draw with a generator of a fixed seed"
    if not isinstance(splits.train_x, torch.Tensor) or not isinstance(splits.test_x, torch.Tensor):
        return  # images that stay in their files
    if splits.train_x.is_floating_point():
        for part, x in (("training", splits.train_x), ("test", splits.test_x)):
            if not bool(torch.isfinite(x).all()):
                yield f"{part} examples are not all finite"
        if float(largest := splits.train_x.abs().max()) > LARGEST:
            yield f"features go up to {float(largest):g}; standardize them by the training set's mean and deviation"
    if not splits.regression:
        seen = torch.bincount(splits.train_y, minlength=splits.classes)
        if missing := [str(number) for number, count in enumerate(seen.tolist()) if not count]:
            yield f"no training example is of the classes {', '.join(missing)}"
