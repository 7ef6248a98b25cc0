"""What TensorBoard, MLflow and Weights & Biases have of a run, read back by their own means, is what the store has."""

from __future__ import annotations

import importlib
import json
import os
import signal
import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lottery
from lottery.errors import Interrupted, UsageError
from lottery.runner import execute
from lottery.runner.events import Event
from tests.support import ROOT
from tests.support.micro import micro

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of other people's packages

STUDY = ("branches=[reinit]", "prune.levels=1", "seeds=2", "train.evaluate_every=2it")
SETTINGS: dict[str, Any] = {"device": "cpu", "deterministic": True}
Series = dict[str, list[tuple[int, float]]]  # steps and values by measure


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers write below the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(execute, "REPORT_SECONDS", 0.0)


def expected(store: Path) -> dict[str, Series]:
    """The measures of each finished training by its key, from the files of the store."""
    found = {}
    for path in store.glob("jobs/*/*/metrics.json"):
        metrics = json.loads(path.read_bytes())
        curve, read = metrics["curve"], metrics["best_accuracy"]
        found[path.parent.name] = {
            "train/loss": [(row["step"], row["train_loss"]) for row in curve if row["train_loss"] is not None],
            "validation/loss": [(row["step"], row["validation_loss"]) for row in curve],
            "validation/accuracy": [(row["step"], row["validation_accuracy"]) for row in curve],
            "test/loss": [(read["step"], read["test_loss"])],
            "test/accuracy": [(read["step"], read["test_accuracy"])],
            "density": [(curve[-1]["step"], metrics["density"])],
        }
    assert len(found) == 6
    return found


def compare(read: dict[str, Series], store: Path, digits: float = 1e-12) -> None:
    wanted = expected(store)
    assert read.keys() == wanted.keys()
    for key, series in wanted.items():
        for name, points in series.items():
            assert [step for step, _ in read[key][name]] == [step for step, _ in points], name
            assert [value for _, value in read[key][name]] == pytest.approx([value for _, value in points], rel=digits)


def in_tensorboard(folder: Path) -> dict[str, Series]:
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator

    found: dict[str, Series] = {}
    for run in sorted((folder / "tensorboard" / "micro").iterdir()):
        events = EventAccumulator(str(run), {SCALARS: 0, TENSORS: 0}).Reload()
        (text,) = [each.tensor_proto.string_val[0].decode() for each in events.Tensors("job/text_summary")]
        (key,) = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("| key |")]
        assert run.name.endswith(key[:12]) and run.name.startswith("adam seed ")
        found[key] = {
            name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]
        }
    return found


def in_mlflow(folder: Path) -> dict[str, Series]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("micro")
    assert experiment is not None
    found: dict[str, Series] = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.status == "FINISHED" and run.data.tags["lottery.end"] == "done"
        assert run.data.params["key"] == run.data.tags["lottery.key"]
        assert run.info.run_name.startswith(f"adam seed {run.data.params['seed']} ")
        found[run.data.tags["lottery.key"]] = {
            name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
    return found


def in_wandb(folder: Path) -> dict[str, Series]:
    """Read each run where `wandb sync` ends with it: from the latest folder of its id."""
    import wandb

    wandb.teardown()  # its service may still be writing what it has been told
    found: dict[str, Series] = {}
    latest: dict[str, Path] = {}
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        latest[path.stem] = path
    for name, path in latest.items():
        config: dict[str, Any] = {}
        series: Series = {}
        ended = None
        for record in records(path):
            if record.WhichOneof("record_type") == "run":
                assert (record.run.run_id, record.run.run_group) == (name.removeprefix("run-"), "micro")
                config |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
            elif record.WhichOneof("record_type") == "history":
                row = {each.key or each.nested_key[0]: json.loads(each.value_json) for each in record.history.item}
                for measure in row.keys() - {"step"}:
                    if not measure.startswith("_"):
                        series.setdefault(measure, []).append((row["step"], row[measure]))
            elif record.WhichOneof("record_type") == "exit":
                ended = record.exit.exit_code
        assert ended == 0
        found[config["key"]] = series
    return found


def records(path: Path) -> Iterator[Any]:
    """The records of a file of W&B: LevelDB's log format behind a header of 7 bytes, each a message of its protocol."""
    Record: Any = importlib.import_module("wandb.proto.wandb_internal_pb2").Record

    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header: the rest of the block is empty
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            yield Record.FromString(parts)
            parts = b""


def on_mlflow() -> dict[str, Any]:
    return {"name": "mlflow", "uri": f"sqlite:///{Path.cwd()}/mlflow.db"}


LIBRARIES: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[Path], dict[str, Series]], float]] = {
    "tensorboard": (lambda: {"name": "tensorboard"}, in_tensorboard, 1e-6),  # which keeps 32 bits
    "mlflow": (on_mlflow, in_mlflow, 1e-12),
    "wandb": (lambda: {"name": "wandb", "offline": True}, in_wandb, 1e-12),
}


