"""What `auto` has chosen once is taken again: by other processes, by the next run, at about the same density."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lottery.engines.choices import Candidate, Choices
from tests.support.clocks import Clock
from tests.support.micro import micro, prepared

KIND = {"shapes": [[300, 784]], "threads": 1}
NAMES: tuple[Candidate | None, ...] = (None, "background", "sparse")
Measure = Callable[[Sequence[Candidate | None]], Candidate | None]


def finds(found: Candidate | None, asked: list[object] | None = None) -> Measure:
    """A measurement that finds this engine the fastest, and notes what it was asked."""

    def measure(among: Sequence[Candidate | None]) -> Candidate | None:
        if asked is not None:
            asked.append(list(among))
        return found

    return measure


def never(among: Sequence[Candidate | None]) -> Candidate | None:
    raise AssertionError(f"{among} were measured again")


def test_other_processes_and_later_runs_take_what_one_has_measured(tmp_path: Path) -> None:
    first, second = Choices(folder=tmp_path), Choices(folder=tmp_path)
    assert first.fastest(KIND, 0.25, NAMES, finds("background")) == "background"
    assert second.fastest(KIND, 0.26, NAMES, never) == "background"
    assert second.fastest({**KIND, "threads": 2}, 0.25, NAMES, finds("sparse")) == "sparse"  # of another kind
    assert first.fastest(KIND, 0.1, NAMES, finds("sparse")) == "sparse"  # at another density
    assert second.fastest(KIND, 0.1, NAMES, never) == "sparse"


def test_of_two_processes_that_measure_at_once_both_take_what_the_faster_one_found(tmp_path: Path) -> None:
    first, second = Choices(folder=tmp_path), Choices(folder=tmp_path)

    def meanwhile(among: Sequence[Candidate | None]) -> Candidate | None:
        assert first.fastest(KIND, 0.25, NAMES, finds("background")) == "background"
        return "sparse"

    assert second.fastest(KIND, 0.25, NAMES, meanwhile) == "background"
    assert second.fastest(KIND, 0.25, NAMES, never) == "background"
    assert [path.name for path in tmp_path.rglob("*.json*")] == ["4-background-dense-sparse.json"]


@pytest.mark.parametrize("links", [True, False])
def test_of_two_processes_that_find_an_old_choice_both_take_what_the_faster_one_found(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("this folder knows no links")

    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("sparse")) == "sparse"
    clock.advance(8 * 24 * 3600.0)
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    first, second = Choices(folder=tmp_path), Choices(folder=tmp_path)

    def meanwhile(among: Sequence[Candidate | None]) -> Candidate | None:
        assert first.fastest(KIND, 0.25, NAMES, finds("background")) == "background"
        return None

    assert second.fastest(KIND, 0.25, NAMES, meanwhile) == "background"


def test_what_other_densities_show_later_changes_no_choice(tmp_path: Path) -> None:
    choices, asked = Choices(folder=tmp_path), list[object]()
    assert choices.fastest(KIND, 0.5, NAMES, finds("sparse", asked)) == "sparse"
    assert choices.fastest(KIND, 0.3, NAMES, never) == "sparse"  # ruled out: its cost falls the most with the density
    # where the sparse engine cannot be had, nothing is slower than it
    assert Choices(folder=tmp_path).fastest(KIND, 0.1, NAMES[:2], finds("background", asked)) == "background"
    assert asked == [list(NAMES), list(NAMES[:2])]
    # a clock that was disturbed says at .6 that the dense engine is the fastest, which rules others out above it only
    assert Choices(folder=tmp_path).fastest(KIND, 0.6, NAMES, finds(None)) is None
    for density in (0.5, 0.3):
        assert Choices(folder=tmp_path).fastest(KIND, density, NAMES, never) == "sparse"


def test_an_engine_that_can_be_had_only_later_is_measured_then(tmp_path: Path) -> None:
    choices, asked = Choices(folder=tmp_path), list[object]()
    assert choices.fastest(KIND, 0.25, (None,), never) is None  # nothing is compiled yet, so that nothing is chosen
    assert list(tmp_path.rglob("*.json")) == []
    assert choices.fastest(KIND, 0.25, NAMES, finds("sparse", asked)) == "sparse"
    assert asked == [list(NAMES)]
    assert choices.fastest(KIND, 0.25, NAMES[:2], finds("background")) == "background"  # now its kernels are gone
    assert choices.fastest(KIND, 0.25, NAMES, never) == "sparse"


def test_a_choice_is_kept_for_a_week_and_a_damaged_one_is_none(tmp_path: Path, clock: Clock) -> None:
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("background")) == "background"
    clock.advance(6 * 24 * 3600.0)
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, never) == "background"
    clock.advance(25 * 3600.0)
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("sparse")) == "sparse"
    (path,) = tmp_path.rglob("*.json")
    for damaged in (b"", b"[]", path.read_bytes().replace(b"sparse", b"spares"), path.read_bytes()[:-1]):
        path.write_bytes(damaged)
        assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("background")) == "background"
        assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, never) == "background"


@pytest.mark.parametrize(
    "edited", [{"density": -1}, {"density": 2}, {"density": math.nan}, {"fastest": "onednn"}, {"among": []}]
)
def test_a_choice_that_an_edit_made_impossible_is_none(tmp_path: Path, edited: dict[str, object]) -> None:
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("sparse")) == "sparse"
    (path,) = tmp_path.rglob("*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **edited}))
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("background")) == "background"
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, never) == "background"


def test_a_choice_that_turns_a_week_old_in_a_run_is_taken_to_its_end(tmp_path: Path, clock: Clock) -> None:
    assert Choices(folder=tmp_path).fastest(KIND, 0.25, NAMES, finds("background")) == "background"
    clock.advance(6 * 24 * 3600.0)
    run = Choices(folder=tmp_path)
    assert run.fastest(KIND, 0.25, NAMES, never) == "background"
    clock.advance(2 * 24 * 3600.0)
    assert run.fastest(KIND, 0.25, NAMES, never) == "background"


def test_where_nothing_can_be_kept_a_process_keeps_to_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    choices = Choices(folder=tmp_path / "file")
    assert choices.fastest(KIND, 0.25, NAMES, finds("sparse")) == "sparse"
    assert choices.fastest(KIND, 0.25, NAMES, never) == "sparse"
    assert Choices(folder=tmp_path / "file").fastest(KIND, 0.25, NAMES, finds(None)) is None


def test_runs_of_one_recipe_and_its_longer_one_share_choices_and_those_on_other_data_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOTTERY_CACHE", str(tmp_path / "cache"))
    run, longer = prepared(micro(), tmp_path), prepared(micro("prune.levels=3", "seeds=2"), tmp_path / "elsewhere")
    assert run.choices.fastest(KIND, 0.25, NAMES, finds("background")) == "background"
    assert longer.choices.fastest(KIND, 0.25, NAMES, never) == "background"
    other = prepared(micro("data={name: mnist1d, samples: 500, validation: 100}"), tmp_path)
    assert other.choices.fastest(KIND, 0.25, NAMES, finds("sparse")) == "sparse"
