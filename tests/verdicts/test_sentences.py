"""The verdicts in sentences: none that contradicts its row, none that leaves out what a reader must know."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lottery.analysis.missing import lacking
from lottery.analysis.views import rows_of
from lottery.results.study import Study
from lottery.verdicts.sentences import seeds_in_words, sentences
from tests.support.studies import Recorded, dense, everything, hand, made, ticket

NOISE = (5.0, -5.0, 4.0, -4.0)  # points, that decide nothing at a margin of 1
LIKE = (0.1, -0.2, 0.3, 0.0)
FAR = (-4.0, -4.2, -3.8, -4.1)
HOW = "(within 1 point, one-sided 95 %, 4 seeds)"
HOLM = "compare={margin: 1, densities: holm, allow: [seeds]}"


def held(*points: Sequence[float | None], compare: str = HOLM, settings: Sequence[str] = ()) -> Study:
    """As many seeds as points; at each level tickets differ from dense by so many points, None of one that diverged."""
    planned = hand(f"seeds={len(points[0])}", f"prune.levels={len(points)}", compare, *settings)
    found = made(planned, *(dense(seed, 0.5, end=0.5, step=80) for seed in range(len(points[0]))))
    for level, column in enumerate(points, start=1):
        for seed, point in enumerate(column):
            lost = {"diverged": 7} if point is None else {}
            accuracy = 0.5 + (point or 0) / 100  # at every step that could be read
            place, values = ticket(seed, accuracy, end=accuracy, step=90, **lost)
            found |= made(planned, ({**place, "level": level}, values))
    return Study(planned, found, Recorded(planned))


def test_a_sparser_density_that_matches_where_the_densest_does_not_is_said_to_match() -> None:
    (told,) = sentences(held(NOISE, LIKE))
    assert told == (
        f"adam: tickets of 25 % of the weights match the dense network {HOW}; the densest are not shown to, so there "
        "is no sparsest density that all denser ones share: 50 % inconclusive, 25 % matching; they are equivalent "
        "to it (neither worse nor better by the margin) at 25 %."
    )
    assert "no density" not in told


def test_a_match_beyond_a_gap_is_said_beside_the_sparsest_that_all_denser_share() -> None:
    (told,) = sentences(held(LIKE, NOISE, LIKE, FAR))
    assert told == (
        f"adam: tickets down to 50 % of the weights match the dense network {HOW}; so do those of 12.5 %, though not "
        "all between; they are equivalent to it (neither worse nor better by the margin) at "
        "50 %, 12.5 %; they lose at 6.25 %."
    )


def test_where_none_matches_every_verdict_is_listed_once() -> None:
    assert sentences(held(NOISE, FAR)) == [
        f"adam: no density is shown to match the dense network {HOW}: 50 % inconclusive, 25 % losing."
    ]


def test_a_density_without_a_pair_does_not_make_the_seeds_of_the_others_none() -> None:
    (told,) = sentences(held(LIKE, (0.1, 0.2, None, None), (None,) * 4))
    assert "2 to 4 seeds" in told and " 0 seeds" not in told
    assert told.endswith("no seed has a result of both ticket and dense network at 12.5 %.")


@pytest.mark.parametrize(("counts", "words"), [([1], "1 seed"), ([5, 5], "5 seeds"), ([1, 3, 2], "1 to 3 seeds")])
def test_seeds_are_counted_in_words(counts: list[int], words: str) -> None:
    assert seeds_in_words(counts) == words


def test_one_seed_is_one_seed() -> None:
    study = held((0.1,))
    (told,) = sentences(study)
    (row,) = rows_of(study, "verdicts")
    assert "1 seed)" in told and row["reason"].startswith("1 seed can show nothing")
    assert "1 seeds" not in told + row["reason"]


def test_an_optimizer_whose_dense_networks_all_diverged_is_named_and_its_trainings_are_blocked_not_missing() -> None:
    planned = hand("train.optimizer=[adam, {name: sgd, lr: 9}]", "seeds=3", "compare={margin: 1}", "branches=[reinit]")
    place = {job.key: job.optimizer_index for job in planned}
    found = {key: record for key, record in everything(planned).items() if place[key] == 0}
    burnt = made(planned, ({"kind": "dense"}, {"diverged": 12}))
    found |= {key: record for key, record in burnt.items() if place[key] == 1}
    whole = Study(planned, found, Recorded(planned))
    told = sentences(whole)
    assert len(told) == 2 and told[0].startswith("adam: ")
    assert told[1] == (
        "sgd: all 3 dense networks diverged, first at step 12: there is nothing to prune, and no verdict."
    )
    assert whole.missing == 0 and len(whole.blocked) == 6
    assert [row["state"] for row in lacking(whole)].count("blocked") == 6
    assert not [row for row in lacking(whole) if row["state"] == "missing"]


def test_trainings_below_a_ticket_that_diverged_are_blocked_and_others_that_are_not_there_are_missing() -> None:
    planned = hand("prune.levels=3", "seeds=2")
    found = made(planned, dense(0, 0.5), dense(1, 0.5))
    found |= made(planned, ({"kind": "ticket", "seed": 0, "level": 1}, {"diverged": 5}))
    whole = Study(planned, found, Recorded(planned))
    states = {(row["seed"], row["level"]): row["state"] for row in lacking(whole)}
    assert states == {
        (0, 1): "diverged",
        (0, 2): "blocked",
        (0, 3): "blocked",
        **dict.fromkeys([(1, 1), (1, 2), (1, 3)], "missing"),
    }
    assert whole.missing == 3


@pytest.mark.parametrize(("mode", "said"), [("weights", False), ("lr", True)])
def test_tickets_that_go_on_from_trained_weights_are_said_to_have_trained_longer(mode: str, said: bool) -> None:
    """Rewound to step 40 of 100: a level takes 60 steps more, three levels 180."""
    settings = [f"rewind={{to: 40it, mode: {mode}}}", "report=end"]
    (told,) = sentences(held(LIKE, LIKE, FAR, settings=settings))
    longer = (
        "; they go on from trained weights: with the levels above, tickets of 50 % to 12.5 % were trained for 160 to "
        "280 steps, 1.6 to 2.8 times the 100 of the dense network."
    )
    assert told.endswith(longer) is said and ("go on" in told) is said


def test_every_density_of_a_verdict_stands_in_the_sentence_in_its_own_words() -> None:
    """Whatever the verdicts are, none of the shown ones is denied."""
    for points in ((LIKE, LIKE), (NOISE, LIKE), (LIKE, NOISE, LIKE), (FAR, LIKE), (NOISE, NOISE)):
        study = held(*points)
        shown = any(row["verdict"] in ("matching", "winning") for row in rows_of(study, "verdicts"))
        (told,) = sentences(study)
        assert ("no density is shown" in told) is not shown
