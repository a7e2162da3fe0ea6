"""The server's door: it answers its own hosts only, and asks for the token before anything else.

Streamlit's server is a Starlette application, and ``streamlit.App`` is its documented way to put middleware in front of
all of it: pages, the WebSocket, uploads, downloads. ``streamlit run app.py`` finds the ``App`` by reading ``app.py``,
so that every way to start the explorer leads through this door. Streamlit's own ``server.allowedHosts`` looks at the
WebSocket alone.

The token comes in once, in the address. The answer moves it into a cookie of the browser session and sends the browser
to the same address without it. Browsers do not keep the cookies of two ports apart: who opens a page of somebody else's
server on this machine, under the same host, shows it to that server.
"""

from __future__ import annotations

import asyncio
import platform
import threading
import webbrowser
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote, urlencode, urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from cahp import models
from cahp.access import TOKEN, Access, current, enforced, is_every_address, reachable
from cahp.ui.frame.history import SCRIPT
from cahp.ui.frame.preparation import prepare

#: Neither kept by anybody on the way, nor told to where a link leads.
_DISCREET = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_WRONG_HOST = "The explorer does not answer to this address; open the one that cahp explore printed."
_NO_TOKEN = "To open the explorer, use the address that cahp explore printed in its terminal: it carries a token."  # noqa: S105 - a sentence
_PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><title>CAHP explorer</title>{}</html>'
#: Seconds after which a browser has long read the file that sends it to the explorer.
_READ = 60.0


