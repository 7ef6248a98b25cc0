"""Removal and renaming of studies: what others need stays, and what is cut off can be done again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lottery.errors import UsageError
from lottery.recipe.sweep import parse_sweep
from lottery.results.studies import find_study, remember, remembered
from lottery.results.study_progress import progress
from lottery.results.study_removal import removal_of, remove, rename
from lottery.store.maintenance import summarize
from lottery.store.store import Store
from tests.support.calls import Call, call
from tests.support.faults import Crash, crash_before
from tests.support.micro import MICRO, micro_text
from tests.support.places import KINDS, Ground, ground, look_always

__all__ = ["call"]
TRUNK, TICKET, OWN, OTHER, STRANGER = (digit * 64 for digit in "abcde")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    look_always(monkeypatch)
    with ground(request.param, tmp_path) as found:
        yield found


def commit(store: Store, key: str, identity: object, kind: str = "ticket", parent: str | None = None) -> None:
    store.commit(key, {"job.json": json.dumps(identity).encode(), "x": b"1" * 100}, kind=kind, parent=parent)


def filled(store: Store) -> None:
    """Two studies that share a trunk: one has a ticket and a job of its own, the other another job."""
    for key in (TRUNK, TICKET, OWN, OTHER):
        commit(store, key, {})
    remember(store, parse_sweep(MICRO, "a.yaml", ["name=one"]), [TRUNK, TICKET, OWN])
    remember(store, parse_sweep(MICRO, "a.yaml", ["name=two"]), [TRUNK, OTHER])


def test_only_jobs_that_no_other_study_has_go_with_a_study(place: Ground) -> None:
    store = place.open()
    filled(store)
    store.save_checkpoint("f" * 64, 3, {"state": b"12"})
    remember(store, parse_sweep(MICRO, "a.yaml", ["name=one"]), [TRUNK, TICKET, OWN, "f" * 64])
    before = place.contents().keys()
    found = removal_of(place.open(), [find_study(store, "one")])
    assert (found.finished, found.unfinished, found.shared, found.built_on) == ((OWN, TICKET), ("f" * 64,), 1, 0)
    assert found.size > 200 and place.contents().keys() == before  # nothing is removed by looking
    other = place.open()
    remove(other, found)
    place.rest()
    assert sorted(place.open().keys()) == [TRUNK, OTHER]
    assert [each.name for each in remembered(place.open())] == ["two"]
    assert [path for path in place.contents() if path.startswith("partial/")] == []
    last = removal_of(place.open(), remembered(place.open()))
    assert sorted(last.finished) == [TRUNK, OTHER]


def test_a_study_of_which_a_job_runs_is_not_removed(place: Ground) -> None:
    store = place.open()
    filled(store)
    with place.open().lease(TICKET) as mine:
        assert mine
        with pytest.raises(UsageError, match="works on this job; stop the run"):
            removal_of(place.open(), [find_study(store, "one")])
    assert removal_of(place.open(), [find_study(store, "one")]).finished == (OWN, TICKET)


def test_a_job_that_begins_to_run_between_look_and_removal_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    filled(store)
    found = removal_of(store, [find_study(store, "one")])
    with Store(tmp_path).lease(TICKET), pytest.raises(UsageError, match="works on this job"):
        remove(store, found)
    assert store.find(TICKET) is not None and find_study(store, "one")
    remove(store, found)
    assert store.find(TICKET) is None


def test_what_jobs_of_no_study_were_computed_from_stays_with_its_rewind_state(tmp_path: Path) -> None:
    store, training = Store(tmp_path), {"model": "x"}
    dense, point, ticket = "1" * 64, "2" * 64, "3" * 64
    commit(store, point, {"kind": "rewind", "training": training}, "rewind")
    commit(store, dense, {"kind": "dense", "training": training}, "dense")
    commit(store, ticket, {"parent": dense}, parent=dense)
    commit(store, STRANGER, {"parent": ticket}, parent=ticket)  # of a recipe that ran before stores remembered
    commit(store, OWN, {"parent": ticket})
    remember(store, parse_sweep(MICRO, "a.yaml"), [point, dense, ticket, OWN])
    found = removal_of(store, remembered(store))
    assert (found.finished, found.built_on) == ((OWN,), 3)


def test_jobs_of_earlier_plans_of_a_study_go_with_it_and_those_of_others_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    filled(store)
    remember(store, parse_sweep(MICRO, "a.yaml", ["name=one"]), [TRUNK])
    remember(store, parse_sweep(MICRO, "a.yaml", ["name=two"]), [TRUNK])
    assert sorted(removal_of(store, [find_study(store, "one")]).finished) == [TICKET, OWN]
    assert sorted(removal_of(store, [find_study(store, "two")]).finished) == [OTHER]


def test_nothing_is_removed_while_it_is_unknown_what_another_study_has(tmp_path: Path) -> None:
    store = Store(tmp_path)
    filled(store)
    (tmp_path / find_study(store, "two").path).write_bytes(b"{")
    with pytest.raises(UsageError, match=r"two\..*: cannot be read, and so nobody knows which jobs"):
        removal_of(store, [find_study(store, "one")])


def test_a_removal_that_is_killed_anywhere_is_finished_by_doing_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.faults import Disk

    number, crashed = 0, True
    while crashed:
        root = tmp_path / str(number)
        filled(Store(root))
        disk = Disk(monkeypatch)
        disk.arm(number, crash_before)
        try:
            remove(Store(root), removal_of(Store(root), [find_study(Store(root), "one")]))
            crashed = False
        except Crash:
            pass
        finally:
            disk.heal()
        store = Store(root)
        if any(each.name == "one" for each in remembered(store)):
            remove(store, removal_of(store, [find_study(store, "one")]))
        assert sorted(store.keys()) == [TRUNK, OTHER] and [each.name for each in remembered(store)] == ["two"]
        assert all(problem is None for _, problem in store.verify()) and not (root / "quarantine").exists()
        number += 1
    assert number > 5


def test_a_renamed_study_goes_on_under_its_new_name(place: Ground) -> None:
    store = place.open()
    filled(store)
    jobs = {path: data for path, data in place.contents().items() if path.startswith("jobs/")}
    version = find_study(store, "one").version
    (renamed,) = rename(store, "one", "first.paper")
    place.rest()
    assert (renamed.name, renamed.version) == ("first.paper", version)
    assert sorted(each.name for each in remembered(place.open())) == ["first.paper", "two"]
    assert find_study(place.open(), "first.paper").overrides == ("name=first.paper",)
    assert {path: data for path, data in place.contents().items() if path.startswith("jobs/")} == jobs


@pytest.mark.parametrize("new", ["two", "a b", "", "../x", "a@b", "a" * 65])
def test_a_name_that_is_taken_or_is_none_is_refused(tmp_path: Path, new: str) -> None:
    store = Store(tmp_path)
    filled(store)
    with pytest.raises(UsageError, match=r"is the name of another study|is no name of a study"):
        rename(store, "one", new)
    assert sorted(each.name for each in remembered(store)) == ["one", "two"]


def test_progress_counts_the_jobs_of_the_last_plan_by_state(place: Ground) -> None:
    store = place.open()
    filled(store)
    store.commit("7" * 64, {"x": b"1"}, kind="ticket", status="diverged")
    store.record_failure("8" * 64, label="a", message="no")
    store.record_failure(TICKET, label="a", message="of a time before it was done")
    jobs = [TRUNK, TICKET, *(digit * 64 for digit in "6789")]
    remember(store, parse_sweep(MICRO, "a.yaml", ["name=three"]), jobs)
    with place.open().lease("9" * 64):
        (found,) = progress(place.open(), [find_study(store, "three")])
    assert (found.planned, found.finished, found.diverged) == (6, 3, 1)
    assert (found.running, found.failed) == (("9" * 64,), ("8" * 64,))
    assert found.size == 2 * (100 + 2) + 1
    store.record_failure("0" * 64, label="another study's", message="no")
    counts = summarize(place.open(), frozenset(jobs))
    assert (counts.finished, list(counts.failed), counts.interrupted) == (3, ["8" * 64], [])
    assert len(summarize(place.open()).failed) == 2


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> Path:
    """A folder with a store in which one recipe was run as two versions."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOTTERY_STORE", "LOTTERY_DATA"):
        monkeypatch.delenv(name, raising=False)
    Path("mine.yaml").write_text(micro_text("name=mine", "train.length=2it", "train.evaluate_every=2it"))
    for levels in (2, 1):
        assert call("run", "mine.yaml", "--device", "cpu", "--set", f"prune.levels={levels}").code == 0
    return tmp_path


