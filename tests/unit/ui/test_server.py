"""The assets in every page, and the preparation at the server's start."""

from typing import Any
from unittest.mock import Mock

import pytest
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from cahp import data, models
from cahp.api import bundled
from cahp.ui import server
from cahp.ui.server import AssetInjector
from cahp.ui.session.opening import Source
from cahp.ui.session.work import plan_run
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


@pytest.mark.parametrize("broken", [None, ModelError("not installed; install it"), ValueError("a torn file")])
def test_the_start_prepares_what_all_share(broken: Exception | None, monkeypatch: pytest.MonkeyPatch) -> None:
    # This process's memory is left alone.
    done: list[str] = []
    monkeypatch.setattr(server.gc, "collect", lambda: done.append("collect"))
    monkeypatch.setattr(server.gc, "freeze", lambda: done.append("freeze"))
    monkeypatch.setattr(server, "start_cleaning", lambda: done.append("look after"))
    if broken is not None:
        monkeypatch.setattr(server.Source, "open", Mock(side_effect=broken))
    server.prepare()
    # What ends in the background of an earlier test may collect, too.
    assert list(dict.fromkeys(done)) == ["collect", "freeze", "look after"]
    if broken is None:
        for module, name in ((models, "identify"), (data, "load")):
            monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("made again"))
        assert plan_run(Source.open(bundled.SETTINGS).bench)
