"""The explorer's server: access control, the assets of every page, and the preparation at its start.

Streamlit's server is a Starlette application, and ``streamlit.App`` is its documented way to put middleware in front of
all requests: pages, the WebSocket, uploads and downloads. ``streamlit run app.py`` finds the ``App`` by reading
``app.py``, so the middleware is active however the explorer is started. Streamlit's own ``server.allowedHosts`` checks
the WebSocket alone.

A request passes if its host is one of the server's and it has the token. The token is sent once, in the address; the
answer moves it into a session cookie and redirects to the same address without it. Browsers share cookies between ports
of a host, so a server at another port of this machine can see it.
"""

import asyncio
import gc
import logging
import platform
import sys
import threading
import webbrowser
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import quote, urlencode

import streamlit as st
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from cahp import models
from cahp.access import TOKEN, Access, current, enforced, is_every_address, reachable
from cahp.api import bundled
from cahp.ui.session.jobs import start_cleaning
from cahp.ui.session.opening import Source
from cahp.ui.session.results import Results
from cahp.ui.session.work import plan_run

#: No cache stores the answer, and pages that it links to do not learn its address.
_DISCREET = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_WRONG_HOST = "The explorer does not serve this address. Open the address that cahp explore printed."
_NO_TOKEN = "A token is missing. Open the address that cahp explore printed in its terminal: it has the token."  # noqa: S105 - a sentence
#: Seconds for which a thread may keep Python's lock while others wait. A model gives it up at each operation, so a page
#: that is drawn meanwhile would hold up each of them for the usual 5 ms.
_SWITCH_S = 0.0005
_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>CAHP explorer</title>{}</html>'


class Guard:
    """Middleware that refuses requests without access."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        enforced.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the application."""
        answer = None
        if scope["type"] != "lifespan":
            answer = self._refuse_or_redirect(HTTPConnection(scope))
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await WebSocketClose(code=1008)(scope, receive, send)

    def _refuse_or_redirect(self, request: HTTPConnection) -> Response | None:
        """Return the answer to a request that the application must not see (None: it passes)."""
        hosts = request.headers.getlist("host")
        origins = {origin.lower() for origin in request.headers.getlist("origin")}
        # The origin needs the same port, too: another port of this machine may be another person's page. Browsers send
        # an origin with every WebSocket and form; other clients need none.
        own = {f"{scheme}://{host.lower()}" for scheme in ("http", "https") for host in hosts}
        if len(hosts) != 1 or not self._access.accepts_host(hosts[0]) or origins - own:
            return _refusal(_WRONG_HOST)
        # Browsers share cookies between the ports of a host.
        cookie = f"cahp-explorer-{(request.scope.get('server') or ('', 0))[1]}"
        admitted = self._access.accepts_token(request.cookies.get(cookie, ""))
        token = request.query_params.get(TOKEN)
        if token is None or request.scope.get("method") != "GET":
            return None if admitted else _refusal(_NO_TOKEN)
        if not admitted and not self._access.accepts_token(token):
            return _refusal(_NO_TOKEN)
        # Exactly one slash at the start: a path with two leads to another host.
        address = "/" + quote(request.scope["path"].lstrip("/"))
        query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != TOKEN])
        if query:
            address += f"?{query}"
        answer = RedirectResponse(address, status_code=303, headers=_DISCREET)
        if self._access.token:
            # A "strict" cookie would not be sent when a person follows a link in a mail to this server.
            secure = request.url.scheme == "https"
            answer.set_cookie(cookie, self._access.token, httponly=True, samesite="lax", secure=secure)
        return answer


#: Streamlit adds an entry to the browser's history for every change of the address, such as each budget of a slider.
#: The Back button would then lead to an older address of the same page. With this script such changes replace the
#: entry, and only another page or an opened card of a head adds one, which Back then closes; the entry of a closed card
#: serves the next one. Back and Forward run their page with its address (``address.is_history_navigation``).
HISTORY_SCRIPT = """<script>
{
  const { pushState, replaceState } = history;
  history.pushState = function (state, unused, url) {
    const before = new URL(location.href), after = new URL(url ?? before, before);
    const here = after.pathname === before.pathname, card = here && history.state?.card;
    const opens = here && !card && after.searchParams.has("head") && !before.searchParams.has("head");
    return (here && !opens ? replaceState : pushState).call(history, { ...state, card: card || opens }, unused, url);
  };
}
</script>"""


