"""Lottery tickets: iterative magnitude pruning with rewinding, run from recipes.

To read the code, follow the way of a study: `recipe` (YAML to a validated recipe), `plan` (jobs and their keys),
`runner` (its docstring has the way of one job, function by function), `pruning.iterative` (the method on one screen),
`store` (finished jobs), `results` (a study of them), `analysis` (tables), `audit` and `verdicts` (what may be claimed).
What a recipe can name is in `catalogue`. README.md and docs/contributing.md have the whole tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lottery._version import __version__

if TYPE_CHECKING:
    from lottery.api import run, table
    from lottery.pruning.by_hand import prune
    from lottery.pruning.mask import Mask
    from lottery.pruning.masking import masked
    from lottery.recipe.load import load_recipe
    from lottery.recipe.sweep import load_sweep
    from lottery.structure.compact_file import load_compact
    from lottery.tickets.load import load_ticket
    from lottery.tickets.own import save_ticket

__all__ = [
    "Mask",
    "__version__",
    "load_compact",
    "load_recipe",
    "load_sweep",
    "load_ticket",
    "masked",
    "prune",
    "run",
    "save_ticket",
    "table",
]

_HOMES = {
    "Mask": "pruning.mask",
    "masked": "pruning.masking",
    "prune": "pruning.by_hand",
    "load_recipe": "recipe.load",
    "load_sweep": "recipe.sweep",
    "run": "api",
    "table": "api",
    "load_ticket": "tickets.load",
    "save_ticket": "tickets.own",
    "load_compact": "structure.compact_file",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    # torch takes over a second to import: only what is asked for pays
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"lottery.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lottery' has no attribute {name!r}")
