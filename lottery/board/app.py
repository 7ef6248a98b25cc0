"""The pages of the board over HTTP. Nothing here waits for the store: all that is shown lies ready in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from lottery.board.guard import Guard
from lottery.board.pages import FILES, file, render
from lottery.board.parts import Part

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from lottery.board.board import Board

PING_SECONDS = 15
SEND_SECONDS = 60  # for a browser that reads no more, as on a computer that sleeps
FRONT = ("notice", "numbers", "running", "failures", "studies", "finished")
SVG_HEADERS = {
    # a figure opened by itself: its own style, and nothing that acts
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cache-control": "private, max-age=86400, immutable",  # its name is a hash of its bytes
}


class Changes:
    """Wakes those who wait for the next change; told of it from any thread."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.over = False

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Belong to the event loop that an application runs in."""
        self._loop = asyncio.get_running_loop()
        yield
        self._loop = None

    def announce(self) -> None:
        """Wake all who wait. Called from any thread; without a loop, or after its end, nobody waits."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(self._wake)

    def end(self) -> None:
        """Have all who wait leave, whose answers are complete then. Called from anywhere."""
        self.over = True
        self.announce()

    def _wake(self) -> None:
        for each in self._waiting:
            each.set()

    @contextmanager
    def waiting(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at each change while the `with` block lasts."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            yield event
        finally:
            self._waiting.discard(event)


def application(board: Board, changes: Changes, *, token: str, cookie: str, host: str = "127.0.0.1") -> ASGIApp:
    """Return the guarded application that shows a board."""

    async def front(request: Request) -> Response:
        return _page(board, FRONT)

    async def study(request: Request) -> Response:
        about = board.study(name := request.path_params["name"])
        if about is None:
            raise HTTPException(404, "The store remembers no such study.")
        return _page(board, ("notice", f"study/{name}", f"answer/{name}"), study=about)

    async def part(request: Request) -> Response:
        found = board.part(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "There is no such part.")
        return HTMLResponse(found.html.encode("utf-8", "replace"), headers={"x-version": found.version})

    async def figure(request: Request) -> Response:
        found = board.figure(request.path_params["name"])
        if found is None:
            raise HTTPException(404, "There is no such figure any more.")
        return Response(found.svg, media_type="image/svg+xml", headers=SVG_HEADERS)

    async def static(request: Request) -> Response:
        media, content = file(request.url.path.removeprefix("/"))
        return Response(content, media_type=media)

    async def events(request: Request) -> Response:
        return EventSourceResponse(_versions(board, changes), ping=PING_SECONDS, send_timeout=SEND_SECONDS)

    routes = [
        Route("/", front),
        Route("/study/{name:path}", study),
        Route("/part/{name:path}", part),
        Route("/figure/{name}.svg", figure),
        Route("/events", events),
        *(Route(f"/{name}", static) for name in FILES),
    ]
    return Guard(Starlette(routes=routes, lifespan=changes.lifespan), token, cookie, host)


def _page(board: Board, names: tuple[str, ...], study: object = None) -> Response:
    parts = {name: board.part(name) or Part("", "") for name in names}
    html = render("page", store=board.store.name, study=study, parts=parts)
    return HTMLResponse(html.encode("utf-8", "replace"))


async def _versions(board: Board, changes: Changes) -> AsyncIterator[dict[str, str]]:
    """Yield the version of each part, then, as they come, those that are new."""
    sent: dict[str, str] = {}
    with changes.waiting() as changed:
        while not changes.over:
            changed.clear()
            new = {name: version for name, version in board.versions().items() if sent.get(name) != version}
            if new:
                sent |= new
                yield {"event": "parts", "data": json.dumps(new)}
            await changed.wait()
