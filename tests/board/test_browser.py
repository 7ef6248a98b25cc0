"""The board in a real browser, on a phone's and on a desk's width, while a recipe is run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lottery.store.store import Store
from tests.support.boards import finish, key_of
from tests.support.micro import micro_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (390, 1280)
ERRORS: list[str] = []  # that pages have met
PATIENCE = 400_000  # ms, on a machine that has other work
EVIL = "<script>document.title = 'evil'</script>"
LONG = (  # a training of which several evaluations are logged, and one that is done within seconds
    "name=watched",
    "train.engine=dense",
    "train.length=30000it",
    "train.evaluate_every=100it",
    "prune.levels=1",
    "compare.margin=0.05",
    "seeds=2",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _no_page_meets_an_error() -> Iterator[None]:
    ERRORS.clear()
    yield
    assert ERRORS == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    process = started("board", str(store.root), "--port", "0", "--no-open")
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    ended(process)


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    recipe = tmp_path / "watched.yaml"
    recipe.write_text(micro_text(*LONG))
    process = started("run", str(recipe), "--store", str(store.root), "--device", "cpu")
    yield process
    ended(process)


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "lottery", *words], stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate()


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: ERRORS.append(str(error)))
    page.on("console", lambda message: ERRORS.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("#connection.live")
    return page


def wait_until(page: Page, happened: Callable[[], bool]) -> None:
    """Wait for what the page comes to show; playwright's own way needs `eval`, which the page's policy refuses."""
    while not happened():
        page.wait_for_timeout(100)


def points(page: Page) -> int:
    return int(page.evaluate("document.querySelector('.card .curve')?.dataset.points ?? 0"))


def fits(page: Page) -> bool:
    """True if nothing makes the page wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


@pytest.mark.parametrize("width", WIDTHS)
def test_curves_grow_and_finished_jobs_appear_while_a_recipe_is_run(
    browser: Browser, address: str, store: Store, run: subprocess.Popen[str], width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = opened(context, address)
    page.evaluate("window.kept = true")  # gone if the page were loaded anew
    page.wait_for_selector(".card .curve polyline")
    seen = points(page)
    wait_until(page, lambda: points(page) > seen)
    assert fits(page)
    page.wait_for_selector("#studies .name >> text=watched")
    page.wait_for_selector("#finished tr[data-key]")
    assert page.locator("#finished tr[data-key] .state.done").first.is_visible()
    assert page.evaluate("window.kept")
    assert "token" not in page.url
    context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_tables_and_figures_of_a_study_come_as_its_jobs_are_finished(
    browser: Browser, address: str, store: Store, tmp_path: Path, width: int
) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(micro_text("name=small", "seeds=2", "prune.levels=1", "compare.margin=0.05"))
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="dark")
    page = opened(context, address)
    run = started("run", str(recipe), "--store", str(store.root), "--device", "cpu")
    page.click("#studies a >> text=small")
    page.wait_for_selector("#table-verdicts")
    assert run.wait() in (0, None)
    run.communicate()
    page.wait_for_selector("#progress .state.complete")
    page.wait_for_selector("#answer-state >> text=/^Made from 6 finished jobs/")
    page.locator("#accuracy img").first.scroll_into_view_if_needed()
    wait_until(page, lambda: page.evaluate("document.querySelector('#accuracy img').naturalWidth > 0"))
    assert page.locator("#table-means tbody tr").count() >= 1
    assert fits(page)
    context.close()


def test_text_of_a_recipe_is_no_script_and_an_opened_traceback_stays_open(
    browser: Browser, address: str, store: Store
) -> None:
    store.record_failure(key_of(3), label=f"{EVIL} ticket", message=f"{EVIL}\nTraceback\n  {EVIL}")
    context = browser.new_context(viewport={"width": 390, "height": 900})
    page = opened(context, address)
    page.click(".failure summary")
    assert EVIL in page.locator(".failure pre").inner_text()
    store.record_failure(key_of(4), label="another", message="ValueError: other")
    page.wait_for_selector("text=ValueError: other")
    assert page.locator(f"#failure-{key_of(3)} pre").is_visible()
    assert page.title() == "lottery board"
    assert fits(page)
    context.close()


def test_many_tabs_are_live_at_once(browser: Browser, address: str, store: Store) -> None:
    context = browser.new_context()
    tabs = [opened(context, address), *(opened(context, address.partition("?")[0]) for _ in range(9))]
    key = finish(store, 1, "adam: dense, seed 0")
    store.log("done", key=key, label="adam: dense, seed 0")
    for tab in tabs:
        tab.wait_for_selector(f"tr[data-key='{key}']")
    context.close()


def test_a_board_that_has_ended_is_told_of_and_a_new_one_brings_the_page_back(browser: Browser, store: Store) -> None:
    first = started("board", str(store.root), "--port", "0", "--no-open")
    assert first.stdout is not None
    address = first.stdout.readline().strip()
    port = address.partition("/?")[0].rpartition(":")[2]
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#connection.live")
    ended(first)
    page.wait_for_selector("#connection.lost")
    second = started("board", str(store.root), "--port", port, "--no-open")
    assert second.stdout is not None
    other = context.new_page()
    other.goto(second.stdout.readline().strip())
    page.wait_for_selector("#connection.live")
    context.close()
    ended(second)
