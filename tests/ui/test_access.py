"""Who may come in to the explorer, tried at the socket, in the pages' tests, and in a browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from apps import has_button, open_app, open_dialog, text_of
from playwright.sync_api import Page, expect
from serving import free_port

from cahp import access
from cahp.api import bundled
from cahp.run.settings import Settings
from cahp.ui.frame.address import Wish
from cahp.ui.frame.source_dialog import WISH
from cahp.ui.session.opening import Source

ROOT = Path(__file__).parents[2]
NO_TOKEN = "A token is missing"
WRONG_HOST = "The explorer does not serve this address"
WEBSOCKET = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
#: Of all that the server has: pages, what the pages' own code asks for, downloads, components.
PATHS = ("/", "/Budget", "/_stcore/health", "/_stcore/host-config", "/media/x.png", "/static/index.js", "/nothing/here")


class Server:
    """``cahp explore`` in a process of its own, as a neighbour at its port sees it."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        #: Where its log is, and what its browser was given.
        self.folder = folder
        parts = urlsplit(url)
        self.port = parts.port
        self.token = parts.query.removeprefix("token=")

    @property
    def cookie(self) -> str:
        return f"cahp-explorer-{self.port}={self.token}"

    def say(self, path: str, *, method: str = "GET", **headers: str | None) -> tuple[int, str]:
        """The status and the rest of the answer to one request; a header that is None is not sent."""
        sent = {"Host": f"127.0.0.1:{self.port}", "Connection": "close", **headers}
        lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
            said = b""
            while chunk := connection.recv(65536):
                said += chunk
                if said.startswith(b"HTTP/1.1 101"):
                    break  # a WebSocket, which stays open
        head, _, rest = said.decode(errors="replace").partition("\r\n")
        return int(head.split()[1]), rest

    def handshake(self, **headers: str) -> int:
        """What a WebSocket is answered: 101 if it is opened."""
        return self.say("/_stcore/stream", **WEBSOCKET, **headers)[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all who try its door. It opens a browser, which is a script that writes down what it is given."""
    folder = tmp_path_factory.mktemp("is_served")
    browser = folder / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{folder}/given"\ncp "${{1#file://}}" "{folder}/page"\n')
    browser.chmod(0o755)
    port = free_port()
    desk = {"BROWSER": f"{browser} %s", "DISPLAY": ":99", "CAHP_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "cahp", "explore", f"--port={port}"],
            cwd=ROOT,
            env={**os.environ, **desk},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Server(said_address(process), folder)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    assert not Path((folder / "given").read_text().strip().removeprefix("file://")).parent.exists()


def said_address(process: subprocess.Popen[str]) -> str:
    """The address that ``cahp explore`` prints once it is open."""
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("The explorer is at "):
            return line.removeprefix("The explorer is at ").strip()
    return pytest.fail(f"the explorer did not say where it is: {said}", pytrace=False)


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_the_server_shows_only_where_to_find_it(server: Server, path: str) -> None:
    wrong = f"cahp-explorer-{server.port}={server.token[:-1]}"
    for cookie in ("", wrong, f"cahp-explorer-1={server.token}", f"cahp-explorer-{server.port}="):
        status, said = server.say(path, Cookie=cookie)
        assert status == 403
        assert said.count(NO_TOKEN) == 1
        assert server.token not in said
    for asked in ("token=", f"token={server.token}x", f"Token={server.token}"):
        assert server.say(f"{path}?{asked}")[0] == 403


def test_files_are_neither_taken_nor_deleted_without_the_token(server: Server) -> None:
    for method in ("PUT", "POST", "DELETE", "OPTIONS", "HEAD"):
        assert server.say(f"/_stcore/upload_file/session/file?token={server.token}", method=method)[0] == 403
    # A request names one host.
    assert server.say("/", Host=None, Cookie=server.cookie)[0] in (400, 403)
    assert server.say("/", host="evil.example", Cookie=server.cookie)[0] in (400, 403)


def test_the_token_opens_once_leads_nowhere_else_and_then_goes_by_cookie(server: Server) -> None:
    status, said = server.say(f"/Budget?budget=20&token={server.token}&mask=")
    assert status == 303
    assert re.search(r"^location: /Budget\?budget=20&mask=\r$", said, re.MULTILINE)
    (cookie,) = re.findall(r"^set-cookie: (.*)\r$", said, re.MULTILINE)
    assert cookie.startswith(server.cookie)
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Max-Age" not in cookie
    assert "expires" not in cookie.lower()
    for path in ("/", "/Budget", "/_stcore/health"):
        assert server.say(path, Cookie=server.cookie)[0] == 200
    # An old link in a browser that is already in: the address loses the token there, too.
    assert server.say("/?token=old", Cookie=server.cookie)[0] == 303
    for path in ("//evil.example/x", "///evil.example", "/%5Cevil.example", "/%2F%2Fevil.example"):
        status, said = server.say(f"{path}?token={server.token}")
        assert status == 303
        assert re.search(r"^location: /[^/\\]", said, re.MULTILINE)


PLACES = ("evil.example", "127.0.0.1.evil.example", "192.168.1.5", "0.0.0.0")
FOREIGN_HOSTS = ("evil.example", *(f"{place}:{{port}}" for place in PLACES))
FOREIGN_ORIGINS = (
    *("http://evil.example", "http://127.0.0.1:1", "http://localhost:{port}", "file://127.0.0.1:{port}"),
    *("null", ""),
)


@pytest.mark.parametrize(
    "headers",
    [
        *({"Host": host} for host in FOREIGN_HOSTS),
        *({"Host": host, "Origin": f"http://{host}"} for host in FOREIGN_HOSTS),
        *({"Origin": origin} for origin in FOREIGN_ORIGINS),
    ],
    ids=str,
)
def test_foreign_hosts_and_origins_get_neither_page_nor_socket(server: Server, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=server.port) for name, value in headers.items()}
    for path in ("/", f"/?token={server.token}", "/_stcore/health"):
        status, said = server.say(path, Cookie=server.cookie, **sent)
        assert status == 403
        assert said.count(WRONG_HOST) == 1
        assert "set-cookie" not in said
    assert server.say("/_stcore/upload_file/a/b", method="PUT", Cookie=server.cookie, **sent)[0] == 403
    assert server.handshake(Cookie=server.cookie, **sent) == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_socket_opens_with_the_token_and_not_without(server: Server, host: str) -> None:
    own = f"{host}:{server.port}"
    assert server.handshake(Host=own, Cookie=server.cookie, Origin=f"http://{own}") == 101
    assert server.handshake(Host=own, Cookie=server.cookie) == 101
    for cookie in ("", f"cahp-explorer-{server.port}=wrong", f"cahp-explorer-{server.port}={server.token}x"):
        assert server.handshake(Host=own, Cookie=cookie, Origin=f"http://{own}") == 403


def test_the_browser_is_sent_there_by_a_private_file_and_no_process_or_log_shows_the_token(server: Server) -> None:
    folder = server.folder
    deadline = time.monotonic() + 30
    while not (folder / "page").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    given = (folder / "given").read_text().strip()
    assert given.startswith("file://")
    assert server.token not in given
    page = Path(given.removeprefix("file://"))
    assert page.parent.stat().st_mode & 0o077 == 0
    assert f'url={server.url}"' in (folder / "page").read_text()
    if Path("/proc/self/cmdline").exists():
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
        assert not any(server.token.encode() in command for command in commands)
    server.say(f"/?token={server.token}")
    assert server.token.encode() not in (server.folder / "log").read_bytes()


def test_what_streamlit_itself_starts_needs_no_token_but_its_own_host(explorer_url: str, tmp_path: Path) -> None:
    plain = Server(explorer_url, tmp_path)
    assert plain.token == ""
    assert plain.say("/")[0] == 200
    assert plain.handshake(Origin=explorer_url) == 101
    assert plain.handshake() == 101
    assert plain.say("/", Host=f"evil.example:{plain.port}")[0] == 403
    assert plain.handshake(Host=f"evil.example:{plain.port}", Origin=f"http://evil.example:{plain.port}") == 403
    assert plain.handshake(Origin="http://evil.example") == 403


@pytest.mark.browser
def test_the_printed_address_hides_its_token(server: Server, page: Page, settled: Callable[[Page], Page]) -> None:
    page.goto(server.url, wait_until="domcontentloaded")
    settled(page)
    expect(page.get_by_text("Which heads does this model need?")).to_be_visible()
    assert "token" not in page.url
    for name in ("Budget", "Learn"):
        page.locator(".st-key-pages").get_by_role("link", name=name, exact=True).click()
        page.wait_for_url(re.compile(f"/{name}"))
        settled(page)
    page.reload(wait_until="domcontentloaded")
    settled(page)
    expect(page.get_by_test_id("stMain").get_by_role("heading").first).to_be_visible()
    assert "token" not in page.url
    assert page.get_by_test_id("stException").count() == 0


def test_a_page_that_streamlit_is_started_on_alone_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from cahp.ui.frame import page as shell

    monkeypatch.setattr(shell, "enforced", threading.Event())
    app = open_app("export")
    assert ["cahp explore" in error.value for error in app.error] == [True]
    assert not app.button
    assert not app.title
    # With the guard it is the page.
    shell.enforced.set()
    assert open_app("export").title


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[access.Access], None]]:
    """``told(access)`` says to this process what ``cahp explore`` says to its server."""

    def tell(said: access.Access) -> None:
        for name, value in said.environment().items():
            monkeypatch.setenv(name, value)
        access.current.cache_clear()

    yield tell
    access.current.cache_clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of data that may be opened, and in it a link to some that may not."""
    (tmp_path / "open").mkdir()
    rows = [f'"Report {number} on {name}.",{name}' for name in ("sports", "tech") for number in range(12)]
    for path in (tmp_path / "private.csv", tmp_path / "open" / "texts.csv"):
        path.write_text("\n".join(["text,label", *rows, ""]))
    (tmp_path / "open" / "out.csv").symlink_to(tmp_path / "private.csv")
    return tmp_path / "open"


def test_in_public_mode_no_folder_and_no_hub_is_offered(told: Callable[[access.Access], None]) -> None:
    told(access.Access(public=True))
    app = open_dialog(data="/etc")
    assert "but this explorer opens only" in text_of(app, "info")
    assert not has_button(app, "open-wish")
    model, texts = app.selectbox(key="source-model"), app.selectbox(key="source-data-True")
    assert not any("older" in option or "ugging" in option for option in [*model.options, *texts.options])
    own = ["The model's own data", "My files", "My text, pasted here"]
    assert texts.options == [*own, "sst5", "mnli", "wikitext-2", "c4"]
    assert not app.text_input
    forged = {"source-model-name": "/etc", "source-data-name": "/etc/passwd"}
    forged |= {"source-data-True": "A folder, a preset or hub data…"}
    for picked in ("A folder, a GGUF file or a Hugging Face id…", "/etc"):
        app = open_dialog({**forged, "source-model": picked, WISH: Wish({"model": "/etc", "data": "/etc/passwd"})})
        assert app.session_state["source-model"] == bundled.SETTINGS.model
        assert app.session_state["source-data-True"] == "The model's own data"
        assert not app.text_input
        assert not has_button(app, "open-wish")
    # Nor is it opened where that would be done.
    for settings in ({"model": "/etc"}, {"data": "hub:org/name"}):
        with pytest.raises(access.AccessError, match="opens only built-in models"):
            Source.open(Settings(**{"model": bundled.SETTINGS.model, **settings}))


def test_a_public_explorer_opens_files_below_its_root_only(told: Callable[[access.Access], None], root: Path) -> None:
    told(access.Access(public=True, data_root=root))
    app = open_dialog()
    app.selectbox(key="source-data-True").set_value("A folder, a preset or hub data…").run()
    # Other names are tried where access is decided.
    for outside in ("out.csv", "../private.csv", "hub:org/name"):
        app.text_input(key="source-data-name").set_value(outside).run()
        assert not app.exception
        assert ["its data folder" in error.value for error in app.error] == [True]
    app.text_input(key="source-data-name").set_value("texts.csv").run()
    assert not app.exception
    assert not app.error
    assert has_button(app, "use-source")
    opened = Source.open(Settings(model=bundled.SETTINGS.model, data="texts.csv"))
    assert opened.settings.data == str(root.resolve() / "texts.csv")
    with pytest.raises(access.AccessError):
        Source.open(Settings(model=bundled.SETTINGS.model, data="out.csv"))
