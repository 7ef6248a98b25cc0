"""Analyses measure on the test set and choose nothing by it: what breaks that is refused, or found by `verify`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from lottery.errors import Interrupted
from lottery.plan.jobs import Job
from lottery.plan.kinds import IDENTITY_FILE, MEASUREMENT_FILE, Kind
from lottery.registry import analyses
from lottery.results.study import study_of
from lottery.runner.context import RunContext
from lottery.runner.run import work
from lottery.signals import Stop
from lottery.store.store import Store
from lottery.verification.measurements import depending_on_test
from lottery.verification.records import Check, check_records
from lottery.verification.states import jobs_with_states, prove_job
from tests.support.analyses import asking, measured
from tests.support.forgery import forge
from tests.support.micro import finished, micro, prepared
from tests.support.plugs import Plugs, plugs

__all__ = ["plugs"]
HEAD = """
from lottery.landscape.subject import Measurement
from lottery.registry import analyses


def at(subject, share):
    (state,) = subject.states
    surface = subject.surface(state.mask)
    point = surface.point(state.weights)
    surface.load(point.moved((share - 1) * point.vector))
    return surface


"""
HONEST = (
    HEAD
    + '''
@analyses.register("scaled", source="test", test=("test_*",), units={"train_loss": "", "test_loss": ""})
def scaled(subject, memo) -> Measurement:
    """Losses at scaled weights."""
    shares = [0.5, 1.0, 1.5, 2.0]
    train = [at(subject, share).measure("train")["loss"] for share in shares]
    test = [at(subject, share).measure("test")["loss"] for share in shares]
    rows = [{"share": share, "test_loss": loss} for share, loss in zip(shares, test)]
    return Measurement({"train_loss": min(train), "test_loss": min(test)}, rows)
'''
)
CHOOSING = HONEST.replace('"train_loss": min(train)', '"train_loss": train[test.index(min(test))]')
CALLED_OTHERWISE = HONEST.replace('"train_loss": min(train)', '"train_loss": min(train) - min(test)')
COLUMN = HONEST.replace('{"share": share, "test_loss": loss}', '{"share": share, "height": loss}')
UNSAID = HONEST.replace(' test=("test_*",),', "")
PEEKING = HONEST.replace('.measure("test")["loss"]', '.gradient("test")[0]')
EXAMPLES = HONEST.replace(
    'at(subject, share).measure("test")["loss"]', "float(next(subject.examples('test', 1))[1][0])"
)
EXAMPLES = EXAMPLES.replace(' test=("test_*",),', "")


def the(context: RunContext) -> Job:
    (job,) = [job for job in context.plan if job.kind is Kind.ANALYSIS]
    return job


def run(folder: Path, plugs: Plugs, text: str) -> RunContext:
    plugs.load("scaling", text)
    return measured(folder, asking("{name: scaled, of: dense}"), "prune.levels=0")


def failure(folder: Path, plugs: Plugs, text: str) -> str:
    plugs.load("scaling", text)
    context = prepared(micro(asking("{name: scaled, of: dense}"), "prune.levels=0"), folder)
    (failed,) = [event for event in work(context) if event.kind == "failed"]
    return str(failed.about["message"])


def test_an_honest_analysis_says_what_it_read_and_is_proved(tmp_path: Path, plugs: Plugs) -> None:
    context = run(tmp_path, plugs, HONEST)
    assert context.store.read_json(the(context).key, MEASUREMENT_FILE)["read"] == ["train", "test"]
    assert depending_on_test(context, the(context)) == []
    assert records(context).holds
    assert the(context) in jobs_with_states(context)
    assert all(not proof.wrong for proof in prove_job(context, the(context)))


@pytest.mark.parametrize(
    ("text", "what"), [(CHOOSING, "train_loss"), (CALLED_OTHERWISE, "train_loss"), (COLUMN, "height of the profile")]
)
def test_an_analysis_that_chooses_by_the_test_set_is_found_out(
    text: str, what: str, tmp_path: Path, plugs: Plugs
) -> None:
    """A value at the point of the lowest test loss, a test loss inside another value, and one of another name."""
    context = run(tmp_path, plugs, text)
    assert depending_on_test(context, the(context)) == [what]
    (proof,) = prove_job(context, the(context))
    assert (proof.check, proof.wrong) == ("measurement", (f"{what} depends on the test set",))


@pytest.mark.parametrize("text", [UNSAID, EXAMPLES])
def test_an_entry_that_does_not_say_so_is_given_no_test_example(text: str, tmp_path: Path, plugs: Plugs) -> None:
    told = failure(tmp_path, plugs, text)
    assert "analysis 'scaled': reads the test set" in told
    assert 'register it with `test=("test_*",)`, or look at validation examples' in told


def test_no_gradient_of_the_test_set_can_be_followed(tmp_path: Path, plugs: Plugs) -> None:
    assert "the test set may be measured and nothing else" in failure(tmp_path, plugs, PEEKING)


def records(context: RunContext) -> Check:
    """The check of the records of analyses, by a store that has read nothing yet."""
    store = Store(context.store.root)
    return next(check for check in check_records(study_of(context.plan, store)) if check.name == "analyses")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (MEASUREMENT_FILE, lambda about: about.pop("read"), "it does not say which parts of the data it read"),
        (MEASUREMENT_FILE, lambda about: about["read"].remove("test"), "it has test_loss without having read the test"),
        (
            MEASUREMENT_FILE,
            lambda about: about["values"].update(latest_test=1.0),
            "its entry does not say that latest_test is measured on the test set",
        ),
        (IDENTITY_FILE, lambda about: about["analysis"].update(version=2), "its record is not what its key is a hash"),
    ],
)
def test_forged_records_of_an_analysis_are_found(
    name: str, change: Callable[[dict[str, Any]], object], told: str, tmp_path: Path, plugs: Plugs
) -> None:
    context = run(tmp_path, plugs, HONEST)
    forge(context.store, the(context).key, name, change)
    (wrong,) = records(context).wrong
    assert told in wrong


def test_what_was_read_before_a_stop_is_recorded_after_it(tmp_path: Path, plugs: Plugs) -> None:
    """The part that read the test set is kept, and not computed again."""
    text = HONEST.replace(
        'test = [at(subject, share).measure("test")["loss"] for share in shares]',
        """test = [
        memo.values(f"share {share}", lambda: at(subject, share).measure("test"))["loss"] for share in shares
    ]
    if STOP and not STOP[0].signal:
        STOP.pop().signal = 15
        memo.values("stopped", lambda: {"": 0.0})""",
    ).replace("def at(", "STOP = []\n\n\ndef at(")
    plugs.load("scaling", text)
    stop = Stop()
    sys.modules["scaling"].STOP.append(stop)
    context = prepared(micro(asking("{name: scaled, of: dense}"), "prune.levels=0"), tmp_path, stop=stop)
    with pytest.raises(Interrupted):
        list(work(context))
    stop.signal = None
    finished(context)
    assert context.store.read_json(the(context).key, MEASUREMENT_FILE)["read"] == ["train", "test"]


SMALL = {"points": 3, "examples": 60, "epochs": 1, "bends": 1, "reach": 0.5}


def test_each_shipped_analysis_that_can_measure_on_the_test_set_says_so() -> None:
    for entry in analyses:
        asked = "parts" in entry.schema.model_fields or entry.traits.adds_up
        assert asked == bool(entry.traits.test), entry.name


def asked_small(names: Collection[str]) -> list[str]:
    """These entries as a recipe asks for them, with as little work as they can have."""
    asked = []
    for name in names:
        keys = {key: value for key, value in SMALL.items() if key in analyses[name].schema.model_fields}
        asked.append(f"{{name: {name}{''.join(f', {key}: {value}' for key, value in keys.items())}}}")
    return asked


ALIGNED = "{{name: barrier, as: by-{0}, align: {0}, points: 3, examples: 60, between: dense-ticket, bn: reset}}"
READ_TEST = [entry.name for entry in analyses if entry.traits.test]


@pytest.mark.parametrize(
    ("names", "norm"),
    [(["curve", "slice", "errors"], "none"), pytest.param(READ_TEST, "batch", marks=pytest.mark.slow)],
)
def test_no_shipped_analysis_chooses_by_the_test_set(names: list[str], norm: str, tmp_path: Path) -> None:
    """Each entry that measures on it, and both alignments; at length with a network that has running statistics."""
    asked = asking(*asked_small(names), ALIGNED.format("weights"), ALIGNED.format("activations"))
    context = measured(tmp_path, asked, f"model.norm={norm}", "prune.levels=1")
    jobs = [job for job in context.plan if job.kind is Kind.ANALYSIS]
    assert {job.analysis.name for job in jobs if job.analysis} == {*names, "barrier"}
    for job in jobs:
        assert "test" in context.store.read_json(job.key, MEASUREMENT_FILE)["read"]
        assert depending_on_test(context, job) == []
