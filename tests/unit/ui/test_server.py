"""The assets in every page, and the preparation at the server's start."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cahp import data, models
from cahp.api import bundled
from cahp.ui import server
from cahp.ui.server import AssetInjector
from cahp.ui.session.opening import Source
from cahp.ui.session.work import run_seconds
from cahp.values import ModelError

STYLE = "p { color: red; }"
PAGE = b"<!DOCTYPE html><html><head><title>x</title></head><body></body></html>"


def answered(
    path: str, *, kind: str = "text/html; charset=utf-8", status: int = 200, asked: dict[str, str] | None = None
) -> tuple[dict[str, str], bytes, set[str]]:
    """Headers and body of the answer, and the headers that the application was asked with."""
    seen: set[str] = set()
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(name.decode() for name, _ in scope["headers"])
        length = str(len(PAGE)).encode()
        headers = [(b"content-type", kind.encode()), (b"content-length", length), (b"etag", b"x")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
        await send({"type": "http.response.body", "body": PAGE[20:]})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in (asked or {}).items()]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    # In a thread of its own: a browser's tests may have left a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, AssetInjector(app, STYLE)(scope, None, send)).result()  # type: ignore[arg-type]
    said = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return said, b"".join(message.get("body", b"") for message in sent[1:]), seen


@pytest.mark.parametrize("path", ["/", "/Budget", "/Similarity/"])
def test_a_page_has_both_in_its_head_and_says_its_length(path: str) -> None:
    asked = {"if-none-match": "x", "accept-encoding": "gzip", "accept": "text/html"}
    said, body, seen = answered(path, asked=asked)
    put = body[body.index(b"<script>") : body.index(b"</head>")]
    assert b"history.pushState" in put
    assert put.endswith(f"<style>{STYLE}</style>".encode())
    assert body.replace(put, b"") == PAGE
    assert said["content-length"] == str(len(body))
    # A copy without it is never said to be new enough.
    assert seen == {"accept"}


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/media/report.html", {}),
        ("/static/index.html", {}),
        ("/_stcore/health", {}),
        ("/Budget", {"kind": "application/json"}),
        ("/Budget", {"status": 403}),
    ],
)
def test_nothing_else_is_touched(path: str, options: dict[str, Any]) -> None:
    said, body, _ = answered(path, asked={"accept": "text/html"}, **options)
    assert body == PAGE
    assert said["etag"] == "x"


@pytest.fixture
def looked_after(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to this process's memory, which is left alone here."""
    done: list[str] = []
    monkeypatch.setattr(server.gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(server.gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(server, "start_cleaning", lambda: done.append("look after"))
    return done


def test_who_comes_then_waits_for_nothing_that_all_share(
    looked_after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.prepare()
    # What ends in the background of an earlier test may collect, too.
    assert list(dict.fromkeys(looked_after)) == ["collect", "freeze", "look after"]
    for module, name in ((models, "identify"), (data, "load")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made again"))
    assert run_seconds(Source.open(bundled.SETTINGS).bench) is not None


@pytest.mark.parametrize("broken", [ModelError("not installed; install it"), ValueError("a torn file")])
def test_what_is_missing_or_broken_does_not_keep_the_server_from_starting(
    broken: Exception, looked_after: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> Source:
        raise broken

    monkeypatch.setattr(server.Source, "open", refuse)
    server.prepare()
    assert list(dict.fromkeys(looked_after)) == ["collect", "freeze", "look after"]
