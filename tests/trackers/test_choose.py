"""What `--track` names, and how a wrong name or key is told; trainings by the names they have there."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest

from lottery.errors import UsageError
from lottery.plan.expand import plan
from lottery.plan.kinds import Kind
from lottery.trackers import choose
from lottery.trackers.describe import TRACKED, describe
from tests.support.micro import micro
from tests.support.trackers import Memory, register

WRONG = {
    "tensorbord": "--track: no tracker 'tensorbord'; did you mean 'tensorboard'? (lottery list trackers)",
    "{name: wandb, offlin: true}": "--track: offlin: wandb has no key 'offlin'; did you mean 'offline'?",
    "{name: wandb, offline: maybe}": "--track: offline: input should be a valid boolean, not 'maybe'",
    "[wandb]": "--track: a list is not taken here; write one entry",
}


@pytest.mark.parametrize("given", WRONG)
def test_a_wrong_tracker_is_refused_in_a_line_that_names_the_option(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose.trackers_of([given])
    assert str(caught.value) == WRONG[given]


def test_a_tracker_whose_package_is_missing_is_refused_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Memory, package="no_such_package")
    with pytest.raises(UsageError) as caught:
        choose.trackers_of("memory")
    assert str(caught.value) == (
        "--track memory: needs no_such_package, not installed here: pip install 'lottery[memory]'"
    )


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb"])
@pytest.mark.parametrize("why", ["Read-only file system", "is a file"])
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_trained(
    tracker: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(tracker, reason=f"the extra `{tracker}` is not installed")
    folder = tmp_path / "there"

    def read_only(dir: Path) -> None:
        assert dir == folder
        raise OSError(errno.EROFS, "Read-only file system")

    if why == "is a file":
        folder.write_text("")
    else:
        monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    offline = {"offline": True} if tracker == "wandb" else {}
    with pytest.raises(UsageError, match=why) as caught:
        choose.trackers_of({"name": tracker, "folder": str(folder), **offline})
    assert str(caught.value).startswith(f"--track {tracker}: {folder}: ")


def test_one_tracker_or_several_are_taken_as_text_or_as_mappings(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def make(*, folder: str = "here") -> Memory:
        made.append(folder)
        return Memory()

    register(monkeypatch, make)
    for track in ("memory", {"name": "memory", "folder": "there"}, ["memory", "{name: memory, folder: where}"]):
        choose.trackers_of(track)
    assert made == ["here", "there", "here", "where"]


def test_no_two_trainings_of_a_study_have_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = micro(
        "seeds=2",
        "train.optimizer=[{name: adam, lr: 1e-3}, {name: adam, lr: 1e-2}, {name: sgd, lr: 0.1}]",
        "rewind=[init, 4it, {to: 4it, mode: lr}]",
        "branches=[{name: reinit, samples: 2}, shuffle, {name: reinit, trunk: own}]",
    )
    planned = plan(recipe, "ab" * 32)
    trainings = [describe(planned, job) for job in planned if job.kind in TRACKED]
    names = [training.name for training in trainings]
    assert len(names) == len(set(names)) > 100
    assert "adam(lr=0.01) seed 1 level 2 reinit 1 from 4it (lr)" in names
    assert "sgd seed 0 dense" in names
    assert all(training.unique_name.endswith(training.key[:12]) for training in trainings)


def test_trials_and_retrained_tickets_say_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = micro(
        "train.optimizer=[{name: adam}, {name: sgd}]",
        "tune={trials: 2, seeds: [77]}",
        "transfer={levels: 1}",
    )
    planned = plan(recipe, "ab" * 32)
    found = {describe(planned, job).name: describe(planned, job) for job in planned if job.kind in TRACKED}
    assert {training.kind for training in found.values()} == {"trial", "dense", "ticket", "branch"}
    assert any(re.fullmatch(r"adam seed 77 trial lr 0\.\d+", name) for name in found)
    (retrained,) = [each for name, each in found.items() if name.startswith("adam seed 0 level 1 retrained with sgd")]
    assert str(retrained.config["retrained_with"]).startswith("sgd") and "control" not in retrained.config
    assert "optimizer.lr" not in retrained.config  # it is chosen by the run


def test_the_beginning_of_the_dense_network_is_told_as_a_part_of_it() -> None:
    planned = plan(micro("rewind=4it"), "ab" * 32)
    assert {job.kind for job in planned} - set(TRACKED) == {Kind.REWIND}
    (dense,) = [describe(planned, job) for job in planned if job.kind is Kind.DENSE]
    assert dense.config["optimizer"] == "adam" and dense.config["optimizer.lr"] == 3e-3
    assert describe(planned, next(iter(planned)), "a=1").name.startswith("a=1: adam")