class Guard:
    """Middleware that lets in whom ``access`` admits."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        enforced.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer for the application, or hand the request on to it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = self._answer(HTTPConnection(scope))
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await WebSocketClose(code=1008)(scope, receive, send)

    def _answer(self, request: HTTPConnection) -> Response | None:
        """What whoever asks is told instead of what they asked for."""
        if not self._meant_for_us(request):
            return _refusal(_WRONG_HOST)
        cookie = _cookie(request)
        known = self._access.accepts_token(request.cookies.get(cookie, ""))
        shown = request.query_params.get(TOKEN)
        if shown is None or request.scope.get("method") != "GET":
            return None if known else _refusal(_NO_TOKEN)
        if not known and not self._access.accepts_token(shown):
            return _refusal(_NO_TOKEN)
        answer = RedirectResponse(_without_token(request), status_code=303, headers=_DISCREET)
        if self._access.token:
            # Not "strict": that is not sent along when a link in a mail is followed to here.
            secure = request.url.scheme == "https"
            answer.set_cookie(cookie, self._access.token, httponly=True, samesite="lax", secure=secure)
        return answer

    def _meant_for_us(self, request: HTTPConnection) -> bool:
        hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
        if len(hosts) != 1 or not self._access.accepts_host(hosts[0]):
            return False
        # Of the very same host and port: another port of this machine is another person's page. Browsers always say
        # where the page comes from that opens a WebSocket or sends a form; what is no browser need not.
        return all(_site(origin) == hosts[0].lower() for origin in origins)


class Dressed:
    """Middleware that puts the explorer's style and the script of ``frame.history`` into the page.

    Both are there before Streamlit's first script runs: nothing jumps, and no address makes an entry by mistake.
    """

    def __init__(self, app: ASGIApp, style: str) -> None:
        self._app = app
        self._head = f"{SCRIPT}<style>{style}</style></head>".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and the answer back; one that is a page of HTML with both in its head."""
        if not _may_be_page(scope):
            await self._app(scope, receive, send)
            return
        # What is packed cannot be written into, and a copy that a browser has may be without: the page is small.
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in _CONDITIONS]}
        start: Message = {}
        body = bytearray()

        async def dress(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_page(message):
                start = message
            elif not start:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    dressed = bytes(body).replace(b"</head>", self._head, 1)
                    headers = MutableHeaders(raw=list(start["headers"]))
                    headers["content-length"] = str(len(dressed))
                    await send({**start, "headers": headers.raw})
                    await send({"type": "http.response.body", "body": dressed})

        await self._app(scope, receive, dress)


#: What asks for the page in another form than whole and anew.
_CONDITIONS = (b"accept-encoding", b"if-none-match", b"if-modified-since", b"range")
#: First parts of paths under which no page is: files that people made are handed out there as they are.
_NO_PAGES = ("media", "static", "component", "app", "_stcore")


def _may_be_page(scope: Scope) -> bool:
    """Whether a request may be for a page."""
    return (
        scope["type"] == "http"
        and "text/html" in Headers(scope=scope).get("accept", "")
        and scope["path"].lstrip("/").partition("/")[0] not in _NO_PAGES
    )


def _is_page(start: Message) -> bool:
    """Whether an answer that starts so is a page of HTML, whole."""
    headers = Headers(raw=start["headers"])
    html = headers.get("content-type", "").startswith("text/html")
    return html and start["status"] == 200


def middleware() -> list[Middleware]:
    """What ``streamlit.App`` puts in front of everything."""
    style = (models.assets() / "explorer.css").read_text(encoding="utf-8")
    return [Middleware(Guard, access=current()), Middleware(Dressed, style=style)]


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """From the server's start, which says where it is and opens the browser there, to its end.

    The port is bound by then, so what is said is no other server's address; who comes waits until what all sessions
    share is made.
    """
    with _announced():
        await asyncio.to_thread(prepare)
        yield


@contextmanager
def _announced() -> Iterator[None]:
    access, host, port = current(), str(st.get_option("server.address") or "0.0.0.0"), int(st.get_option("server.port"))  # noqa: S104
    print(f"The explorer is at {access.address(reachable(host), port)}\nCtrl-C stops it.", flush=True)
    with ExitStack() as stack:
        if not st.get_option("server.headless"):
            here = access.address("127.0.0.1" if is_every_address(host) else host, port)
            stack.enter_context(_browser_at(here, hidden=bool(access.token)))
        yield


def _refusal(sentence: str) -> Response:
    return HTMLResponse(_PAGE.format(f"<p>{sentence}</p>"), status_code=403, headers=_DISCREET)


def _cookie(request: HTTPConnection) -> str:
    """The cookie's name: browsers share cookies between ports, and two explorers must not take each other's away."""
    _, port = request.scope.get("server") or ("", 0)
    return f"cahp-explorer-{port}"


def _without_token(request: HTTPConnection) -> str:
    query = urlencode([(name, value) for name, value in request.query_params.multi_items() if name != TOKEN])
    # One slash at the start: two would lead to another host.
    return "/" + quote(request.scope["path"].lstrip("/")) + (f"?{query}" if query else "")


def _site(origin: str) -> str | None:
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return None
    return parts.netloc if parts.scheme in ("http", "https") else None


# The browser ------------------------------------------------------------------------------------------------------


@contextmanager
def _browser_at(url: str, *, hidden: bool) -> Iterator[None]:
    """Open a browser at ``url``; if ``hidden``, without showing it to all who may list this machine's processes.

    As Jupyter does, the browser is then given a private file that sends it there, which lives for a minute. A browser
    of Windows could not read that file out of its Linux subsystem, which is one person's anyway.
    """
    with ExitStack() as stack:
        target = url
        if hidden and "microsoft" not in platform.release().lower():
            made = TemporaryDirectory(prefix="cahp-explorer-", dir=_readable(), ignore_cleanup_errors=True)
            page = Path(stack.enter_context(made)) / "open.html"
            page.write_text(_PAGE.format(f'<meta http-equiv="refresh" content="0; url={url}">'), encoding="utf-8")
            target = page.as_uri()
            forget = threading.Timer(_READ, made.cleanup)
            forget.daemon = True
            forget.start()
            stack.callback(forget.cancel)
        # In a thread of its own: a browser in the terminal returns only when it is closed.
        threading.Thread(target=webbrowser.open, args=(target,), daemon=True).start()
        yield


def _readable() -> Path | None:
    """A folder whose files browsers can read: those that come as a snap see no others than those of their person."""
    return Path.home() if Path("/snap/bin").is_dir() else None
