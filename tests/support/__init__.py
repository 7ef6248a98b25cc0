"""What tests share: small studies, made-up records, injected faults, and where the repository lies."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