class AssetInjector(BaseHTTPMiddleware):
    """Middleware that adds the explorer's style sheet and ``HISTORY_SCRIPT`` to the head of the page.

    They are active before Streamlit's own scripts run, so the page does not jump when they arrive.
    """

    def __init__(self, app: ASGIApp, style: str) -> None:
        super().__init__(app)
        self._head = f"{HISTORY_SCRIPT}<style>{style}</style></head>".encode()

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Pass the request on, and add the assets to an answer that is an HTML page."""
        scope = request.scope
        wants_page = "text/html" in request.headers.get("accept", "")
        if not wants_page or scope["path"].lstrip("/").partition("/")[0] in _NO_PAGES:
            return await call_next(request)
        # A compressed answer cannot be changed, and a copy in the browser's cache may lack the assets.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] not in _CONDITIONS]
        answer: Any = await call_next(request)
        if answer.status_code != 200 or not answer.headers.get("content-type", "").startswith("text/html"):
            return cast(Response, answer)
        page = b"".join([part async for part in answer.body_iterator]).replace(b"</head>", self._head, 1)
        answer.headers["content-length"] = str(len(page))
        return Response(page, headers=answer.headers)


#: Headers of requests for a page that is compressed, cached or in part.
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
#: First parts of paths without pages: uploaded and generated files there are served unchanged.
_NO_PAGES = ("media", "static", "component", "app", "_stcore")


def middleware() -> list[Middleware]:
    """Return the middleware for ``streamlit.App``."""
    style = (models.assets() / "explorer.css").read_text(encoding="utf-8")
    return [Middleware(Guard, access=current()), Middleware(AssetInjector, style=style)]


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Print the address, open a browser there, and prepare what all sessions share; requests wait until then.

    The port is bound already, so the address cannot be another server's.
    """
    access = current()
    host = str(st.get_option("server.address") or "0.0.0.0")  # noqa: S104
    port = int(st.get_option("server.port"))
    print(f"The explorer is at {access.address(reachable(host), port)}\nCtrl-C stops it.", flush=True)
    with ExitStack() as stack:
        if not st.get_option("server.headless"):
            if is_every_address(host):
                host = "127.0.0.1"
            _open_browser(access.address(host, port), hidden=bool(access.token), stack=stack)
        await asyncio.to_thread(prepare)
        yield


def _refusal(sentence: str) -> Response:
    return HTMLResponse(_PAGE.format(f"<p>{sentence}</p>"), status_code=403, headers=_DISCREET)


# The preparation --------------------------------------------------------------------------------------------------


def prepare() -> None:
    """Load what all sessions share, so that many first visitors do not each compute it, and start freeing memory."""
    sys.setswitchinterval(_SWITCH_S)
    try:
        # Plotly checks whether pandas is loaded, and fails while another session's table is importing it.
        import pandas  # noqa: F401
        import plotly.graph_objects as go

        # transformers replaces its own module: of two threads that import it first, one gets an unfinished one.
        import cahp.models.matching  # noqa: F401

        go.Figure(go.Scatter()).to_json()
        bundled.read_comparisons()
        for name, settings in bundled.RUNS.items():
            if bundled.read_run(name) is None:
                continue
            bench = Source.open(settings).bench
            Results.load(bench).table(settings)
            plan_run(bench)
    except Exception as error:
        # The page that needs the missing part shows the error; the other pages work.
        logging.getLogger(__name__).warning("the preparation failed: %s", type(error).__name__)
    # Garbage collection skips what is loaded by now, which stays for good. Doing this again later would keep the memory
    # of sessions for good, too.
    gc.collect()
    gc.freeze()
    start_cleaning()


# The browser ------------------------------------------------------------------------------------------------------


def _open_browser(url: str, *, hidden: bool, stack: ExitStack) -> None:
    """Open a browser at ``url``; if ``hidden``, the address is not visible in the list of processes.

    The browser then opens a private file that redirects to the address, as in Jupyter; it is deleted with ``stack``. A
    browser of Windows cannot read such a file in its Linux subsystem, which belongs to one person anyway.
    """
    if hidden and "microsoft" not in platform.release().lower():
        place = None
        if Path("/snap/bin").is_dir():
            # Browsers from snaps read the home folder only.
            place = Path.home()
        folder = TemporaryDirectory(prefix="cahp-explorer-", dir=place, ignore_cleanup_errors=True)
        page = Path(stack.enter_context(folder), "open.html")
        page.write_text(_PAGE.format(f'<meta http-equiv="refresh" content="0; url={url}">'), encoding="utf-8")
        url = page.as_uri()
    # In a thread, because a browser in the terminal returns only when it is closed.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
