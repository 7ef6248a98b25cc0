"""The guard before every page: who does not know the token, or comes from another site, gets nothing."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_BYTES = 24
HEADERS = {
    # nothing from elsewhere, no script or style but our own files: text of a recipe that got through would do nothing
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_EVERYWHERE = {"0.0.0.0", "::"}


class Guard:
    """Lets through what asks this board, by a name of this machine, from a page of the board, with the token.

    The name is checked against DNS rebinding: a page of another site whose name is made to mean this machine sends that
    name along. The token comes in the address of the first visit, and afterwards in a cookie.

    Args:
        app: What answers.
        token: The token.
        cookie: Name of the cookie; boards on other ports of this machine have others, as cookies know no ports.
        host: The address that the board listens at.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str, host: str = "127.0.0.1"):
        self._app, self._token, self._cookie, self._host = app, token, cookie, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer: ASGIApp = self._refusal(scope) or self._app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("The board only shows: nothing can be sent to it.\n", 405)
        host = headers.getlist("host")
        if len(host) != 1 or not self._is_ours(host[0]):
            return PlainTextResponse("This board is not known under that name.\n", 403)
        if any(urlsplit(origin).netloc != host[0] for origin in headers.getlist("origin")):
            return PlainTextResponse("This board answers pages of its own only.\n", 403)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if any(self._is_token(each) for each in given):
            answer = RedirectResponse(scope["path"] if _is_plain(scope["path"]) else "/", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="lax", path="/")
            return answer
        if not any(self._is_token(each) for each in _cookies(headers.getlist("cookie"), self._cookie)):
            return PlainTextResponse("Open the address that `lottery board` has printed: it has a token.\n", 403)
        return None

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), self._token.encode())

    def _is_ours(self, host: str) -> bool:
        """Return True for a name of this board, with any port: a tunnel may have another one at its end."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in _LOCAL or name == self._host.lower():
            return True
        if self._host not in _EVERYWHERE:
            return False
        return _is_address(name) or name in {socket.gethostname().lower(), socket.getfqdn().lower()}


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def _is_plain(path: str) -> bool:
    """Return True for a path of this board that a redirection may name."""
    return path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _cookies(headers: Iterable[str], name: str) -> list[str]:
    found = []
    for header in headers:
        for part in header.split(";"):  # one that cannot be read must not hide ours
            try:
                read: Mapping[str, object] = SimpleCookie(part.strip())
            except CookieError:
                continue
            if name in read:
                found.append(read[name].value)  # type: ignore[attr-defined]
    return found
