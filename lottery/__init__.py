"""Lottery tickets: iterative magnitude pruning with rewinding, run from recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lottery.api import run, table
    from lottery.mask import Mask, masked
    from lottery.recipe import load_recipe

__all__ = ["Mask", "load_compact", "load_recipe", "load_ticket", "masked", "run", "table"]

_HOMES = {
    "Mask": "mask",
    "masked": "mask",
    "load_recipe": "recipe",
    "run": "api",
    "table": "api",
    "load_ticket": "ticketfile",
    "load_compact": "compact",
}


def __getattr__(name: str) -> Any:
    # torch takes over a second to import: only what is asked for pays
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"lottery.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lottery' has no attribute {name!r}")
