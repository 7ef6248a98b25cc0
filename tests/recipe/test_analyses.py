"""What `check` says of the sections `analyses` and `keep`: each mistake with its key and a way out."""

from __future__ import annotations

import pytest

from tests.support.analyses import asking, load
from tests.support.micro import micro, problems
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([asking("hessain")], "analyses.0: no analysis 'hessain'"),
        ([asking("{name: norms, size: 2}")], "analyses.0.size: norms has no key 'size'"),
        ([asking("{name: norms, of: [dense, tickets]}")], "no network 'tickets'; did you mean 'ticket'?"),
        ([asking("{name: norms, of: [dense, dense]}")], "analyses.0.of.1: 'dense' is there already"),
        ([asking("{name: norms, between: [seed-seed]}")], "norms looks at one network and has no between; write of"),
        ([asking("{name: gap, of: [dense]}")], "a pair has two networks, not 1; write two, or `between: ...`"),
        ([asking("{name: walk, reading: early_stop}")], "a trajectory ends at the end of its training"),
        ([asking("{name: norms, levels: [3]}")], "the trunk has levels 0 to 2, no 3; raise prune.levels"),
        (
            [asking("norms", "{name: norms, scale: 2.0}")],
            "'norms' is analysis 0 already; name its table with `as: ...`",
        ),
        (
            [asking("{name: norms, reading: early_stop}"), "data.validation=0"],
            "early_stop needs data.validation above 0",
        ),
        (
            [asking("{name: barrier, parts: [train, validation]}"), "data.validation=0"],
            "analyses.0.parts: there are no validation examples; set data.validation above 0",
        ),
        ([asking("{name: surface, parts: [test]}")], "told by the train loss; add `train`"),
        (["keep=[early_stop]", "data.validation=0"], "keep.0: early_stop needs data.validation above 0"),
        (["keep=[1 points]"], "1 points: write 2 to 1,000 points"),
        (["keep=[often]"], "'often' is no length"),
        (["keep={of: [reinit], at: [end]}"], "there is no network 'reinit'"),
        (
            ["branches=[{name: small_dense}]", asking("{name: norms, of: [small_dense]}")],
            "small_dense has another model, so that it has no state of the recipe's network; leave it out",
        ),
        (
            ["branches=[{name: shuffle}]", asking("{name: norms, of: [shuffle], along: 3}")],
            "norms looks at one network and has no along; write of",
        ),
    ],
)
def test_a_mistake_is_told_with_its_key_and_a_way_out(changes: list[str], said: str, plugs: Plugs) -> None:
    load(plugs)
    told = problems(*changes)
    assert any(said in line for line in told), told


def test_an_entry_alone_looks_at_dense_networks_and_tickets(plugs: Plugs) -> None:
    load(plugs)
    recipe = micro(asking("norms", "{name: gap, as: distances}"), "keep=[early_stop, 4 points]")
    assert [analysis.label for analysis in recipe.analyses] == ["norms", "distances"]
    assert recipe.analyses[0].networks == ("dense", "ticket")
    assert recipe.analyses[1].pairings == ("dense-ticket", "level-level", "seed-seed")
    assert recipe.keep is not None
    assert recipe.keep.at == ("early_stop", "4 points")


INSTABILITY = [
    ("{name: instability, at: [init, init]}", "analyses.0.at.1: init is there already"),
    ("{name: instability, at: [12it]}", "at.0: 12it leaves nothing of the training, train.length 12it"),
    ("{name: instability, at: [often]}", "'often' is no length"),
    ("{name: instability, pairs: 0}", "analyses.0.pairs: input should be greater than or equal to 1"),
    (
        "{name: instability, at: [4it], of: [dense, ticket]}",
        "at.0: tickets train from init, none from 4it; add it to `rewind`, or write `of: dense`",
    ),
    ("{name: instability, of: [pruned]}", "the children are those of dense networks and tickets, not of pruned"),
    (
        "{name: instability, along: 3}",
        "instability looks at copies of a state and has no along; write of or at or pairs",
    ),
    ("{name: instability, levels: [3]}", "the trunk has levels 0 to 2, no 3"),
    ("{name: barrier, at: [init]}", "barrier looks at two networks and has no at; write of or between"),
    ("{name: norms, pairs: 2}", "norms looks at one network and has no pairs; write of"),
]


@pytest.mark.parametrize(("entry", "said"), INSTABILITY)
def test_children_that_cannot_be_are_refused(entry: str, said: str, plugs: Plugs) -> None:
    load(plugs)
    told = problems(asking(entry))
    assert any(said in line for line in told), told


def test_instability_named_twice_needs_two_names() -> None:
    twice = asking("{name: instability, at: init}", "{name: instability, at: 4it}")
    assert any("'instability' is analysis 0 already; name its table with `as: ...`" in line for line in problems(twice))


def test_copies_need_something_that_is_drawn() -> None:
    asked = ("train.batch_size=all", asking("{name: instability, at: init}"))
    said = "analyses.0: with full batches, and without augmentation and dropout"
    assert any(said in line for line in problems(*asked))
    assert micro(*asked, "model.dropout=0.5").analyses
    assert micro(*asked, "train.optimizer={name: adam, lr: 3e-3, batch_size: 50}").analyses


def test_a_ticket_that_is_pruned_as_it_trains_has_no_children() -> None:
    gradual = "prune={when: training, during: {start: 2it, end: 10it, every: 2it}, fraction: 0.5, levels: 1}"
    told = problems(gradual, asking("{name: instability, of: ticket}"))
    assert any("analyses.0.of: a ticket that is pruned in the course of its training has no state" in t for t in told)
