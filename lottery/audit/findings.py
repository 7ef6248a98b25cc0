"""Findings of the fairness audit, and the cells of the tables whose verdicts they withhold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Cell = tuple[int, str, int, str]  # optimizer's index, rewind point's label, level, column


@dataclass(frozen=True)
class Finding:
    """A difference between two trainings, or a proof that failed.

    Attributes:
        cell: The cell of the training.
        seed: Its seed; None for a finding on the seeds of a cell.
        key: Its key; empty for a finding on the seeds of a cell.
        field: The field of the audit (`lottery.recipe.audit_fields`) that differs, or that the proof is about.
        ours: The value of the training, as text; empty for a failed proof.
        dense: The value of the network it is compared with, as text; empty for a failed proof.
        allowed_by: What allows the difference, in words; empty where nothing does.
        note: What is wrong, in words.
        against: The network it is compared with: `dense network` or `ticket`.
        found_in: Full keys of the trainings that show it; they need not all be finished.
    """

    cell: Cell
    seed: int | None
    key: str
    field: str
    ours: str
    dense: str
    allowed_by: str = ""
    note: str = ""
    against: str = "dense network"
    found_in: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The finding as the reader of a verdict is told it."""
        values = f"{self.ours}, {self.against} {self.dense}" if self.dense else ""
        return f"{self.field}: {'; '.join(filter(None, (values, self.note)))}"


@dataclass(frozen=True)
class Audit:
    """All findings on a study.

    Attributes:
        findings: The findings, in the order of the plan.
        cells: The cells that have a finished training.
        compared: Keys of the trainings that were compared, by the optimizer's index in the recipe.
        unproven: Sentences on what the records leave open, by the optimizer's index in the recipe.
    """

    findings: tuple[Finding, ...]
    cells: frozenset[Cell]
    compared: Mapping[int, Sequence[str]]
    unproven: Mapping[int, tuple[str, ...]]

    def withheld(self) -> dict[Cell, list[str]]:
        """Return the cells whose verdicts are withheld, each with its reasons and their seeds.

        A finding on a dense network withholds all cells of its optimizer.
        """
        reasons: dict[Cell, dict[str, list[str]]] = {}
        for finding in self.findings:
            if not finding.allowed_by:
                seed = [] if finding.seed is None else [str(finding.seed)]
                for cell in self._affected(finding.cell):
                    reasons.setdefault(cell, {}).setdefault(finding.words, []).extend(seed)
        return {cell: [_with_seeds(*each) for each in found.items()] for cell, found in reasons.items()}

    def _affected(self, cell: Cell) -> Iterable[Cell]:
        optimizer_index, _, _, column = cell
        return [other for other in self.cells if other[0] == optimizer_index] if column == "dense" else [cell]


def _with_seeds(words: str, seeds: list[str]) -> str:
    return f"{words} (seed {', '.join(dict.fromkeys(seeds))})" if seeds else words


def listed_seeds(seeds: Iterable[int]) -> str:
    """Return numbers in rising order, separated by commas; `none` for none."""
    return ", ".join(map(str, sorted(seeds))) or "none"
