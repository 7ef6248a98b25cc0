"""What of Ray the other executors have not: signals that it takes for itself, and GPUs that it hands out."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from lottery.errors import MachineError, UsageError
from tests.support.clocks import until
from tests.support.workers import Place, ray_head

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.slow  # it takes ten seconds to start


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all clusters of this process do without tokens: Ray keeps what the first of them wanted."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


def test_the_handlers_of_signals_are_as_they_were(tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with closing(Place(tmp_path).workers("ray")):
        assert [signal.getsignal(number) for number in numbers] == before


def test_workers_have_the_gpus_that_ray_hands_out_and_wait_where_it_has_none(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with ray_head(6399), closing(place.workers("ray", address="127.0.0.1:6399", workers=3, gpus=0.5)) as workers:
        workers.start(3)
        until(lambda: len(place.begun()) == 2)
        assert [gpu for _, _, gpu, _ in place.begun().values()] == ["0", "0"]
        assert workers.alive() == 3
        workers.stop()
        until(lambda: workers.alive() == 0)
        assert len(place.begun()) == 2


def test_gpus_that_are_not_here_and_an_address_where_nothing_is_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 workers of gpus: 40 need 80 GPUs, Ray finds"):
        Place(tmp_path).workers("ray", gpus=40.0)
    with pytest.raises(MachineError, match=r"executor ray: no cluster at 127.0.0.1:9: Connection refused"):
        Place(tmp_path / "other").workers("ray", address="127.0.0.1:9")


def test_a_cluster_that_is_gone_is_told_and_its_workers_have_saved(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with ray_head(6397) as head, closing(place.workers("ray", address="127.0.0.1:6397")) as workers:
        workers.start(1)
        until(place.begun)
        os.killpg(head.pid, signal.SIGKILL)
        (ended,) = until(workers.ended)
        assert (ended.code, ended.in_order) == (None, False)
        until(lambda: "saved" in Path(ended.log).read_text())
        with pytest.raises(MachineError, match=r"executor ray: no cluster at .*:6397: Connection refused"):
            workers.start(1)
