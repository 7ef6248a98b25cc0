"""The command as one of several ranks: what is wrong is said once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.calls import Call, call
from tests.support.micro import micro_text

__all__ = ["call"]


@pytest.mark.parametrize(("rank", "local_rank", "says"), [(0, 0, True), (1, 1, False), (2, 0, True), (3, 1, False)])
def test_what_is_wrong_with_a_recipe_is_said_once_on_each_machine_of_torchrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, rank: int, local_rank: int, says: bool
) -> None:
    (recipe := tmp_path / "bad.yaml").write_text(micro_text().replace("levels:", "depth:"))
    place = {"RANK": rank, "WORLD_SIZE": 4, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "a"}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    told = call("check", recipe)
    assert (told.code, told.out, "bad.yaml" in told.err) == (2, "", says)
