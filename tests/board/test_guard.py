"""Who gets to see a board: those who have its token, on a page of its own, under a name of this machine."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette", reason="the extra `board` is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from lottery.board.guard import Guard

TOKEN = "the-token"
SECRET = PlainTextResponse("all that the board knows")


def client(host: str = "127.0.0.1", name: str = "127.0.0.1:8340") -> TestClient:
    guarded = Guard(SECRET, TOKEN, "lottery_board_8340", host)
    return TestClient(guarded, base_url=f"http://{name}", follow_redirects=False)


@pytest.fixture
def visitor() -> TestClient:
    """One who has come with the address that the command has printed."""
    visitor = client()
    assert visitor.get(f"/?token={TOKEN}").status_code == 303
    return visitor


def test_without_the_token_nothing_is_shown() -> None:
    for address in ("/", "/events", "/?token=", "/?token=other", "/?token=%FF", "/part/head?token=the-toke"):
        answer = client().get(address)
        assert answer.status_code == 403
        assert "knows" not in answer.text
        assert "set-cookie" not in answer.headers


def test_the_token_becomes_a_cookie_and_leaves_the_address(visitor: TestClient) -> None:
    answer = client().get(f"/study/a@1?token={TOKEN}")
    assert answer.headers["location"] == "/study/a@1"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie and "the-token" in cookie
    assert visitor.get("/").text == "all that the board knows"


def test_another_cookie_does_not_open() -> None:
    for cookie in ("lottery_board_8340=other", "lottery_board_8341=the-token", "x", "lottery_board_8340"):
        assert client().get("/", headers={"cookie": cookie}).status_code == 403


def test_a_cookie_of_somebody_else_that_cannot_be_read_does_not_hide_ours() -> None:
    cookie = f'bad={{"a":[1]}}; "; lottery_board_8340={TOKEN}'
    assert client().get("/", headers={"cookie": cookie}).status_code == 200


@pytest.mark.parametrize(
    "name", ["evil.example:8340", "evil.example", "127.0.0.1.evil.example", "[::1", "10.0.0.7", ""]
)
def test_a_name_that_is_made_to_mean_this_machine_is_refused(visitor: TestClient, name: str) -> None:
    assert visitor.get("/", headers={"host": name}).status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1:8340", "localhost:9000", "[::1]:8340", "LOCALHOST"])
def test_the_names_of_this_machine_are_known_with_the_port_of_a_tunnel_too(visitor: TestClient, name: str) -> None:
    cookie = f"lottery_board_8340={TOKEN}"
    assert visitor.get("/", headers={"host": name, "cookie": cookie}).status_code == 200


def test_an_address_in_the_network_is_known_only_where_the_board_listens_there() -> None:
    cookie = {"cookie": f"lottery_board_8340={TOKEN}"}
    assert client(name="10.0.0.7:8340").get("/", headers=cookie).status_code == 403
    assert client("10.0.0.7", "10.0.0.7:8340").get("/", headers=cookie).status_code == 200
    assert client("0.0.0.0", "10.0.0.7:8340").get("/", headers=cookie).status_code == 200
    assert client("0.0.0.0", "evil.example:8340").get("/", headers=cookie).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8340"])
def test_a_page_of_another_site_gets_nothing(visitor: TestClient, origin: str) -> None:
    assert visitor.get("/", headers={"origin": origin}).status_code == 403


def test_a_page_of_the_board_gets_what_it_asks_for(visitor: TestClient) -> None:
    assert visitor.get("/", headers={"origin": "http://127.0.0.1:8340"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_sent(visitor: TestClient, method: str) -> None:
    assert visitor.request(method, "/").status_code == 405


def test_the_redirection_stays_here() -> None:
    for path in ("//evil.example/", "/%5Cevil.example", "/\\evil.example"):
        answer = client().get(f"http://127.0.0.1:8340{path}?token={TOKEN}")
        assert not answer.headers["location"].startswith(("//", "/\\", "http"))


def test_every_answer_has_the_policy_that_runs_nothing_from_elsewhere(visitor: TestClient) -> None:
    for answer in (visitor.get("/"), client().get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
