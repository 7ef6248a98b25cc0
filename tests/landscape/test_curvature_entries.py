"""The analyses `hessian`, `sharpness` and `plateaus`: values, rows, poisoned weights, kills, and their stated cost."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lottery import registry
from lottery.landscape.memo import Memo
from lottery.landscape.plateaus import Waypoint, shares
from lottery.landscape.subject import Measurement, Subject
from lottery.traits import Work
from tests.support.surfaces import killed_everywhere, subject
from tests.support.surfaces import surface as perceptron_surface

CASES: dict[str, dict[str, Any]] = {
    "hessian": {"eigenvalues": 2, "steps": 6, "probes": 3, "density": True, "density_probes": 2, "by": "block"},
    "sharpness": {"steps": 2, "draws": 2},
    "plateaus": {"steps": 5},
}
cases = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let surfaces be of double precision, as the network of these tests is."""
    known: Callable[..., Any] = Subject.surface
    monkeypatch.setattr(Subject, "surface", lambda self, *args, **keys: known(self, *args, dtype=torch.float64, **keys))


def measure(name: str, of: Subject, memo: Memo | None = None, **keys: Any) -> Measurement:
    return registry.analyses[name].make(of, memo or Memo(), **keys)


def looked_at(name: str, **keys: Any) -> Subject:
    return subject(*((1.0, 0.5, 2.0) if name == "plateaus" else (1.0,)), **keys)


@cases
def test_pruned_weights_that_are_poisoned_change_nothing(name: str) -> None:
    clean = measure(name, looked_at(name, pruned=True), **CASES[name])
    poisoned = measure(name, looked_at(name, pruned=True, poison=math.nan), **CASES[name])
    assert repr(poisoned) == repr(clean)
    assert repr(measure(name, looked_at(name), **CASES[name])) != repr(clean)
    assert all(math.isfinite(value) for value in clean.values.values())


@cases
def test_each_value_has_a_unit_and_each_unit_a_value(name: str) -> None:
    found = measure(name, looked_at(name), **CASES[name])
    assert list(found.values) == list(registry.analyses[name].traits.units)


@cases
def test_an_entry_that_is_killed_goes_on_to_the_same_bytes(name: str) -> None:
    of = looked_at(name, pruned=True)
    few = CASES[name] | ({"by": "whole", "steps": 4} if name == "hessian" else {})
    assert killed_everywhere(lambda memo: measure(name, of, memo, **few)) > 10


@cases
def test_a_cost_is_stated_from_all_arguments(name: str) -> None:
    entry = registry.analyses[name]
    assert entry.traits.passes is not None
    less, more = (entry.traits.passes(entry.defaults | {"steps": steps}) for steps in (10, 20))
    assert isinstance(less, Work) and isinstance(more, Work)
    assert 0 < less.gradients + less.products < more.gradients + more.products


def test_the_catalogue_is_listed_without_torch() -> None:
    code = "import sys; from lottery import registry; list(registry.analyses); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_spectrum_by_block_has_rows_of_the_whole_and_of_each_parameter() -> None:
    found = measure(
        "hessian", looked_at("hessian", pruned=True), eigenvalues=3, by="block", density=True, density_probes=2
    )
    blocks = ["whole", "0.weight", "0.bias", "2.weight", "2.bias"]
    of = {block: [row for row in found.profile if row["block"] == block] for block in blocks}
    assert sum(map(len, of.values())) == len(found.profile)
    at = perceptron_surface(pruned=True)
    basis = torch.eye(at.size, dtype=torch.float64)
    full = torch.stack([at.hessian_product(unit) for unit in basis])
    for block, rows in of.items():
        part = full if block == "whole" else full[at.blocks[block], at.blocks[block]]
        expected = torch.linalg.eigvalsh(part).flip(0)
        ranks = {row["rank"]: row for row in rows if row["kind"] == "eigenvalue"}
        for rank in (1, 2, 3):
            error = abs(float(ranks[rank]["eigenvalue"]) - float(expected[rank - 1]))
            assert error <= float(ranks[rank]["residual"])
        assert float(ranks[0]["eigenvalue"]) == pytest.approx(float(expected[-1]), abs=1e-3)
        (trace,) = (row for row in rows if row["kind"] == "trace")
        assert abs(float(trace["value"]) - float(part.trace())) <= 4 * float(trace["standard_error"]) + 1e-8
        assert trace["size"] == len(part)
        assert {row["width"] for row in rows if row["kind"] == "density"} == {0.1}
    assert found.values["mean_eigenvalue"] == found.values["trace"] / at.size


def test_a_diverged_state_has_values_that_are_not_finite() -> None:
    assert math.isnan(measure("hessian", subject(math.nan)).values["largest_eigenvalue"])
    assert math.isnan(measure("sharpness", subject(math.nan)).values["worst_case"])
    assert math.isnan(measure("plateaus", subject(1.0, math.nan)).values["plateau_share"])


def waypoint(step: int, norm: float, smallest: float) -> Waypoint:
    return Waypoint(step, 1.0, norm, smallest, 0.0, 1.0, 0.0)


def test_shares_of_a_run_count_the_steps_around_each_state() -> None:
    run = [waypoint(0, 1.0, -1), waypoint(10, 0.05, -1), waypoint(20, 0.05, 0.5), waypoint(100, 0.2, -1)]
    found = shares(run, threshold=0.1)  # they stand for 5, 10, 45 and 40 steps of 100
    assert found == pytest.approx({"plateau_share": 0.1, "small_gradient_share": 0.55, "nonpositive_share": 0.55})
    assert shares(run[:1], 0.1) == {"plateau_share": 0, "small_gradient_share": 0, "nonpositive_share": 1}
    assert math.isnan(shares([*run, waypoint(200, math.inf, -1)], 0.1)["plateau_share"])


def test_a_run_that_starts_at_a_saddle_has_its_plateau_there() -> None:
    found = measure("plateaus", subject(0.0, 1e-3, 1.0), threshold=0.9, steps=45)
    first, *_, last = found.profile
    assert [row["step"] for row in found.profile] == [0, 10, 20]
    assert float(last["gradient_norm"]) > 0
    assert float(first["smallest"]) < 0 < float(first["largest"])
    norms = [float(row["gradient_norm"]) for row in found.profile]
    assert found.values["largest_gradient_norm"] == max(norms)
