"""Writing survives faults, reading trusts nothing, tensors keep their bytes."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery.errors import DamagedFile, MachineError, UsageError
from lottery.files import write
from lottery.files.read import parse_json, read_bytes
from lottery.files.tensors import decode, encode
from tests.support.faults import Crash, Disk, contents, crash_after, crash_before, crash_within, refuses

FILES = {"a.bin": b"a" * 5000, "b.json": b"{}"}
LAST = ("manifest.json", b"{1}")


def make(target: Path) -> None:
    with write.write_draft(target, FILES, LAST) as draft:
        write.publish(draft, target)


# Committing folders and replacing files


def test_a_folder_appears_with_all_its_files_and_nothing_beside_it(tmp_path: Path) -> None:
    make(tmp_path / "deep" / "er" / "job")
    assert contents(tmp_path) == {f"deep/er/job/{name}": data for name, data in [*FILES.items(), LAST]}


def test_a_name_that_is_taken_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "job")
    with pytest.raises(FileExistsError), write.write_draft(tmp_path / "job", {"other": b""}, LAST) as draft:
        write.publish(draft, tmp_path / "job")
    assert contents(tmp_path) == {f"job/{name}": data for name, data in [*FILES.items(), LAST]}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".hidden", "a\0b", "x" * 65, "ü", "a b", "a\n"])
def test_a_hostile_file_name_is_refused_before_anything_is_published(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError), write.write_draft(tmp_path / "job", {name: b"x"}, LAST) as draft:
        write.publish(draft, tmp_path / "job")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO]
)
def test_every_refusal_of_the_machine_is_one_line_with_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    Disk(monkeypatch).arm(1, refuses(code))  # after the mkdir, the first write
    with pytest.raises(MachineError) as caught:
        make(tmp_path / "job")
    message = str(caught.value)
    assert caught.value.exit_code == 3 and "\n" not in message and str(tmp_path / "job") in message
    assert ("5,005 bytes needed" in message) == (code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def test_a_file_in_place_of_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file where a folder is needed"):
        make(tmp_path / "file" / "sub" / "job")


@pytest.mark.parametrize("fault", [crash_before, crash_after, crash_within])
def test_a_replaced_file_is_the_old_or_the_new_one_after_a_crash_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    disk, path = Disk(monkeypatch), tmp_path / "table.csv"
    for at in itertools.count():
        path.write_bytes(b"old")
        disk.arm(at, fault)
        try:
            write.write_atomic(path, b"the new one")
        except Crash:
            assert path.read_bytes() in (b"old", b"the new one")
        else:
            break
    assert at == 4 and path.read_bytes() == b"the new one"
    assert [operation for operation, _ in disk.seen] == ["write", "fsync", "replace", "fsync folder"]


def test_a_refused_replacement_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"old")
    disk = Disk(monkeypatch)
    for at in range(3):
        disk.arm(at, refuses(errno.ENOSPC))
        with pytest.raises(MachineError, match="bytes needed"):
            write.write_atomic(path, b"new")
        assert contents(tmp_path) == {"table.csv": b"old"}


def test_an_output_may_be_a_link_or_a_device_but_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write.write_atomic(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"x"
    write.write_atomic(Path(os.devnull), b"x")
    for place in (tmp_path, tmp_path / "none" / "x"):
        with pytest.raises(UsageError):
            write.write_atomic(place, b"x")


def test_a_file_name_of_full_length_can_be_written(tmp_path: Path) -> None:
    write.write_atomic(tmp_path / ("ü" * 127), b"x")
    assert contents(tmp_path) == {"ü" * 127: b"x"}


def test_a_real_file_size_limit_is_a_machine_error_and_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import resource, sys
from pathlib import Path
from lottery.files import write
from lottery.errors import MachineError
target = Path({str(tmp_path)!r}) / "job"
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    with write.write_draft(target, {{"w": bytes(20_000)}}, ("manifest.json", b"x")) as draft:
        write.publish(draft, target)
except MachineError as error:
    print(error)
assert list(target.parent.iterdir()) == []
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with write.write_draft(target, {{"w": bytes(20_000)}}, ("manifest.json", b"x")) as draft:
    write.publish(draft, target)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "file size limit" in done.stdout and "20,001 bytes needed" in done.stdout
    assert contents(tmp_path) == {"job/w": bytes(20_000), "job/manifest.json": b"x"}


# The order that makes a commit survive a power cut


def system_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What really reaches the system, in order: fsync or rename, the name then, and the bytes of a file then."""
    calls: list[tuple[str, str, int]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        calls.append(("fsync", path.name.partition(".tmp-")[0], path.stat().st_size if path.is_file() else 0))
        real_fsync(fd)

    def rename(source: Path, target: Path) -> None:
        calls.append(("rename", Path(target).name, 0))
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    return calls


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the names behind descriptors are read from /proc")
def test_a_commit_syncs_each_file_then_the_manifest_then_the_folder_then_renames_then_syncs_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = system_calls(monkeypatch)
    make(tmp_path / "job")
    assert calls == [
        ("fsync", "a.bin", 5000),
        ("fsync", "b.json", 2),
        ("fsync", "manifest.json", 3),
        ("fsync", "job", 0),
        ("rename", "job", 0),
        ("fsync", tmp_path.name, 0),
    ]


def test_every_operation_of_a_commit_goes_through_the_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    make(tmp_path / "new" / "job")
    operations = [operation for operation, _ in disk.seen]
    assert operations == [
        *["mkdir", "fsync folder"],  # of the parent
        *["mkdir", *["write", "fsync"] * 3, "fsync folder", "rename", "fsync folder"],
    ]
    writes = [path.name for operation, path in disk.seen if operation == "write"]
    assert writes == ["a.bin", "b.json", "manifest.json"]


# Drafts of processes that are gone


def test_a_draft_is_abandoned_when_its_process_is_gone_or_it_is_an_hour_old(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here, now = write.machine_id(), time.time()
    names = {
        f"x.tmp-{gone.pid}-{here}-0123456789ab": [True, True],
        f"x.tmp-{os.getpid()}-{here}-0123456789ab": [False, True],
        f"x.tmp-{gone.pid}-00000000-0123456789ab": [False, True],
        "x.tmp-my-own-file": [False, False],
    }
    for name, expected in names.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x")
        assert [write.abandoned(tmp_path / name, lambda at=at: at) for at in (now, now + 3700)] == expected, name  # type: ignore[misc]


# Reading


def test_links_pipes_folders_and_wrong_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert read_bytes(tmp_path / "file", size=5) == b"12345"
    for name in ("link", "pipe", ".", "none", "file/below"):
        with pytest.raises(DamagedFile):
            read_bytes(tmp_path / name)
    for limits in ({"size": 4}, {"size": 6}, {"most": 4}):
        with pytest.raises(DamagedFile):
            read_bytes(tmp_path / "file", **limits)


def test_json_is_refused_when_deep_or_with_a_key_twice_or_no_json() -> None:
    assert parse_json(b'{"a": [1, {"b": "[[[["}]}', "x") == {"a": [1, {"b": "[[[["}]}
    assert parse_json(json.dumps(["[" * 100] * 100).encode(), "x") == ["[" * 100] * 100
    deep = b"[" * 100_000 + b"]" * 100_000
    endless = b"[" * 99 + b'"' + b'\\"' * 90_000
    for bad in (deep, b"[" * 65 + b"]" * 65, b'{"a": 1, "a": 2}', b"", b"{", b"\xff", b"9" * 5000, endless):
        with pytest.raises(DamagedFile, match="x: "):
            parse_json(bad, "x")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_are_read_as_tensors_except_by_being_such(data: bytes) -> None:
    for candidate in (data, struct.pack("<Q", len(data)) + data):
        try:
            decode(candidate)
        except DamagedFile:
            continue
        assert json.loads(candidate[8 : 8 + struct.unpack("<Q", candidate[:8])[0]]) is not None


# Tensors


def test_tensors_of_every_kind_come_back_as_they_were() -> None:
    tensors = {
        'weird name/ü\n"': torch.arange(6.0).reshape(2, 3).t(),
        "": torch.tensor(3),
        "empty": torch.empty(0, 5),
        "flags": torch.tensor([True, False]),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "eight": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn),
        "double": torch.tensor([math.pi, math.inf], dtype=torch.float64),
        "state": torch.arange(9, dtype=torch.uint8),
        "channels": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    found, metadata = decode(encode(tensors, {"b": "2", "a": "ü"}))
    assert metadata == {"a": "ü", "b": "2"}
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert torch.equal(found[name].to(torch.float64), value.to(torch.float64))
    assert decode(encode({}, {"only": "text"})) == ({}, {"only": "text"})
    assert decode(encode({})) == ({}, {})


def test_equal_tensors_are_equal_bytes_whatever_their_order_layout_sharing_and_zeros() -> None:
    one = torch.arange(6.0).reshape(2, 3)
    plain = encode({"a": one, "b": one.clone(), "z": torch.zeros(2)}, {f"k{i}": "v" for i in range(20)})
    shared = encode({"z": -torch.zeros(2), "b": one.t().contiguous().t(), "a": one}, {f"k{i}": "v" for i in range(20)})
    tied = encode({"a": one, "b": one, "z": torch.zeros(2)}, dict(reversed([(f"k{i}", "v") for i in range(20)])))
    assert plain == shared == tied
    assert torch.signbit(decode(encode({"x": torch.tensor([-0.0])}))[0]["x"]).tolist() == [False]


def test_the_bytes_are_those_of_the_safetensors_library() -> None:
    """Names that JSON must escape, each kind of number, nothing, a single value."""
    kinds = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.complex64)
    tensors = {f"{kind}": torch.ones(3, 2, dtype=kind) for kind in kinds}
    tensors |= {'a"\\\n\x1f\x7fü/': torch.arange(5.0), "": torch.zeros(0, 3), "b": torch.tensor(2.5)}
    assert encode(tensors) == safetensors.torch.save({name: tensors[name] for name in sorted(tensors)})


def test_a_large_file_of_tensors_is_made_without_a_second_copy_of_it() -> None:
    tensors = {f"layer{i}": torch.ones(2**18) for i in range(16)}
    tracemalloc.start()  # of bytes: the memory of tensors it does not see
    try:
        size = len(encode(tensors))
        assert size <= tracemalloc.get_traced_memory()[1] < 1.25 * size
    finally:
        tracemalloc.stop()


def test_decoded_tensors_can_be_written_to() -> None:
    data = encode({"x": torch.ones(2)})
    decode(data)[0]["x"].add_(1)
    assert torch.equal(decode(data)[0]["x"], torch.ones(2))


def test_the_one_name_the_format_keeps_is_refused() -> None:
    with pytest.raises(ValueError, match="__metadata__"):
        encode({"__metadata__": torch.ones(1)})


def entry(shape: Any = (4,), offsets: Any = (0, 4), dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


CRAFTED: dict[str, tuple[Any, bytes]] = {
    "huge shape": ({"a": entry((2**40, 2**30))}, b"abcd"),
    "shape of 2**63": ({"a": entry((2**63, 0), (0, 0))}, b""),
    "product that wraps around to 4": ({"a": entry((2**32 + 1, 2**32 - 1, 4))}, b"abcd"),
    "negative shape": ({"a": entry((-4,))}, b"abcd"),
    "two negatives": ({"a": entry((-2, -2))}, b"abcd"),
    "fraction": ({"a": entry((4.0,))}, b"abcd"),
    "truth as a number": ({"a": entry((True, 4))}, b"abcd"),
    "text as a shape": ({"a": entry("4")}, b"abcd"),
    "out of range": ({"a": entry((4,), (2, 6))}, b"abcd"),
    "far out of range": ({"a": entry((2**40,), (0, 2**40))}, b"abcd"),
    "negative offset": ({"a": entry((4,), (-4, 0))}, b"abcd"),
    "backwards": ({"a": entry((4,), (4, 0))}, b"abcd"),
    "overlapping": ({"a": entry(), "b": entry((3,), (1, 4))}, b"abcd"),
    "the same span": ({"a": entry(), "b": entry()}, b"abcd"),
    "hole": ({"a": entry((1,), (0, 1)), "b": entry((2,), (2, 4))}, b"abcd"),
    "bytes left over": ({"a": entry((3,), (0, 3))}, b"abcd"),
    "unknown type": ({"a": entry(dtype="OBJ")}, b"abcd"),
    "type that is no text": ({"a": entry(dtype=["U8"])}, b"abcd"),
    "half an element": ({"a": entry((1,), (0, 3), "F32")}, b"abc"),
    "one offset": ({"a": entry(offsets=(4,))}, b"abcd"),
    "too many dimensions": ({"a": entry((1,) * 65 + (4,))}, b"abcd"),
    "no mapping": ([1], b""),
    "entry that is none": ({"a": 1}, b""),
    "metadata that is no text": ({"__metadata__": {"a": 1}}, b""),
    "metadata that is none": ({"__metadata__": [1]}, b""),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_header_is_refused(case: str) -> None:
    header, body = CRAFTED[case]
    text = json.dumps(header).encode()
    with pytest.raises(DamagedFile):
        decode(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.parametrize("length", [3, 17, 2**24 + 1, 2**31, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file_or_cut_short_is_refused(length: int) -> None:
    with pytest.raises(DamagedFile):
        decode(struct.pack("<Q", length) + b'{"__metadata__":')


def test_a_name_that_stands_twice_is_refused() -> None:
    one = json.dumps(entry())
    text = f'{{"a":{one},"a":{one}}}'.encode()
    with pytest.raises(DamagedFile, match="twice"):
        decode(struct.pack("<Q", len(text)) + text + b"abcd")


def test_every_truncation_of_a_file_of_tensors_is_refused() -> None:
    data = encode({"a": torch.ones(3), "b": torch.ones(2, dtype=torch.bool)}, {"k": "v"})
    for length in range(len(data)):
        with pytest.raises(DamagedFile):
            decode(data[:length])
