"""The assets in every page, and the preparation at the server's start."""

from typing import Any

import pytest
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from cahp import data, models
from cahp.api import bundled
from cahp.ui import server
from cahp.ui.server import AssetInjector
from cahp.ui.session.opening import Source
from cahp.ui.session.work import run_seconds
from cahp.values import ModelError

STYLE = "p { color: red; }"
PAGE = b"<!DOCTYPE html><html><head><title>x</title></head><body></body></html>"


def answered(path: str, *, kind: str = "text/html", status: int = 200, **asked: str) -> tuple[Any, set[str]]:
    """The answer, and the headers that the application was asked with."""
    seen: set[str] = set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(name.decode() for name, _ in scope["headers"])
        said = {"content-length": str(len(PAGE)), "etag": "x"}
        answer = StreamingResponse(iter((PAGE[:20], PAGE[20:])), status, said, media_type=kind)
        await answer(scope, receive, send)

    headers = {name.replace("_", "-"): value for name, value in asked.items()}
    return TestClient(AssetInjector(app, STYLE)).get(path, headers={"accept": "text/html", **headers}), seen


@pytest.mark.parametrize("path", ["/", "/Budget", "/Similarity/"])
def test_a_page_has_both_in_its_head_and_says_its_length(path: str) -> None:
    answer, seen = answered(path, if_none_match="x", accept_encoding="gzip")
    body = answer.content
    put = body[body.index(b"<script>") : body.index(b"</head>")]
    assert b"history.pushState" in put
    assert put.endswith(f"<style>{STYLE}</style>".encode())
    assert body.replace(put, b"") == PAGE
    assert answer.headers["content-length"] == str(len(body))
    # A copy without it is never said to be new enough.
    assert "accept" in seen
    assert not seen & {"if-none-match", "accept-encoding"}


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
    answer, _ = answered(path, **options)
    assert answer.content == PAGE
    assert answer.headers["etag"] == "x"


@pytest.fixture
def looked_after(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to this process's memory, which is left alone here."""
    done: list[str] = []
    monkeypatch.setattr(server.gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(server.gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(server, "start_cleaning", lambda: done.append("look after"))
    return done


def test_who_comes_then_waits_for_nothing_shared(looked_after: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
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
