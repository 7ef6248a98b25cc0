"""The learning rate that a finished job of the plan has chosen, put in the place of its name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lottery.plan.kinds import METRICS_FILE
from lottery.values import Chosen, Component

if TYPE_CHECKING:
    from lottery.pruning.start import Start
    from lottery.store.store import Store


def resolve_rate(store: Store, start: Start) -> tuple[Start, dict[str, Any]]:
    """Return the start with the learning rate it trains at, and what the training's metrics say of the choice.

    That is `lr` and `lr_edge`, the side on which the rate was the last of those tried; nothing where the recipe gives
    the rate.
    """
    optimizer = start.spec.optimizer
    rate = optimizer.args.get("lr")
    if not isinstance(rate, Chosen):
        return start, {}
    choice = store.read_json(rate.key, METRICS_FILE)
    resolved = Component(optimizer.name, {**optimizer.args, "lr": choice["lr"]})
    return replace(start, spec=replace(start.spec, optimizer=resolved)), {"lr": choice["lr"], "lr_edge": choice["edge"]}
