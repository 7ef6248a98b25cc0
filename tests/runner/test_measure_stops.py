"""Every analysis can be stopped within a pass over its examples, and goes on to the same bytes; counted in batches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import Tensor, nn

from lottery import registry
from lottery.network.factory import NetworkFactory
from lottery.plan.jobs import Job
from lottery.plan.kinds import MEASUREMENT_FILE, Kind
from lottery.runner.context import RunContext
from lottery.runner.measure import Measuring
from lottery.signals import Stop
from lottery.training.trainer import Stopped
from tests.support.analyses import asking
from tests.support.micro import finished, micro, prepared

BATCH = 20  # examples, so that a pass has three batches or more
AFTER = 3  # batches that go through a network after the signal, at most: those of two networks, and one in waiting
ASKED = {
    "barrier": "between: dense-ticket, points: 3, align: activations",
    "instability": "of: ticket, at: [init], pairs: 1, points: 3",
    "line": "of: ticket, points: 3",
    "curve": "between: dense-ticket, points: 3, epochs: 2, batch_size: 10",
    "slice": "of: ticket, points: 3, times: 0",
    "surface": "of: ticket, points: 3, times: 0, directions: eigenvectors",
    "plane": "points: 3, times: 0",
    "trajectory": "of: ticket, along: 4, points: 3, times: 0",
    "hessian": "of: ticket, steps: 5, probes: 2, density: true, density_probes: 1",
    "plateaus": "of: ticket, along: 2, steps: 3",
    "sharpness": "of: ticket, steps: 2, draws: 2",
    "signals": "of: ticket, along: 2",
    "smoothness": "of: ticket, along: 2, points: 2",
    "descent": "of: ticket, along: 3",
    "errors": "of: ticket",
    "critical_points": "of: ticket, starts: 2, steps: 8",
}


class Passes:
    """Counts the batches that go through the networks of measurements, and gives the signal at one of them."""

    def __init__(self, stop: Stop):
        self.stop, self.count, self.at, self.after = stop, 0, -1, 0

    def begin(self, at: int) -> None:
        self.stop.signal, self.count, self.at, self.after = None, 0, at, 0

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        assert len(inputs[0]) <= max(BATCH, 60)
        self.count += 1
        self.after += self.stop.signal is not None
        if self.count == self.at:
            self.stop.signal = 15


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunContext, Passes]]:
    """Yield a finished run with one job of each analysis or more, and what counts."""
    asked = (f"{{name: {name}, levels: [2], examples: 60, {keys}}}" for name, keys in ASKED.items())
    changes = ("model.norm=batch", "prune.levels=2", asking(*asked))
    stop = Stop()
    passes, blank = Passes(stop), NetworkFactory.blank

    def counted(factory: NetworkFactory) -> nn.Module:
        model = blank(factory)
        model.register_forward_pre_hook(passes)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lottery.data.loader.EVALUATION_BATCH", {"cpu": BATCH})
        context = finished(prepared(micro(*changes), tmp_path_factory.mktemp("stops"), stop=stop))
        patch.setattr(NetworkFactory, "blank", counted)
        yield context, passes


def session(context: RunContext, job: Job, passes: Passes, at: int = -1) -> bytes | None:
    """Return the file of a measurement that goes on where it was stopped; None where it is stopped again."""
    passes.begin(at)
    measuring = Measuring(context, job, 0.0)
    try:
        for _ in measuring.run():
            pass
    except Stopped:
        measuring.save()
        return None
    return measuring.result


def test_every_analysis_is_here() -> None:
    ours = {entry.name for entry in registry.analyses if entry.make.__module__.startswith("lottery.")}
    assert ours == {*ASKED, "signs"}  # which looks at weights alone, so that there is nothing to stop


@pytest.mark.parametrize("name", ASKED)
def test_a_stop_ends_it_within_three_batches_and_it_goes_on_to_the_same_bytes(
    name: str, study: tuple[RunContext, Passes]
) -> None:
    context, passes = study
    job = next(job for job in context.plan if job.analysis is not None and job.analysis.name == name)
    assert job.kind is Kind.ANALYSIS
    whole = session(context, job, passes)
    assert whole == context.store.read(job.key, MEASUREMENT_FILE)
    total = passes.count
    for share in (1 / total, 0.3, 0.3):
        assert session(context, job, passes, max(1, round(share * total))) is None
        assert passes.after <= AFTER
    assert session(context, job, passes) == whole
    context.store.drop_checkpoints(job.key)
