"""What a run logs of its trainings, for those who watch the store from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lottery.executors.news import event_of
from lottery.runner import run
from lottery.runner.execute import Progress
from lottery.store.event_log import EventLog
from tests.support.clocks import Clock
from tests.support.micro import micro, prepared


def test_a_training_of_any_run_is_told_soon_and_then_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    context = prepared(micro("train.engine=dense"), tmp_path)
    job = next(iter(context.plan))
    log = EventLog(context.store)

    def half_a_minute(*_: Any) -> Iterator[Progress]:
        for step in range(1, 61):
            clock.advance(0.5)
            yield Progress(step, 0, 60, {"step": step, "train_loss": 1 / step}, step / 2, 100.0)
        raise KeyboardInterrupt  # of no interest here

    monkeypatch.setattr(run, "execute", half_a_minute)
    seen = []
    with pytest.raises(KeyboardInterrupt):
        for each in run._run_one(context, job):
            seen.append(each)
    told = [event for entry in log.read() if (event := event_of(entry)) is not None and event.kind == "progress"]
    assert sum(each.kind == "progress" for each in seen) == 60
    steps = [event.about["step"] for event in told]  # two a second
    apart = [later - earlier for earlier, later in zip([0, *steps], [*steps, 60], strict=True)]
    assert apart[0] in (2, 3)
    assert max(apart) in (10, 11)
    assert len(told) <= 9
    assert all(event.key == job.key and event.about["row"]["train_loss"] > 0 for event in told)
