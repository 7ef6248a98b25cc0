"""Lottery tickets: iterative magnitude pruning with rewinding, run from recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lottery._version import __version__

if TYPE_CHECKING:
    from lottery.api import run, table
    from lottery.pruning.mask import Mask
    from lottery.pruning.masking import masked
    from lottery.recipe.load import load_recipe

__all__ = ["Mask", "__version__", "load_compact", "load_recipe", "load_ticket", "masked", "run", "table"]

_HOMES = {
    "Mask": "pruning.mask",
    "masked": "pruning.masking",
    "load_recipe": "recipe.load",
    "run": "api",
    "table": "api",
    "load_ticket": "tickets.file",
    "load_compact": "structure.compact_file",
}


def __getattr__(name: str) -> Any:
    # torch takes over a second to import: only what is asked for pays
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"lottery.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lottery' has no attribute {name!r}")