def needed(library: str) -> tuple[Callable[[], dict[str, Any]], Callable[[Path], dict[str, Series]], float]:
    """What the tests take of a library; they are skipped where it is missing, or older than the extra asks for."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        (wanted,) = tomllib.load(file)["project"]["optional-dependencies"][library]
    reason, oldest = f"needs the extra `{library}`", wanted.partition(">=")[2]
    pytest.importorskip(library, minversion=oldest, reason=reason, exc_type=ImportError)
    return LIBRARIES[library]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_run_is_there_as_the_store_has_it_and_stays_so_when_it_is_run_again(library: str, tmp_path: Path) -> None:
    track, read, digits = needed(library)
    lottery.run(micro(*STUDY), store=tmp_path / "store", track=track(), **SETTINGS)
    compare(read(tmp_path), tmp_path / "store", digits)
    lottery.run(micro(*STUDY), store=tmp_path / "store", track=track(), **SETTINGS)
    compare(read(tmp_path), tmp_path / "store", digits)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_run_that_was_stopped_or_killed_goes_on_there_without_a_step_twice(library: str, tmp_path: Path) -> None:
    track, read, digits = needed(library)
    reports = 0

    def stops(event: Event) -> None:
        nonlocal reports
        reports += event.kind == "progress" and " level 1" in event.label
        if reports == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    class Killed(BaseException):
        pass

    def dies(event: Event) -> None:
        if event.kind == "progress" and event.about["step"] == 8 and "seed 1 level 1" in event.label:
            raise Killed

    recipe, settings = micro(*STUDY), {**SETTINGS, "store": tmp_path / "store"}
    with pytest.raises(Interrupted):
        lottery.run(recipe, on_event=stops, track=track(), **settings)
    with pytest.raises(Killed):  # after it has told what no checkpoint has
        lottery.run(recipe, on_event=dies, track=track(), **settings)
    lottery.run(recipe, track=track(), **settings)
    compare(read(tmp_path), tmp_path / "store", digits)


def test_what_was_trained_without_a_tracker_is_told_by_the_same_command(tmp_path: Path) -> None:
    needed("tensorboard")
    lottery.run(micro(*STUDY), store=tmp_path / "store", **SETTINGS)
    lottery.run(micro(*STUDY), store=tmp_path / "store", track="tensorboard", **SETTINGS)
    compare(in_tensorboard(tmp_path), tmp_path / "store", 1e-6)


def test_a_disk_that_is_full_under_tensorboard_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needed("tensorboard")
    from tensorboard.summary.writer import record_writer

    def full(self: Any, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_writer.RecordWriter, "write", full)
    outcome = lottery.run(micro(*STUDY), store=tmp_path / "store", track="tensorboard", **SETTINGS)
    assert outcome.exit_code == 0
    (said,) = [record.getMessage() for record in caplog.records if record.name == "lottery"]
    assert said.startswith("tracker tensorboard ") and "No space left on device" in said


def test_weights_and_biases_without_a_login_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(UsageError, match="nobody is logged in here: wandb login, or"):
        lottery.run(micro(*STUDY), store=tmp_path / "store", track="wandb", **SETTINGS)
    assert not (tmp_path / "store").exists()
