"""A ticket file is enough to train the ticket again, elsewhere, to the bit; a damaged one is found out."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import torch

import lottery
from lottery.cli.main import main
from lottery.errors import DamagedFile, DataError, Interrupted, LotteryError, UsageError
from lottery.files.tensors import decode, encode
from lottery.plan.jobs import Plan
from lottery.pruning.mask import Mask
from lottery.recipe.load import parse_recipe
from lottery.recipe.readings import READINGS
from lottery.runner.events import Request
from lottery.runner.prepare import prepare
from lottery.runner.run import work
from lottery.store.store import Store
from lottery.tickets.export import export, open_ticket
from lottery.tickets.file import Ticket, load_ticket, read
from lottery.tickets.retrain import retrain
from tests.support.micro import micro_text

TEXT = micro_text(
    "data={name: digits, validation: 100, limit: 300}",
    "model={name: lenet, widths: [8, 6], norm: batch}",
    "train.optimizer=[adam, momentum]",
    "train.schedule={name: cosine, warmup: 2it}",
    "train.label_smoothing=0.1",
    "prune={fraction: 0.5, levels: 2, rates: {output: 0.5}}",
    "rewind=[init, 4it, {to: 4it, mode: lr}, {to: 4it, mode: finetune}]",
    "tune={trials: 2}",
    "branches=[reinit]",
)
Finished = tuple[Plan, Store, Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("made")
    recipe = parse_recipe(TEXT, "made.yaml")
    context = prepare(Request(recipe, folder, folder / "store", device="cpu", deterministic=True))
    assert {event.kind for event in work(context)} <= {"start", "progress", "done", "found"}
    return context.plan, context.store, folder


def key_of(finished: Finished, kind: str = "ticket", **about: object) -> str:
    jobs = [job for job in finished[0] if job.kind == kind]
    return next(j.key for j in jobs if all(getattr(j, name) == value for name, value in about.items()))


def written(finished: Finished, folder: Path, key: str | None = None) -> Path:
    path = folder / "a.ticket"
    path.write_bytes(export(finished[1], key or key_of(finished, level=2), finished[2]))
    return path


def tickets(plan: Plan) -> list[str]:
    return [job.key for job in plan if job.kind == "ticket"]


def test_each_ticket_trains_again_elsewhere_to_the_bit(finished: Finished, tmp_path: Path) -> None:
    plan, store, folder = finished
    keys = tickets(plan)
    assert len(keys) == 2 * 4 * 2  # optimizers, ways of rewinding, levels
    for key in keys:
        found = read(written(finished, tmp_path, key))
        again = tmp_path / key
        compared = retrain(found, folder, again, device="cpu", deterministic=True)
        assert compared.identical and compared.environment == [] and compared.measures
        assert all(there == here for _, _, there, here in compared.measures)
        assert compared.key != key and Store(again).find(key) is None
        for name in ("weights.safetensors", "mask.safetensors"):
            assert Store(again).read(compared.key, name) == store.read(key, name)


def test_a_ticket_of_the_store_is_the_one_that_its_file_holds(finished: Finished, tmp_path: Path) -> None:
    for key in tickets(finished[0]):
        here, there = (
            vars(each) for each in (open_ticket(finished[1], key, finished[2]), read(written(finished, tmp_path, key)))
        )
        ours, theirs = here.pop("tensors"), there.pop("tensors")
        assert here == there
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_retraining_goes_on_where_it_was_stopped(finished: Finished, tmp_path: Path) -> None:
    found = read(written(finished, tmp_path, key_of(finished, level=2)))

    store = tmp_path / "again"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lottery.runner.execute.time.monotonic", iter(range(10**6)).__next__
        )  # progress is told at each step
        with pytest.raises(Interrupted):
            retrain(
                found,
                finished[2],
                store,
                device="cpu",
                deterministic=True,
                on_progress=lambda progress: signal.raise_signal(signal.SIGTERM),
            )
    assert Store(store).checkpoint_step(found.retraining(deterministic=True).key)
    assert retrain(found, finished[2], store, device="cpu", deterministic=True).identical


def test_the_file_has_the_key_the_evidence_and_a_recipe_of_one_seed(finished: Finished, tmp_path: Path) -> None:
    key = key_of(finished, level=2, optimizer_index=0)
    found = read(written(finished, tmp_path, key))
    metrics = finished[1].read_json(key, "metrics.json")
    assert found.key == key and found.recipe.seeds == (0,)
    readings = {name: metrics[name] for name in READINGS}
    assert {name: found.evidence["ticket"][name] for name in READINGS} == readings and all(readings.values())
    assert found.recipe.train.optimizer[0].args["lr"] == metrics["lr"]
    dense = finished[1].read_json(key_of(finished, "dense", optimizer_index=0), "metrics.json")
    assert found.evidence["dense"]["end"] == dense["end"]


def test_load_ticket_gives_the_network_at_the_start_of_its_training_and_the_mask(
    finished: Finished, tmp_path: Path
) -> None:
    plan, store, _ = finished
    key = key_of(finished, level=2, optimizer_index=1)
    model, mask = lottery.load_ticket(written(finished, tmp_path, key))
    assert mask == Mask.unpack(*decode(store.read(key, "mask.safetensors")))
    state = store.read_tensors(str(plan.jobs[key].point), "state.safetensors")
    expected = mask.apply({name.removeprefix("model/"): t for name, t in state.items() if name.startswith("model/")})
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_every_changed_byte_and_every_cut_is_found_out(finished: Finished, tmp_path: Path) -> None:
    path = written(finished, tmp_path)
    whole = path.read_bytes()
    places = range(0, len(whole), max(1, len(whole) // 150))
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(LotteryError) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    for place in places:
        path.write_bytes(whole[:place])
        with pytest.raises(LotteryError):
            read(path)


def resealed(path: Path, change: dict[str, object]) -> Ticket:
    """A file whose JSON somebody changed, hash and all."""
    from lottery.tickets.file import _hash

    tensors, head = decode(path.read_bytes())
    head.pop("sha256")
    head["about"] = json.dumps({**json.loads(head["about"]), **change}, sort_keys=True)
    path.write_bytes(encode(tensors, {**head, "sha256": _hash(tensors, head)}))
    return read(path)


def test_data_that_are_not_those_it_was_trained_on_are_refused(finished: Finished, tmp_path: Path) -> None:
    path = written(finished, tmp_path)
    chain = json.loads(decode(path.read_bytes())[1]["about"])["chain"]
    chain[-1]["training"]["fingerprint"] = "0" * 64
    with pytest.raises(DataError, match="digits is not what the ticket was trained on: its hash is"):
        retrain(resealed(path, {"chain": chain}), finished[2], tmp_path / "store")


@pytest.mark.parametrize(("kind", "says"), [("dense", "the job of a dense"), ("branch", "the job of a branch")])
def test_only_tickets_are_exported(finished: Finished, kind: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        export(finished[1], key_of(finished, kind), finished[2])


def test_what_is_no_ticket_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        load_ticket(tmp_path / "a.ticket")
    (tmp_path / "a.ticket").write_bytes(encode({"x": torch.zeros(1)}))
    with pytest.raises(UsageError, match="is no ticket file; lottery ticket export makes them"):
        load_ticket(tmp_path / "a.ticket")
    (tmp_path / "a.ticket").write_bytes(encode({}, {"format": "lottery ticket", "version": "99"}))
    with pytest.raises(UsageError, match="has format version 99, this lottery reads 2; update lottery"):
        load_ticket(tmp_path / "a.ticket")
    (tmp_path / "a.ticket").write_bytes(encode({}, {"format": "lottery ticket", "version": "1"}))
    with pytest.raises(UsageError, match="has format version 1, this lottery reads 2; export the ticket again, from"):
        load_ticket(tmp_path / "a.ticket")
    (tmp_path / "a.ticket").write_bytes(b"")
    with pytest.raises(DamagedFile, match="no whole ticket file"):
        load_ticket(tmp_path / "a.ticket")


def test_the_same_ticket_is_the_same_bytes(finished: Finished) -> None:
    key = key_of(finished, level=1)
    assert export(finished[1], key, finished[2]) == export(finished[1], key[:12], finished[2])


def run(monkeypatch: pytest.MonkeyPatch, *argv: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lottery", "ticket", *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_commands_export_show_verify_and_retrain(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, file = key_of(finished, level=2), tmp_path / "a.ticket"
    where = ("--data", finished[2], "--store", finished[1].root)
    assert run(monkeypatch, "export", key[:12], "-o", file, *where) == 0
    assert run(monkeypatch, "show", file) == 0
    assert key in capsys.readouterr().out
    assert run(monkeypatch, "verify", file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok", "said"}
    assert run(monkeypatch, "verify", file, "--data", finished[2], "--again", "--device", "cpu") == 0
    measured = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "measured again" in line]
    assert measured == ["ok     ticket best_accuracy", "ok     ticket early_stop", "ok     ticket end"]
    argv = ("retrain", file, "--data", finished[2], "--device", "cpu", "--deterministic")
    assert run(monkeypatch, *argv) == 0
    assert capsys.readouterr().out.startswith("identical: ")
    assert run(monkeypatch, *argv, "--store", finished[1].root) == 0
    own = read(file).retraining(deterministic=True).key
    assert f"kept as {own[:12]} in {finished[1].root}, a key of the file's own" in capsys.readouterr().out
    assert finished[1].read_json(own, "job.json")["kind"] == "retraining"
    assert run(monkeypatch, "export", own, "-o", file, *where) == 2
    assert "is the job of a retraining, not of a ticket" in capsys.readouterr().err
    best = finished[1].read_json(key, "metrics.json")["best_accuracy"]
    for form in ("dense", "prune", "compact"):
        assert run(monkeypatch, "export", key, "-o", tmp_path / form, "--form", form, *where) == 0
        assert decode((tmp_path / form).read_bytes())[0]
        said = capsys.readouterr().out
        assert said.startswith(f"weights of step {best['step']}, at the step where the validation accuracy was first ")
        assert said.splitlines()[0].endswith(f"highest: test accuracy {100 * best['test_accuracy']:.2f} %")
        assert (" as fast" in said) == (form == "compact")
    for wrong in (
        ("--at", "middle", "--form", "dense"),
        ("--at", "end"),
        ("--at", "end", "--form", "dense", "--weights", "start"),
    ):
        assert run(monkeypatch, "export", key, "-o", file, *wrong, *where) == 2
    assert run(monkeypatch, "export", key, "-o", file, "--form", "zip", *where) == 2
    file.write_bytes(file.read_bytes()[:-1])
    capsys.readouterr()
    assert run(monkeypatch, "verify", file) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_export_that_fails_leaves_the_old_file(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lottery.files import write

    file = tmp_path / "a.ticket"
    argv = ("export", key_of(finished, level=1), "-o", file, "--data", finished[2], "--store", finished[1].root)
    operations: list[str] = []
    perform = write.perform
    for fails in range(100):
        file.write_bytes(b"old")
        operations.clear()

        def broken(operation: str, path: Path, action: object, fails: int = fails) -> object:
            operations.append(operation)
            if len(operations) == fails + 1:
                raise OSError(28, "No space left on device")
            return perform(operation, path, action)  # type: ignore[arg-type]

        monkeypatch.setattr(write, "perform", broken)
        code = run(monkeypatch, *argv)
        if code == 0:
            break
        assert code == 3 and (file.read_bytes() == b"old" or read(file))
    assert fails > 2 and read(file)
