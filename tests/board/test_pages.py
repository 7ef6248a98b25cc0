"""The pages of a board: what they show, that text in them stays text, and that nothing waits for the disk."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra `board` is not installed")
pytest.importorskip("sse_starlette", reason="the extra `board` is not installed")
pytest.importorskip("httpx", reason="starlette's test client needs httpx")

from starlette.testclient import TestClient

from lottery.board import app as pages
from lottery.board import board as state
from lottery.board import overview
from lottery.board.app import Changes, application
from lottery.board.board import Board
from lottery.board.maker import MakerLost
from lottery.board.pages import FILES
from lottery.board.results import Figure, Piece
from lottery.errors import MachineError
from lottery.results.studies import RememberedStudy
from lottery.store.read_only import read_only_store
from lottery.store.store import Store
from tests.support.boards import contents, finish, finish_many, key_of, progress, remembered_study
from tests.support.clocks import Clock

EVIL = "<script>alert(1)</script>"
COOKIE = "lottery_board_1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[RememberedStudy]:
    """The studies that the store remembers; a test puts some in."""
    found: list[RememberedStudy] = []
    monkeypatch.setattr(state, "remembered", lambda store: list(found))
    return found


@pytest.fixture
def board(store: Store, studies: list[RememberedStudy]) -> Board:
    return Board(read_only_store(store.root))


@pytest.fixture
def visitor(board: Board) -> Iterator[TestClient]:
    app = application(board, Changes(), token="t", cookie=COOKIE)
    with TestClient(app, base_url="http://127.0.0.1", cookies={COOKIE: "t"}) as visitor:
        yield visitor


class Told:
    """In place of the process that makes answers: it says what it is told to."""

    def __init__(self, *pieces: Piece, problem: str = ""):
        self.problem, self.pieces, self.left = problem, pieces, list(pieces)

    def ask(self, method: str, *arguments: object) -> object:
        if method == "spent":
            return 0.0
        if method == "begin":
            self.left = list(self.pieces)
            return self.problem
        return self.left.pop(0) if self.left else None

    def close(self) -> None:
        pass


def test_an_empty_store_says_so(board: Board, visitor: TestClient) -> None:
    board.look()
    page = visitor.get("/").text
    assert "Nothing runs." in page
    assert "No study was run in this store yet." in page


def test_the_first_page_is_there_before_the_store_was_read(visitor: TestClient) -> None:
    assert visitor.get("/").status_code == 200


def test_what_is_finished_runs_and_failed_is_on_the_front_page(
    store: Store, board: Board, visitor: TestClient, studies: list[RememberedStudy]
) -> None:
    done = finish(store, 1, "adam: dense, seed 0")
    store.record_failure(key_of(3), label="adam: ticket", message="ValueError: no\nTraceback: line 7")
    studies.append(remembered_study("mnist", [done, key_of(2), key_of(3), key_of(4)]))
    with store.lease(key_of(2)):
        board.look()
        progress(store, key_of(2), 50, "adam: ticket level 1", validation_accuracy=0.75)
        before = contents(store.root)
        board.look()
        assert contents(store.root) == before
        page = visitor.get("/").text
    for words in ("adam: dense, seed 0", "step 50 of 100", "75.00 %", "ValueError: no", "line 7", "1 of 4 jobs"):
        assert words in page
    assert "1 running, 1 failed" in page
    link = f'<a href="/study/{studies[0].full_name.replace("@", "%40")}">mnist</a>'
    assert page.count(link) == 3  # at the job that runs, the one that failed and the one that was finished


def test_a_study_has_a_page_with_the_state_of_each_job(
    store: Store, board: Board, visitor: TestClient, studies: list[RememberedStudy]
) -> None:
    studies.append(remembered_study("mnist", [finish(store, 1, "dense"), key_of(2)]))
    board.look()
    page = visitor.get(f"/study/{studies[0].full_name}").text
    assert '<li class="done" title="dense: done"></li><li class="waiting" title="waiting"></li>' in page
    assert "1 of 2 jobs: 1 done, 1 waiting" in page
    assert visitor.get("/study/other@123").status_code == 404


def test_all_text_of_recipes_and_tracebacks_is_shown_as_text(
    store: Store, board: Board, visitor: TestClient, studies: list[RememberedStudy]
) -> None:
    done = finish(store, 1, f"{EVIL} dense", kind=EVIL)
    store.record_failure(key_of(3), label=f"{EVIL} ticket", message=f"{EVIL}\n</pre>{EVIL}\x00\ud800")
    study = remembered_study(EVIL, [done, key_of(2), key_of(3)], recipe=f"name: {EVIL}", source=EVIL, overrides=(EVIL,))
    study = replace(study, document={"question": EVIL})
    studies.append(study)
    with store.lease(key_of(2)):
        progress(store, key_of(2), 1, f"{EVIL} running", train_loss=1.0)
        board.look()
    board._maker = Told(Piece(EVIL, EVIL, "<p>made</p>"), problem=EVIL)  # type: ignore[assignment]
    board.part(f"answer/{study.full_name}")
    board.make(study.full_name)
    front = visitor.get("/").text
    own = visitor.get(f"/study/{EVIL.replace('/', '%2F')}%40{study.version}").text
    for page in (front, own):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "<script>" not in page
        assert "alert" not in page.replace("&lt;script&gt;alert(1)&lt;/script&gt;", "").replace("%3Cscript%3Ealert", "")
    assert "<p>made</p>" in own


def test_a_store_that_cannot_be_read_is_told_and_what_was_read_stays(
    store: Store, board: Board, visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(store, 1, "adam: dense, seed 0")
    board.look()

    def away(self: object) -> dict[str, str]:
        raise MachineError("runs: the network disk is away")

    with monkeypatch.context() as patch:
        patch.setattr("lottery.store.leases.Leases.held", away)
        board.look()
        page = visitor.get("/").text
    assert "the network disk is away" in page
    assert "adam: dense, seed 0" in page
    board.look()
    assert "is away" not in visitor.get("/").text


def test_no_page_waits_for_a_disk_that_does_not_answer(
    store: Store, board: Board, visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = threading.Event(), threading.Event()

    def stuck(self: object) -> dict[str, str]:
        asked.set()
        answers.wait()
        return {}

    monkeypatch.setattr("lottery.store.leases.Leases.held", stuck)
    board.start()
    try:
        assert asked.wait(timeout=60)
        assert visitor.get("/").status_code == 200
        assert "is being read" in visitor.get("/part/notice").text
    finally:
        board.close()
        answers.set()


def test_sections_come_one_by_one_and_those_of_the_last_time_stay_until_theirs_comes(
    store: Store, board: Board, visitor: TestClient, studies: list[RememberedStudy], clock: Clock
) -> None:
    study = remembered_study("mnist", [finish(store, 1), key_of(2)])
    studies.append(study)
    name = f"answer/{study.full_name}"
    shown: list[str] = []
    board.announce = lambda: shown.append(part.html if (part := board._parts.get(name)) else "")
    figure = Figure("ab" * 12, b"<svg/>", "a figure", 100, 50)
    board._maker = Told(Piece("a", "A", "a1", (figure,)), Piece("b", "B", "b1"))  # type: ignore[assignment]
    board.look()
    visitor.get(f"/study/{study.full_name}")
    assert board._due() == study.full_name
    board.make(study.full_name)
    assert [("a1" in html, "b1" in html) for html in shown if "being made" in html] == [
        (False, False),
        (True, False),
        (True, True),
    ]
    assert "Made from 1 finished job" in shown[-1]
    assert visitor.get(f"/figure/{figure.name}.svg").content == b"<svg/>"
    assert board._due() is None  # nothing new is finished

    finish(store, 2)
    store.log("done", key=key_of(2), label="job 2")
    board.look()
    assert board._due() is None  # not at once
    clock.advance(60)
    assert board._due() == study.full_name
    board._maker = Told(Piece("a", "A", "a2"), Piece("b", "B", "b2"))  # type: ignore[assignment]
    del shown[:]
    board.make(study.full_name)
    assert [("a2" in html, "b1" in html, "b2" in html) for html in shown] == [
        (False, True, False),
        (True, True, False),
        (True, False, True),
        (True, False, True),
    ]


def test_more_jobs_than_fit_are_listed_and_counted(
    store: Store, board: Board, visitor: TestClient, studies: list[RememberedStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MOST_CARDS", "MOST_FAILURES", "MOST_CELLS"):
        monkeypatch.setattr(overview, name, 1)
    studies.append(remembered_study("mnist", [key_of(number) for number in range(4)]))
    for number in (2, 3):
        store.record_failure(key_of(number), label=f"failed {number}", message="no")
    with store.lease(key_of(0)), store.lease(key_of(1)):
        board.look()
        for path in ("/", f"/study/{studies[0].full_name}"):
            page = visitor.get(path).text
            assert page.count('class="card"') == page.count('class="failure"') == 1
            assert "1 job more is running" in page
            assert "1 failure more" in page
            assert 'class="cells"' not in page


def test_an_answer_that_nobody_looks_at_is_not_made(
    store: Store, board: Board, studies: list[RememberedStudy], clock: Clock
) -> None:
    study = remembered_study("mnist", [finish(store, 1)])
    studies.append(study)
    board.look()
    assert board._due() is None
    board.part(f"answer/{study.full_name}")
    assert board._due() == study.full_name
    clock.advance(state.WATCHED_SECONDS + 1)
    assert board._due() is None


def test_a_process_that_dies_is_told_of(board: Board, store: Store, studies: list[RememberedStudy]) -> None:
    class Dead(Told):
        def ask(self, method: str, *arguments: object) -> object:
            raise MakerLost("the process died")

    study = remembered_study("mnist", [finish(store, 1)])
    studies.append(study)
    board.look()
    board._maker = Dead()  # type: ignore[assignment]
    board.part(f"answer/{study.full_name}")
    board.make(study.full_name)
    part = board.part(f"answer/{study.full_name}")
    assert part is not None and "the process died" in part.html


def test_the_stream_tells_all_versions_and_then_those_that_are_new(
    store: Store, studies: list[RememberedStudy]
) -> None:
    changes = Changes()
    board = Board(read_only_store(store.root), announce=changes.announce)
    board.look()

    async def follow() -> tuple[dict[str, str], dict[str, str]]:
        async with changes.lifespan(None):  # type: ignore[arg-type]
            stream = pages._versions(board, changes)
            first = json.loads((await anext(stream))["data"])
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            key = finish(store, 1)
            store.log("done", key=key, label="job 1")
            await asyncio.to_thread(board.look)
            second = json.loads((await waiting)["data"])
            changes.end()
            assert [each async for each in stream] == []
            return first, second

    first, second = asyncio.run(follow())
    assert first.keys() == set(pages.FRONT)
    assert second.keys() == {"numbers", "finished"}
    assert all(first[name] != version for name, version in second.items())


def test_static_files_are_there(visitor: TestClient) -> None:
    for name, (media, _) in FILES.items():
        answer = visitor.get(f"/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(media)


@pytest.mark.slow
def test_the_first_page_of_ten_thousand_jobs_is_there_within_a_second(
    store: Store, board: Board, visitor: TestClient, studies: list[RememberedStudy]
) -> None:
    keys = finish_many(store, 10_000)
    studies += [remembered_study(f"study-{number}", keys[number::20]) for number in range(20)]
    board.start()
    took: list[float] = []
    try:
        while not took or board._snapshot.unread or not board._snapshot.keys:
            began = time.monotonic()
            assert visitor.get("/").status_code == 200
            took.append(time.monotonic() - began)
            time.sleep(0.05)
        page = visitor.get("/").text
    finally:
        board.close()
    print(f"page: first {took[0]:.3f} s, longest of {len(took)} while jobs are read {max(took):.3f} s")
    assert max(took) < 1
    assert "10,000" in page
