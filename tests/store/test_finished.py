"""Finished jobs are looked at often and verified once, and what changes in between is noticed all the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lottery.errors import DamagedFile
from lottery.store import finished
from lottery.store.manifest import Manifest
from lottery.store.store import Store

KEY = "ab" * 32
FILES = {"metrics.json": b'{"accuracy": 0.5}', "weights.safetensors": b"12345678"}


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of manifests as they are read and verified; all files count as written long ago."""
    keys: list[str] = []
    read = Manifest.read

    def counted(folder: str, key: str) -> Manifest:
        keys.append(key)
        return read(folder, key)

    monkeypatch.setattr(Manifest, "read", counted)
    monkeypatch.setattr(finished, "RECENT_NS", -(10**18))
    return keys


def commit(store: Store) -> None:
    store.commit(KEY, FILES, kind="dense", label="", seconds=0.0, environment={})


def test_a_manifest_is_verified_once_however_often_a_job_is_asked_for(tmp_path: Path, verified: list[str]) -> None:
    store = Store(tmp_path)
    commit(store)
    for _ in range(3):
        assert store.find(KEY) is store.find(KEY) is not None
        assert {name: store.read(KEY, name) for name in FILES} == FILES
    assert verified == [KEY]


def test_a_manifest_that_has_just_been_written_is_verified_each_time(
    tmp_path: Path, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finished, "RECENT_NS", 10**18)
    store = Store(tmp_path)
    commit(store)
    assert [store.find(KEY) is not None for _ in range(3)] == [True] * 3
    assert verified == [KEY] * 3


def test_what_another_process_commits_puts_aside_and_commits_anew_is_seen(tmp_path: Path, verified: list[str]) -> None:
    store, other = Store(tmp_path), Store(tmp_path)
    assert store.find(KEY) is None
    commit(other)
    first = store.find(KEY)
    (store.folder(KEY) / "metrics.json").unlink()
    assert other.find(KEY) is None
    assert store.find(KEY) is None
    commit(other)
    second = store.find(KEY)
    assert first is not None and second is not None
    assert [store.find(KEY) is second for _ in range(2)] == [True, True]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(0, 10**18))


def link(folder: Path) -> None:
    moved = folder.parent / "moved"
    shutil.move(folder / "metrics.json", moved)
    (folder / "metrics.json").symlink_to(moved)


CHANGES: dict[str, Callable[[Path], None]] = {
    "a file is gone": lambda folder: (folder / "weights.safetensors").unlink(),
    "a file is cut": lambda folder: os.truncate(folder / "weights.safetensors", 3),
    "a file is a link": link,
    "a bit of the manifest": lambda folder: flip(folder / "manifest.json"),
    "the manifest is gone": lambda folder: (folder / "manifest.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("how", ["find", "read"])
def test_damage_after_a_manifest_was_verified_is_found_at_the_next_look(
    tmp_path: Path, verified: list[str], change: str, how: str
) -> None:
    store = Store(tmp_path)
    commit(store)
    assert store.find(KEY) is not None
    CHANGES[change](store.folder(KEY))
    if how == "find":
        assert store.find(KEY) is None
    else:
        with pytest.raises(DamagedFile, match="lottery run computes it again"):
            store.read(KEY, "metrics.json")
    assert not store.folder(KEY).exists() and store.find(KEY) is None


def test_bytes_are_compared_with_their_hash_at_every_reading(tmp_path: Path, verified: list[str]) -> None:
    store = Store(tmp_path)
    commit(store)
    assert store.read(KEY, "metrics.json") == FILES["metrics.json"]
    flip(store.folder(KEY) / "metrics.json")
    with pytest.raises(DamagedFile, match="its bytes are not those that were committed"):
        store.read(KEY, "metrics.json")
    assert store.find(KEY) is None


def test_verify_reads_what_was_verified_before_anew(tmp_path: Path, verified: list[str]) -> None:
    store = Store(tmp_path)
    commit(store)
    store.find(KEY)
    assert list(store.verify()) == [(KEY, None)]
    assert verified == [KEY, KEY]