def test_studies_are_listed_told_apart_renamed_and_removed_on_the_command_line(run: Path, call: Call) -> None:
    listed = json.loads(call("studies", "--json").out)
    assert [(each["name"], each["planned"], each["finished"]) for each in listed["studies"]] == [
        ("mine", 3, 3),
        ("mine", 4, 4),
    ]
    assert [each["overrides"] for each in listed["studies"]] == [["prune.levels=1"], ["prune.levels=2"]]
    assert sorted(listed["differences"]["mine"]["prune.levels"].values()) == [1, 2]
    text = call("studies").out
    assert "3 of 3" in text and "--set prune.levels=1" in text and "mine: 2 versions" in text
    ambiguous = call("table", "mine")
    assert (ambiguous.code, "2 versions" in ambiguous.err) == (2, True)
    short, long = (f"{each['name']}@{each['version']}" for each in listed["studies"])
    assert call("table", long).code == 0
    looked = call("studies", "remove", long)
    assert looked.code == 0 and "1 finished job" in looked.out and "nothing was removed" in looked.out
    assert call("studies", "remove", long, "--delete").code == 0
    assert [each["finished"] for each in json.loads(call("studies", "--json").out)["studies"]] == [3]
    assert call("studies", "rename", "mine", "paper").out == f"paper@{short.partition('@')[2]}\n"
    assert call("run", "paper", "--device", "cpu").err.splitlines()[-1] == "3 done before"
    assert [each["name"] for each in json.loads(call("studies", "--json").out)["studies"]] == ["paper"]
    assert json.loads(call("status", "paper", "--json").out)["finished"] == 3
    assert call("studies", "remove", "mine").code == call("status", "mine").code == 2


def test_a_store_that_is_not_there_or_holds_nothing_is_said_to_be_so(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is no store here" in call("studies", "--store", "nowhere").out
    assert "there is no store here" in call("status", "--store", "nowhere").out
    assert not Path("nowhere").exists()
