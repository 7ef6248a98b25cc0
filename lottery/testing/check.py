"""The one function that checks an entry of any catalogue."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from lottery.errors import UsageError
from lottery.registry import catalogues, suggest
from lottery.testing.examples import Examples
from lottery.values import Component

CHECKED = ("models", "datasets", "optimizers", "criteria", "inits")  # each has a module of this name


def check_entry(
    catalogue: str,
    name: str,
    *,
    input_shape: tuple[int, ...] = (1, 8, 8),
    classes: int = 10,
    data: str | Path = "data",
    **arguments: Any,
) -> None:
    """Check that an entry does what the machinery counts on; nothing is stored.

    All that is wrong is told at once. An entry without a fault here can still be wrong as a method: compare it with its
    formula in tests of your own.

    Args:
        catalogue: `models`, `datasets`, `optimizers`, `criteria` or `inits`.
        name: Name of the entry, as a recipe has it; the module that registers it must have been imported.
        input_shape: Shape of an example that models are made for, without the batch.
        classes: Number of classes that models are made for.
        data: Folder of data sets.
        arguments: Keys of the entry, as a recipe gives them.

    Raises:
        UsageError: With a line for each thing that is wrong; also where there is no such catalogue or entry.
        Exception: What the entry raises.
    """
    if catalogue not in CHECKED:
        raise UsageError(f"check_entry: {catalogue!r} cannot be checked{suggest(catalogue, CHECKED)}")
    registry = catalogues[catalogue]
    entry = registry[name]
    if wrong := registry.faults(name):
        raise UsageError("\n".join(wrong))
    component, problems = registry.check(Component(name, dict(arguments)))
    if problems:
        told = (f"{name}{''.join(f'.{step}' for step in path)}: {message}" for path, message in problems)
        raise UsageError("\n".join(told))
    module = importlib.import_module(f"lottery.testing.{catalogue}")
    found = list(module.problems(entry, component.args, Examples(tuple(input_shape), classes, Path(data))))
    if not entry.summary.endswith("."):
        found.append("its docstring has no first line that ends with a full stop, which `lottery list` shows")
    if found:
        raise UsageError("\n".join(f"{entry.singular} {name!r}: {each}" for each in found))
