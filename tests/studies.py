"""Tables of plans with records made up by tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lottery.plan import Plan
from lottery.record import Record
from lottery.store import Store
from lottery.study import Study
from lottery.tables import Row
from lottery.views import rows_of


def view_of(view: str, plan: Plan, found: Mapping[str, Record], store: Store | None = None) -> list[Row]:
    """The rows of a view; the store is there for views that read more than records."""
    return rows_of(Study(plan, found, store or Store(Path("no-store"))), view)
