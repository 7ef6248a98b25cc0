"""`lottery doctor`: what it finds is what is there, and a broken part stops no other."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from lottery import device
from lottery._version import __version__
from lottery.cli import doctor
from lottery.store.store import Store
from tests.support.calls import Call, call

__all__ = ["call"]


def values(call: Call, *options: object) -> dict[tuple[str, str], dict[str, Any]]:
    told = call("doctor", "--json", *options)
    lines = json.loads(told.out)
    assert told.code == (0 if all(line["fine"] for line in lines) else 1)
    return {(line["about"], line["name"]): line for line in lines}


def test_versions_cores_data_and_store_are_those_that_are_there(tmp_path: Path, call: Call) -> None:
    (tmp_path / "data" / "cifar-100-python").mkdir(parents=True)
    for name in ("train", "test", "meta"):
        (tmp_path / "data" / "cifar-100-python" / name).write_bytes(b"")
    (tmp_path / "data" / "my images").mkdir()
    store = Store(tmp_path / "store")
    store.commit("a" * 64, {"x": b"1"}, kind="dense")
    store.record_failure("b" * 64, label="b", message="no")
    found = values(call, "--data", tmp_path / "data", "--store", tmp_path / "store")
    assert found["versions", "torch"]["value"] == metadata.version("torch")
    assert found["versions", "lottery"]["value"].startswith(f"{__version__}, ")
    assert found["machine", "cores"]["value"].startswith(f"{device.cores()} of ")
    assert found["data", "cifar100"]["value"] == "found"
    assert found["data", "mnist"]["value"].startswith("downloaded by the first run")
    assert found["data", "other folders"]["value"] == "my images"
    assert found["store", "jobs"]["value"].startswith("1 finished")
    assert found["store", "failed"]["fine"] is False and "1 job" in found["store", "failed"]["value"]
    assert found["extras", "parquet"]["value"].startswith(("pyarrow ", "pyarrow not installed; pip install"))


def test_nothing_is_written_and_a_store_that_is_not_there_is_said_to_be_so(tmp_path: Path, call: Call) -> None:
    found = values(call, "--data", tmp_path / "data", "--store", tmp_path / "store")
    assert "there is no store here yet" in found["store", "place"]["value"]
    assert "is not there yet" in found["data", "folder"]["value"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("part", ["_versions", "_machine", "_devices", "_data", "_store", "_extras"])
def test_a_part_that_breaks_is_a_line_and_the_others_go_on(
    part: str, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("operator torchvision::nms does\nnot exist")

    monkeypatch.setattr(doctor, part, broken)
    told = call("doctor", "--store", tmp_path, "--data", tmp_path)
    assert told.code == 1 and "! failed" in told.out
    assert "RuntimeError: operator torchvision::nms does not exist" in told.out
    abouts = [line for line in told.out.splitlines() if not line.startswith(" ")]
    assert abouts == ["versions", "machine", "devices", "data", "store", "extras"]


def test_a_torchvision_that_fits_no_torch_is_said_with_the_way_out(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.delitem(__import__("sys").modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = values(call, "--store", tmp_path / "s")["versions", "torchvision"]
    assert line["fine"] is False
    assert "does not fit this torch (operator torchvision::nms does not exist)" in line["value"]
    assert "pip install --upgrade torch torchvision" in line["value"]


def test_the_version_is_printed_before_any_command(call: Call) -> None:
    told = call("--version")
    assert (told.code, told.out, told.err) == (0, f"lottery {__version__}\n", "")
