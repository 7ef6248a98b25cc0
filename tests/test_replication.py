"""Published claims against made-up studies: what holds, what fails, and what the data cannot decide."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from studies import TEXT, dense, hand, made, ticket, view_of

import lottery
from lottery.cli import main
from lottery.errors import RecipeError, UsageError
from lottery.recipe import shipped
from lottery.replication import claims

SOURCE = "Frankle & Carbin 2019"


def claimed(*overrides: str, seeds: int = 4, **claim: Any) -> Any:
    """A plan with one claim: by default, that tickets of half the weights are at most 1 point below dense."""
    claim = {"text": "tickets match", "source": "figure 3", "densities": [0.5], "least": -1.0, **claim}
    written = json.dumps({"source": SOURCE, "claims": [claim]})
    return hand(f"seeds={seeds}", f"replicates={written}", *overrides)


def differing(planned: Any, points: Sequence[float], **what: Any) -> dict[str, Any]:
    """Tickets that differ from their dense networks by so many points, seed by seed."""
    trainings = [dense(seed, 0.5 + 0.01 * seed) for seed in range(len(points))]
    trainings += [ticket(seed, 0.5 + 0.01 * seed + point / 100, **what) for seed, point in enumerate(points)]
    return made(planned, *trainings)


@pytest.mark.parametrize(
    ("points", "verdict"),
    [((0.1, -0.2, 0.3, 0.0), "holds"), ((-3.0, -2.5, -3.5, -2.8), "fails"), ((-5.0, 4.0, -3.0, 2.0), "undecided")],
)
def test_a_claim_holds_or_fails_only_where_its_bound_shows_it(points: tuple[float, ...], verdict: str) -> None:
    planned = claimed()
    (row,) = view_of("replication", planned, differing(planned, points))
    low = stats.ttest_1samp(points, -1.0, alternative="greater").pvalue < 0.05
    high = stats.ttest_1samp(points, -1.0, alternative="less").pvalue < 0.05
    assert (low, high) == (verdict == "holds", verdict == "fails")
    assert (row["verdict"], row["here"], row["n"]) == (verdict, verdict, 4)
    interval = stats.ttest_1samp(points, 0).confidence_interval(0.95)
    assert row["estimate"] == pytest.approx(sum(points) / 4)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    assert row["source"] == f"{SOURCE}, figure 3" and row["claimed"] == "at least -1"


def test_a_ratio_of_steps_is_tested_on_its_logarithm() -> None:
    planned = claimed(measure="early_stop_step", least=None, most=0.8)
    ratios = (0.5, 0.6, 0.55, 0.5)
    found = made(
        planned,
        *(dense(seed, 0.5, step=100) for seed in range(4)),
        *(ticket(seed, 0.5, step=round(100 * ratio)) for seed, ratio in enumerate(ratios)),
    )
    (row,) = view_of("replication", planned, found)
    interval = stats.ttest_1samp([math.log(ratio) for ratio in ratios], 0).confidence_interval(0.95)
    assert row["verdict"] == "holds"
    assert row["estimate"] == pytest.approx(math.prod(ratios) ** 0.25)  # the geometric mean
    assert (row["low"], row["high"]) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))


@pytest.mark.parametrize(
    ("censored", "limits", "verdict"),
    [  # dense stops at 100, the ticket at 50: a ratio of at most 1/2 with dense censored, else of at least 1/2
        ("dense", {"least": None, "most": 0.8}, "holds"),
        ("dense", {"least": 0.4, "most": None}, "undecided"),
        ("ticket", {"least": None, "most": 0.8}, "undecided"),
        ("ticket", {"least": 0.4, "most": None}, "holds"),
        ("ticket", {"least": None, "most": 0.4}, "fails"),
    ],
)
def test_a_censored_step_bounds_the_ratio_from_one_side_only(
    censored: str, limits: dict[str, Any], verdict: str
) -> None:
    planned = claimed(measure="early_stop_step", **limits)
    found = made(
        planned,
        *(dense(seed, 0.5, step=100, censored=censored == "dense") for seed in range(4)),
        *(ticket(seed, 0.5, step=49 + seed % 3, censored=censored == "ticket") for seed in range(4)),
    )
    (row,) = view_of("replication", planned, found)
    assert (row["verdict"], row["estimate"]) == (verdict, pytest.approx((49 * 50 * 51 * 49) ** 0.25 / 100))
    assert row["note"].endswith(f"{censored} censored: 4")


def test_an_accuracy_itself_is_claimed_in_points() -> None:
    planned = claimed(against=None, least=50.0, most=60.0)
    found = made(planned, *(ticket(seed, 0.55 + 0.001 * seed) for seed in range(4)))
    (row,) = view_of("replication", planned, found)
    assert row["verdict"] == "holds" and row["estimate"] == pytest.approx(55.15)
    assert row["claimed"] == "at least 50 and at most 60"


def test_a_claim_on_all_densities_needs_each_of_them() -> None:
    planned = claimed("prune.levels=2", densities=[0.5, 0.25])
    near = made(planned, *(dense(seed, 0.5) for seed in range(4)))
    one = near | {k: v for k, v in differing(planned, (0.1, 0.0, 0.2, 0.1)).items() if v.job.level == 1}
    first, second = view_of("replication", planned, one)
    assert (first["here"], second["here"]) == ("holds", "undecided")
    assert first["verdict"] == second["verdict"] == "undecided" and second["note"] == "not trained"
    both = view_of("replication", planned, differing(planned, (0.1, 0.0, 0.2, 0.1)))
    assert [row["verdict"] for row in both] == ["holds", "holds"]


def test_a_claim_on_any_density_pays_for_its_choice() -> None:
    points = (0.0, 1.2, 0.7, 1.9)  # p = 0.049 for a mean above 0: enough once, not as the best of two
    assert 0.025 < stats.ttest_1samp(points, 0, alternative="greater").pvalue < 0.05
    one = claimed(least=0.0)
    assert view_of("replication", one, differing(one, points))[0]["verdict"] == "holds"
    two = claimed("prune.levels=2", densities=[0.5, 0.25], where="any", least=0.0)
    assert {row["verdict"] for row in view_of("replication", two, differing(two, points))} == {"undecided"}


def test_a_density_that_no_level_is_near_is_not_judged() -> None:
    planned = claimed(densities=[0.4])
    (row,) = view_of("replication", planned, differing(planned, (0.1, 0.0, 0.2, 0.1)))
    assert (row["verdict"], row["n"], row["note"]) == ("undecided", 0, "not trained")


def test_claims_are_told_with_their_figures() -> None:
    planned = claimed()
    (told,) = claims(view_of("replication", planned, differing(planned, (0.1, -0.2, 0.3, 0.0))))
    assert (told.text, told.verdict, told.where) == ("tickets match", "holds", "")
    assert told.figures[0] == "ticket against dense: accuracy, points, claimed at least -1"
    assert told.figures[1].startswith("at 50 %: 0.05 [") and told.figures[1].endswith("holds (level 1 at 50 %)")


def test_a_recipe_without_claims_has_no_such_table() -> None:
    with pytest.raises(UsageError, match="hand: replicates nothing"):
        view_of("replication", hand(), {})


@pytest.mark.parametrize(
    ("claim", "problem"),
    [
        ({"column": "reinit"}, "no column 'reinit'; there are dense, ticket"),
        ({"least": None}, "claims nothing; write least, most or both"),
        ({"measure": "early_stop_step", "against": None}, "a ratio of steps needs `against`"),
        ({"rewind": "5it"}, "no ticket is rewound to 5it; there are 0it"),
    ],
)
def test_a_claim_that_cannot_be_checked_is_refused(claim: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        claimed(**claim)
    assert problem in str(caught.value) and "replicates.claims.0" in str(caught.value)


def test_every_paper_names_its_source_and_its_claims() -> None:
    papers = [name for name, path in shipped().items() if path.parent.name == "papers"]
    assert len(papers) >= 7
    for name in papers:
        replicates = lottery.load_recipe(name).replicates
        assert replicates is not None and "arXiv:" in replicates.source
        assert all(claim.source for claim in replicates.claims)


def called(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["lottery", *words])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_what_needs_a_gpu_says_so_and_trains_nothing_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "hand.yaml"
    claim = "{text: t, source: s, densities: [0.5], least: 0}"
    recipe.write_text(TEXT + f"replicates: {{source: s, needs_gpu: true, claims: [{claim}]}}\n")
    store = tmp_path / "store"
    assert called(monkeypatch, "replicate", str(recipe), "--store", str(store), "--device", "cpu") == 0
    told = capsys.readouterr()
    assert told.out.startswith("UNDECIDED  t [s, s]") and "not trained yet" in told.out
    assert "need a GPU" in told.err and not store.exists()


def test_the_recipes_with_claims_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, "replicate")
    assert "lmc2020-resnet20: Frankle, Dziugaite, Roy & Carbin 2020 (arXiv:1912.05671), 3 claims, needs a GPU" in (
        capsys.readouterr().out
    )
    assert called(monkeypatch, "replicate", "quickstart") == 2
    assert "quickstart: has no claims" in capsys.readouterr().err
