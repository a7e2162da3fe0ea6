"""A real browser on a real explorer, neither of which may leave this machine."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import chromium
from playwright.sync_api import BrowserContext, Page, expect
from serving import explorer

#: How wide people's windows are at least.
WINDOW = {"width": 1280, "height": 800}
#: Milliseconds; the machine may be busy.
PATIENCE = 60_000
_LOCAL = {"127.0.0.1", "localhost"}
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # No name and no address but this machine's can be reached.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
)


@pytest.fixture(scope="session")
def explorer_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One explorer for all tests of this session; every browser context is a person of its own in it."""
    with explorer(tmp_path_factory.mktemp("explorer")) as url:
        yield url


@pytest.fixture(scope="session")
def base_url() -> None:
    """None: pages are opened by their whole address. (The plug-in's own fixture is declared in a deprecated way.)"""
    return None


@pytest.fixture(scope="session")
def browser_type_launch_args(pytestconfig: pytest.Config) -> dict[str, Any]:
    """The system's Chromium, without its own business on the network."""
    pytestconfig.option.screenshot = "only-on-failure"
    expect.set_options(timeout=PATIENCE)
    return {"executable_path": str(chromium()), "args": list(_QUIET), "headless": not pytestconfig.option.headed}


@pytest.fixture
def new_context(new_context: Callable[..., BrowserContext]) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser contexts that fail the test if anything in them asks for more than this machine has."""

    crossed: list[str] = []

    def record(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https", "ws", "wss"} and parts.hostname not in _LOCAL:
            crossed.append(url)

    def made(**options: Any) -> BrowserContext:
        context = new_context(**{"viewport": WINDOW, **options})
        context.set_default_timeout(PATIENCE)
        # By event: a route would send every request through this process, and switch the browser's cache off.
        context.on("request", lambda request: record(request.url))
        context.on("page", lambda page: page.on("websocket", lambda socket: record(socket.url)))
        return context

    yield made
    assert crossed == [], "a page asked for something outside this machine"


def settle(page: Page) -> Page:
    """Wait until the page's script has run to its end; the page itself."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]", timeout=PATIENCE)
    return page


@pytest.fixture
def settled() -> Callable[[Page], Page]:
    """``settled(page)`` waits until the page's script has run to its end."""
    return settle


def visit(page: Page, address: str) -> Page:
    """Open a page of an explorer and wait until it stands still."""
    page.goto(address, wait_until="domcontentloaded")
    settle(page)
    # The browser then says what it kept for this tab, which runs the script once more; a click just before is lost.
    page.wait_for_timeout(300)
    return settle(page)


@pytest.fixture
def open_page(explorer_url: str, page: Page) -> Callable[[str], Page]:
    """``open_page("Export")`` opens a page of the explorer by deep link (``""`` is the home page)."""
    return lambda name: visit(page, f"{explorer_url}/{name}")


@pytest.fixture
def new_person(explorer_url: str, new_context: Callable[..., BrowserContext]) -> Callable[..., Page]:
    """``new_person("Budget", color_scheme="dark")`` is another browser session with a page of the explorer open."""
    return lambda name="", **options: visit(new_context(**options).new_page(), f"{explorer_url}/{name}")
