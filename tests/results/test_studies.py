"""What a store remembers of its studies, and which recipe a name means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lottery
from lottery.errors import LotteryError, UsageError
from lottery.recipe.schema import Recipe
from lottery.recipe.sweep import Sweep, load_sweep, parse_sweep
from lottery.results.named_recipe import load_named
from lottery.results.studies import RememberedStudy, bring, differences, find_study, remember, remembered
from lottery.store.store import Store
from tests.support.calls import Call, call
from tests.support.faults import Crash, Disk, crash_within
from tests.support.micro import MICRO, micro, micro_text
from tests.support.places import KINDS, Ground, ground, look_always

__all__ = ["call"]
SWEPT = MICRO + "sweep: {model.norm: [none, batch]}\n"
FAST = ("train.length=2it", "train.evaluate_every=2it", "prune.levels=1")


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    look_always(monkeypatch)
    with ground(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("LOTTERY_STORE", "LOTTERY_DATA"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mine.yaml").write_text(micro_text("name=mine", *FAST))
    return tmp_path


def sweep(text: str = MICRO, *overrides: str) -> Sweep:
    return parse_sweep(text, "somewhere/micro.yaml", overrides)


def run_before(store: Store, asked: Sweep, *jobs: str) -> RememberedStudy:
    remember(store, asked, jobs)
    return remembered(store)[0]


def test_a_study_is_remembered_in_every_kind_of_place(place: Ground) -> None:
    assert remembered(place.open()) == []
    remember(place.open(), sweep(MICRO, "seeds=3"), ["a", "b"], ["mynet"])
    (found,) = remembered(place.open())
    assert (found.name, found.recipe, found.source) == ("micro", MICRO, str(Path("somewhere/micro.yaml").absolute()))
    assert (found.overrides, found.plugins, found.jobs) == (("seeds=3",), ("mynet",), ("a", "b"))
    assert find_study(place.open(), "micro") == find_study(place.open(), f"micro@{found.version[:5]}") == found


def test_a_second_run_keeps_the_time_of_the_first_and_the_keys_that_it_has_no_more(tmp_path: Path) -> None:
    first = run_before(Store(tmp_path), sweep(), "a", "b")
    document = tmp_path / first.path
    aged = json.loads(document.read_bytes()) | {"first_run": "2024-01-01T00:00:00Z", "last_run": "2024-01-02T00:00:00Z"}
    document.write_text(json.dumps(aged))
    again = run_before(Store(tmp_path), sweep(), "b", "c")
    assert (again.version, again.first_run.year, again.jobs, again.former) == (first.version, 2024, ("b", "c"), ("a",))
    assert again.last_run > again.first_run and again.last_run.tzinfo is not None


def test_a_sweep_is_one_study_whichever_of_its_points_are_run(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), sweep(SWEPT)
    remember(store, whole.at(["model.norm=none"]), ["a"])
    remember(store, whole.at(["model.norm=batch"]), ["b"])
    (found,) = remembered(store)
    assert found.jobs == ("a", "b") and found.former == ()
    remember(store, whole, ["c"])
    assert [(each.jobs, each.former) for each in remembered(store)] == [(("c",), ("a", "b"))]


def test_the_version_tells_recipes_apart_and_not_how_they_are_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    versions = {}
    written: dict[str, Sweep | Recipe] = {
        "file": sweep(),
        "comment": sweep(f"# mine\n{MICRO}"),
        "set to what it is": sweep(MICRO, "seeds=1"),
        "program": micro(),
        "three seeds": sweep(MICRO, "seeds=3"),
    }
    for name, asked in written.items():
        remember(store, asked, ["a"])
        versions[name] = remembered(store)[0].version if len(remembered(store)) == 1 else "another"
    assert len(set(list(versions.values())[:4])) == 1 and versions["three seeds"] == "another"
    remember(Store(tmp_path / "other"), sweep(), ["a"], ["mynet"])
    assert remembered(Store(tmp_path / "other"))[0].version != versions["file"]


def test_the_last_of_several_versions_is_meant_only_if_it_has_the_jobs_of_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    remember(store, sweep(MICRO, "seeds=1"), ["a"])
    older = tmp_path / remembered(store)[0].path
    older.write_text(json.dumps(json.loads(older.read_bytes()) | {"last_run": "2024-01-01T00:00:00Z"}))
    remember(store, sweep(MICRO, "seeds=2"), ["a", "b"])
    assert find_study(store, "micro").overrides == ("seeds=2",)
    older.write_text(json.dumps(json.loads(older.read_bytes()) | {"jobs": ["a", "z"]}))
    with pytest.raises(UsageError, match=r"2 versions .* name one:\n  micro@.*--set seeds=2.*seeds=\[0, 1\]"):
        find_study(store, "micro")
    versions = [each.full_name for each in remembered(store)]
    assert [find_study(store, each).overrides for each in versions] == [("seeds=2",), ("seeds=1",)]
    assert differences(*remembered(store)) == {"seeds": ([0, 1], [0])}


def test_versions_that_a_later_one_has_all_jobs_of_are_counted_and_not_offered(tmp_path: Path) -> None:
    store = Store(tmp_path)
    runs = (("seeds=1", ["a"], 2024), ("seeds=2", ["a", "b"], 2025), ("train.batch_size=7", ["z"], 2026))
    for change, jobs, year in runs:
        before = {each.path for each in remembered(store)}
        remember(store, sweep(MICRO, change), jobs)
        (path,) = {each.path for each in remembered(store)} - before
        document = json.loads((tmp_path / path).read_bytes()) | {"last_run": f"{year}-01-01T00:00:00Z"}
        (tmp_path / path).write_text(json.dumps(document))
    with pytest.raises(UsageError) as refused:
        find_study(store, "micro")
    first, *choices, rest = str(refused.value).splitlines()
    assert first.startswith("micro: 3 versions") and first.endswith("name one:")
    assert ["batch_size=7" in choices[0], "seeds=2" in choices[1], len(choices)] == [True, True, 2]
    assert rest.strip() == "and 1 version with no other jobs than a later one (lottery studies)"


def test_a_name_that_was_never_run_is_refused_with_those_that_were(tmp_path: Path) -> None:
    remember(Store(tmp_path), sweep(), ["a"])
    with pytest.raises(UsageError, match=r"no study of this name was run in .*; did you mean 'micro'"):
        find_study(Store(tmp_path), "mikro")
    with pytest.raises(LotteryError, match=r"mikro: neither a file nor a shipped recipe.*no study of this name"):
        load_named("mikro", tmp_path)
    for hostile in ("../micro", "micro@../x", "micro\0", "mi/cro"):
        with pytest.raises(UsageError):
            find_study(Store(tmp_path), hostile)


def test_a_store_that_cannot_be_written_to_goes_without_a_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    remember(Store(tmp_path / "file" / "store"), sweep(), ["a"])
    assert remembered(Store(tmp_path / "file" / "store")) == []


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1", b'{"name": 3}'])
def test_a_damaged_document_is_left_out_with_a_warning_and_the_next_run_writes_it_anew(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    found = run_before(store, sweep(), "a")
    (tmp_path / found.path).write_bytes(damage)
    assert remembered(store) == [] and "is not as it was written" in caplog.text
    assert run_before(store, sweep(), "a").jobs == ("a",)


def test_a_memory_that_is_cut_off_anywhere_is_the_old_one_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, crashed = 0, True
    while crashed:
        store = Store(tmp_path / str(number))
        remember(store, sweep(), ["a"])
        disk = Disk(monkeypatch)
        disk.arm(number, crash_within)
        try:
            remember(store, sweep(), ["b"])
            crashed = False
        except Crash:
            pass
        disk.heal()
        assert [each.jobs for each in remembered(Store(tmp_path / str(number)))] in ([("a",)], [("b",)])
        number += 1
    assert number > 2


def test_many_processes_that_remember_one_study_leave_one_whole_document(place: Ground) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: remember(place.open(), sweep(), ["a"]), range(16)))
    assert [(each.name, each.jobs) for each in remembered(place.open())] == [("micro", ("a",))]
    assert len([path for path in place.contents() if path.startswith("studies/")]) == 1


def test_a_name_goes_on_with_the_overrides_that_were_run(here: Path, call: Call) -> None:
    assert call("run", "mine.yaml", "--device", "cpu", "--set", "seeds=2").code == 0
    (here / "mine.yaml").unlink()
    named = call("table", "mine", "--format", "json")
    assert (named.code, len(json.loads(named.out)), json.loads(named.out)[0]["ticket_n"]) == (0, 1, 2)
    assert named.err.startswith("mine@") and "as it was run with --set seeds=2" in named.err
    assert call("run", "mine", "--device", "cpu").err.splitlines()[-1].endswith(" done before")
    assert call("verify", "mine").code == 0
    assert json.loads(call("plan", "mine", "--device", "cpu", "--json").out)["estimate"]["missing"] == 0
    more = call("table", "mine", "--set", "seeds=3").err
    assert f"2 trainings are missing in {here}/runs; lottery run mine --set seeds=3 runs them" in more


def test_a_worker_remembers_what_it_was_told_to_run_and_not_what_a_run_told_it(here: Path, call: Call) -> None:
    (here / "failures.json").write_text("{}")
    told = ("--device", "cpu", "--set", "seeds=1")
    assert call("work", "mine.yaml", *told, "--known-failures", here / "failures.json").code == 0
    assert remembered(Store(here / "runs")) == []
    assert call("work", "mine.yaml", *told).code == 0
    assert call("studies").out.splitlines()[-1].endswith("mine.yaml --set seeds=1")
    assert call("table", "mine", "--set", "seeds=3", "--set", "seeds=1").code == 0


def test_a_changed_file_is_told_where_the_name_means_the_old_one(here: Path, call: Call) -> None:
    assert call("run", "mine.yaml", "--device", "cpu").code == 0
    assert call("table", "mine").err == "Engine: dense.\n"
    (here / "mine.yaml").write_text((here / "mine.yaml").read_text() + "question: another?\n")
    assert "mine.yaml was changed since" in call("table", "mine").err


def test_nothing_is_remembered_by_what_runs_nothing(here: Path, call: Call) -> None:
    for command in (("check",), ("plan", "--device", "cpu"), ("table",)):
        assert call(command[0], "mine.yaml", *command[1:]).code == 0
    assert call("run", "mine.yaml", "--device", "abacus").code == 2
    assert not (here / "runs").exists()
    assert (
        "there is no store here yet (--store or LOTTERY_STORE names another place); 2 trainings are missing"
        in call("table", "mine.yaml").err
    )


def test_a_shipped_name_means_what_was_run_unless_options_or_the_name_say_otherwise(here: Path) -> None:
    store = Store(here / "runs")
    assert load_named("quickstart", store).only == load_sweep("quickstart").only
    remember(store, load_sweep("quickstart", ["seeds=1"]), ["a"])
    said: list[str] = []
    assert load_named("quickstart", store, tell=said.append).only.seeds == (0,)
    assert len(said) == 1 and "--set seeds=1" in said[0] and "quickstart@shipped" in said[0]
    assert load_named("quickstart@shipped", store, tell=said.append).only == load_sweep("quickstart").only
    shipped = load_named("quickstart", store, ["seeds=7"], tell=said.append)
    assert shipped.only == load_sweep("quickstart", ["seeds=7"]).only and len(said) == 1


def test_a_file_is_read_and_no_store_asked(here: Path) -> None:
    assert load_named("mine.yaml", "s3://nowhere/at/all").name == "mine"
    assert load_named(here / "mine.yaml", "s3://nowhere/at/all", ["seeds=4"]).only.seeds == (0, 1, 2, 3)


def test_a_program_finds_by_name_what_a_program_has_run(here: Path) -> None:
    recipe = micro("name=made", *FAST)
    assert lottery.run(recipe, store=here / "s", device="cpu").exit_code == 0
    assert lottery.run("made", store=here / "s", device="cpu").count("done") == 0
    assert len(lottery.table("made", store=here / "s")) == 1
    assert load_named("made", here / "s").only == recipe


def test_studies_come_with_what_is_pulled_and_pushed(tmp_path: Path, call: Call) -> None:
    there, here, far = (Store(tmp_path / name) for name in ("there", "here", "far"))
    there.commit("a" * 64, {"job.json": b"{}"}, kind="dense")
    remember(there, sweep(MICRO, "seeds=2"), ["a" * 64])
    for _ in range(2):
        assert call("store", "pull", there.name, "--store", here.name).code == 0
        assert remembered(here) == remembered(there)
    assert call("store", "push", far.name, "--store", here.name).code == 0
    assert load_named("micro", far).only.seeds == (0, 1)


def test_of_a_study_that_two_stores_know_the_last_run_is_believed_and_no_key_forgotten(tmp_path: Path) -> None:
    there, here = Store(tmp_path / "there"), Store(tmp_path / "here")
    run_before(there, sweep(), "a", "b")
    older = run_before(here, sweep(), "a", "c")
    (tmp_path / "here" / older.path).write_text(
        json.dumps(
            json.loads((tmp_path / "here" / older.path).read_bytes())
            | {"first_run": "2024-01-01T00:00:00Z", "last_run": "2024-01-01T00:00:00Z"}
        )
    )
    for source, target in ((there, here), (here, there)):
        bring(source, target)
        (merged,) = remembered(target)
        assert (merged.jobs, merged.former, merged.first_run.year) == (("a", "b"), ("c",), 2024)
        assert merged.last_run.year > 2024
