"""`lottery board` from its start to Ctrl-C, in a process of its own."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("uvicorn", reason="the extra `board` is not installed")
pytest.importorskip("sse_starlette", reason="the extra `board` is not installed")

from lottery.board import serve
from lottery.store.store import Store
from tests.support.boards import contents, finish
from tests.support.calls import call_here


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    finish(store, 1, "adam: dense, seed 0")
    return store


@pytest.fixture
def board(store: Store) -> Iterator[subprocess.Popen[str]]:
    words = ["-m", "lottery", "board", str(store.root), "--port", "0", "--no-open"]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def get(address: str, path: str, cookie: str = "") -> http.client.HTTPResponse:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    connection.request("GET", path, headers={"Cookie": cookie})
    return connection.getresponse()


def test_the_printed_address_shows_the_store_and_ctrl_c_ends_it_cleanly(
    store: Store, board: subprocess.Popen[str]
) -> None:
    before = contents(store.root)
    assert board.stdout is not None
    address = board.stdout.readline().strip()
    assert urlsplit(address).hostname == "127.0.0.1"
    assert get(address, "/").status == 403
    cookie = get(address, f"/?{urlsplit(address).query}").headers["set-cookie"].partition(";")[0]
    stream = get(address, "/events", cookie)
    assert stream.status == 200
    while "finished" not in (line := stream.readline().decode()):
        assert line
    page = get(address, "/", cookie)
    assert "adam: dense, seed 0" in page.read().decode()
    assert contents(store.root) == before
    board.send_signal(signal.SIGINT)  # while a browser listens
    _, errors = board.communicate(timeout=60)
    assert (board.returncode, errors) == (0, "")


def test_a_port_that_is_in_use_is_said_with_the_way_out(store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = call_here("board", str(store.root), "--port", str(port), "--no-open")
    assert done.code == 2
    assert f"--port {port}: is in use" in done.err
    assert f"--port {port + 1}" in done.err


def test_an_address_that_is_none_of_this_machine_is_said(store: Store) -> None:
    done = call_here("board", str(store.root), "--host", "192.0.2.1", "--port", "0", "--no-open")
    assert done.code == 2
    assert "--host 192.0.2.1: is no address of this machine" in done.err


def test_two_stores_are_refused(store: Store) -> None:
    done = call_here("board", str(store.root), "--store", "other")
    assert done.code == 2
    assert "two stores" in done.err


def test_without_its_packages_it_says_how_to_get_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lottery.cli.board.PACKAGES", ("no_such_package",))
    done = call_here("board", str(store.root))
    assert done.code == 2
    assert 'pip install "lottery[board]"' in done.err


def test_no_browser_is_opened_by_ssh_or_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    assert serve.has_screen()
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    assert not serve.has_screen()
    monkeypatch.delenv("SSH_CONNECTION")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not serve.has_screen()
