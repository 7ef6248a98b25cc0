"""The server of the board: from a socket to Ctrl-C."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from lottery.errors import MachineError, UsageError

if TYPE_CHECKING:
    from types import FrameType

    from starlette.types import ASGIApp

    from lottery.board.app import Changes
    from lottery.store.store import Store

LEAVE_SECONDS = 2  # for requests that are being answered when the board ends


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; any free port for port 0.

    Raises:
        UsageError: The port is taken, or the address is none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a board that has just ended
        found.bind((host, port))
        found.listen(128)
    except socket.gaierror as error:
        raise UsageError(f"--host {host}: is no address of this machine; leave it out for 127.0.0.1") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"--port {port}: is in use, maybe by another board; --port {port + 1}, or --port 0 for any that is free"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host {host}: is no address of this machine; leave it out for 127.0.0.1") from error
        if error.errno == errno.EACCES:
            raise UsageError(f"--port {port}: may not be used by you; take one above 1023") from error
        raise MachineError(f"{host}:{port}: cannot be listened at: {error.strerror}") from error
    return found


def address(host: str, port: int, token: str) -> str:
    """Return the address of the board's first page, with the token."""
    name = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/?token={quote(token)}"


def has_screen() -> bool:
    """Return True where a browser that is started here would be seen: not by ssh, nor without a display."""
    if os.environ.get("SSH_CONNECTION") or not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def serve(
    store: Store, plugins: Sequence[str], *, host: str, port: int, opens: bool, tell: Callable[[str], None]
) -> None:
    """Show a store until Ctrl-C.

    Args:
        store: A store that is only read.
        plugins: Modules that may be imported, of those that studies name.
        host: The address to listen at.
        port: The port; 0 for any that is free.
        opens: True to open the page in a browser.
        tell: Is told the address, and at the end that this is it.

    Raises:
        UsageError: The port or the address cannot be had.
    """
    from lottery.board.app import Changes, application
    from lottery.board.board import Board
    from lottery.board.guard import new_token

    listener = listening(host, port)
    port = listener.getsockname()[1]
    token, changes = new_token(), Changes()
    board = Board(store, plugins, changes.announce)
    app = application(board, changes, token=token, cookie=f"lottery_board_{port}", host=host)
    url = address(host, port, token)
    tell(url)
    board.start()
    try:
        _run(app, changes, listener, lambda: opens and webbrowser.open(url))
    finally:
        board.close()
        listener.close()


def _run(app: ASGIApp, changes: Changes, listener: socket.socket, begun: Callable[[], object]) -> None:
    """Answer requests until a signal to leave comes."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            begun()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            changes.end()
            if not self.should_exit:  # a second Ctrl-C would force it and show where it was; it leaves soon by itself
                super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=LEAVE_SECONDS
    )
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(config).run(sockets=[listener])  # raises the signal again once it has left, for those handlers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
