"""What each executor that is a cluster's does with a worker's command: starts, counts, tells to leave, says why."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lottery.catalogue.executors._workers import Workers
from tests.support.clocks import until
from tests.support.micro import micro_text
from tests.support.restarts import contents, finish_here
from tests.support.workers import CLUSTERS, Place, usable


@pytest.fixture(params=["local", *CLUSTERS])
def executor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return usable(request.param, tmp_path, monkeypatch)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def workers(executor: str, place: Place) -> Iterator[Workers]:
    with closing(place.workers(executor)) as made:
        yield made
        made.stop()


def test_workers_are_started_counted_and_told_to_save_and_leave_and_a_killed_one_is_told_of(
    workers: Workers, place: Place, executor: str
) -> None:
    workers.start(2)
    until(lambda: len(place.begun()) == 2)
    begun = place.begun()
    folder, note, gpus, cores = zip(*begun.values(), strict=True)
    assert set(folder) == {str(place.folder)}
    assert set(note) == {'it\'s a "note"; $HOME'}
    assert set(gpus) == {os.environ.get("CUDA_VISIBLE_DEVICES", "none") if executor in ("dask", "local") else ""}
    assert set(cores) == {"1"}
    assert workers.alive() == 2
    assert workers.ended() == []

    killed, other = begun
    os.kill(killed, signal.SIGKILL)
    (ended,) = until(workers.ended)
    assert (ended.code, ended.in_order, workers.alive()) == (-9, False, 1)

    workers.start(1)
    assert workers.alive() == 2
    new = until(lambda: place.begun().keys() - {killed, other})
    assert len(new) == 1

    workers.stop()
    until(lambda: workers.alive() == 0)
    left = workers.ended()
    assert [(each.code, each.in_order) for each in left] == [(143, True)] * 2
    assert all("saved" in each.last for each in left)
    assert all(Path(each.log).parent == place.folder / "logs" for each in left)
    workers.stop()
    workers.start(3)
    assert workers.alive() == 0
    assert place.begun().keys() == begun.keys() | new
    assert not list(place.folder.rglob("hit"))


def test_a_worker_that_ends_by_itself_is_told_of_with_its_code_and_its_last_lines(
    workers: Workers, place: Place
) -> None:
    workers.start(1)
    until(place.begun)
    (place.folder / "leave").write_text("3")
    (ended,) = until(workers.ended)
    assert (ended.code, ended.in_order) == (3, False)
    assert "it is over" in ended.last
    assert Path(ended.log).read_text().startswith("it is over")
    assert workers.alive() == 0
    assert workers.ended() == []


@pytest.mark.parametrize(
    "executor",
    ["slurm", *(pytest.param(name, marks=pytest.mark.slow) for name in ("dask", "ray")), CLUSTERS[-1]],
    indirect=True,
)
def test_a_run_on_an_executor_prints_the_table_of_one_here_and_stores_its_bytes(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(micro_text())
    table = finish_here(recipe, tmp_path / "here")
    assert finish_here(recipe, tmp_path / "a store", "--on", f"{{name: {executor}, workers: 1}}") == table
    assert contents(tmp_path / "a store") == contents(tmp_path / "here")
    assert not (tmp_path / "a store" / "workers").exists()  # logs of workers that all left in order
