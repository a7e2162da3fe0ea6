"""Getting in: with the token's cookie, or with a sentence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("streamlit")

from cahp.ui.crowd.tour import _Party, _share, admitted
from cahp.ui.crowd.visitor import VisitError, Visitor


class Door(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/?token=right":
            self.send_response(303)
            self.send_header("Location", "/nowhere")
            self.send_header("Set-Cookie", "cahp-explorer-1=right; HttpOnly; SameSite=lax")
        else:
            self.send_response(200 if self.path == "/" else 403)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_token_is_shown_once_and_its_cookie_kept(door: str) -> None:
    assert admitted(f"{door}?token=right") == {"cahp-explorer-1": "right"}
    assert admitted(door) == {}


def test_a_wrong_token_is_refused_without_being_told_again(door: str) -> None:
    with pytest.raises(VisitError, match="403") as refused:
        admitted(f"{door}?token=wrong")
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/", "file:///etc/passwd", "127.0.0.1:8501", ""])
def test_what_is_no_address_is_not_opened(address: str) -> None:
    with pytest.raises(VisitError, match="no address of an explorer"):
        admitted(address)


@pytest.mark.parametrize(("share", "time"), [(0.5, 10), (0.95, 19), (1.0, 20)])
def test_a_share_of_people_waited_at_most_so_long(share: float, time: float) -> None:
    assert _share(range(1, 21), share) == time
    assert _share([7], share) == 7


def test_one_who_fails_is_left_behind_and_the_others_go_on() -> None:
    async def tour() -> _Party:
        party = _Party([Visitor("http://127.0.0.1:1/", cookies={}) for _ in range(4)])
        acted: list[int] = []

        async def act(place: int, _: Visitor) -> None:
            acted.append(place)
            if place == 2:
                raise VisitError("nobody answers")

        await party.do("home", act)
        await party.do("budget", act)
        party.look(lambda place, _: "right" if place else "wrong")
        assert acted == [0, 1, 2, 3, 0, 1, 3]
        return party

    # In a thread of its own: a browser's tests may have left a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        party = thread.submit(asyncio.run, tour()).result()
    assert party.failed == ["home: nobody answers"]
    assert party.seen == {"right": 2, "wrong": 1}
    assert list(party.seconds) == ["home", "budget"]
