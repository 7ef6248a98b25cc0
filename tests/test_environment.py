"""What is recorded of versions and settings, and where records differ."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from typing import Any

import pytest
import torch

from lottery.device import machine, prepared
from lottery.environment import FIELDS, VARIABLES, are_alike, differing, variables, versions
from lottery.recipe.audit_fields import FIELDS as AUDITED
from tests.support.studies import HERE, dense, everything, hand, made, view_of

NOW = {**HERE, "numpy": "2.4", "pillow": "2.4", "curvlinops": "3.0", "plugin mine": "a" * 16}


def test_the_record_has_each_field_with_the_version_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:  # whatever this machine has set
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("NUMBA_OPT", "0")
    found = machine("cpu").environment()
    assert found.keys() >= set(FIELDS)
    for name, distribution in [("numpy", "numpy"), ("torchvision", "torchvision"), ("pillow", "pillow")]:
        assert found[name] == importlib.metadata.version(distribution)
    assert found["pytorch_optimizer"] == importlib.metadata.version("pytorch-optimizer")
    assert found["variables"] == "MKL_CBWR=COMPATIBLE NUMBA_OPT=0"
    monkeypatch.delenv("MKL_CBWR")
    monkeypatch.delenv("NUMBA_OPT")
    assert variables() == "none set"


def test_every_field_is_one_of_the_audits() -> None:
    assert set(FIELDS) <= set(AUDITED)


def test_versions_are_read_without_importing_anything() -> None:
    code = (
        "import sys\nfrom lottery.environment import PACKAGES, versions\nversions()\n"
        "print(sorted({*PACKAGES, 'torch', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_package_that_is_not_installed_is_recorded_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lottery.environment.PACKAGES", {"numpy": "numpy", "curvlinops": "no-such-distribution"})
    assert versions.__wrapped__() == {
        "numpy": importlib.metadata.version("numpy"),
        "curvlinops": "not installed",
    }


OTHERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"pillow": "2.3"}, ["pillow"]),
    ({"torch": "2.12.0", "pillow": "2.3"}, ["torch", "pillow"]),
    ({"pillow": None}, []),  # not recorded
    ({"curvlinops": "not installed"}, []),
    ({"plugin mine": "b" * 16}, ["plugin mine"]),
    ({"plugin mine": None}, []),  # not loaded
    ({"torch": None}, ["torch"]),  # has always been recorded: a record that lacks it is odd
]


@pytest.mark.parametrize(("change", "names"), OTHERS)
def test_what_two_records_say_is_compared_and_nothing_else(change: dict[str, Any], names: list[str]) -> None:
    other = {name: value for name, value in {**NOW, **change}.items() if value is not None}
    assert differing([[NOW], [other]]) == names
    assert are_alike(NOW, other) is (names == [])
    planned = hand("prune.levels=0")
    found = everything(planned, environment=NOW) | made(planned, dense(1, 0.5, environment=other))
    assert [row["note"] for row in view_of("means", planned, found)] == ["mixed environments" if names else ""]


def test_two_of_three_that_recorded_a_field_are_compared_in_it() -> None:
    assert differing([[HERE], [NOW], [{**NOW, "numpy": "2.3"}]]) == ["numpy"]
    assert differing([[HERE], [NOW], [NOW]]) == []


def test_sessions_of_one_training_differ_from_a_training_that_had_only_the_last() -> None:
    assert differing([[NOW, {**NOW, "numpy": "2.3"}], [NOW]]) == ["numpy"]
    assert differing([[NOW, HERE], [NOW]]) == []  # the first session recorded no numpy


def test_engines_of_sessions_do_not_agree_and_none_is_the_dense_one() -> None:
    assert are_alike(NOW, {**NOW, "engine": "dense"})
    assert not are_alike(NOW, {**NOW, "engine": "sparse"})


def test_a_job_computes_in_float32_whatever_a_plugin_made_the_default() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with prepared(machine("cpu"), "fp32"):
            assert torch.zeros(1).dtype == torch.float32
        assert torch.zeros(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
