"""``cahp bench --sessions``: many people in the explorer, over the socket."""

from __future__ import annotations

import pytest
from terminal import call

pytest.importorskip("streamlit")

from cahp.cli import crowd

FOUND = {
    "sessions": 50,
    "seconds": {"home": {"p50": 0.5, "p95": 1.0, "all": 1.25}, "move": {"p50": 0.1, "p95": 0.2, "all": 0.3}},
    "seen": {"right": 98, "wrong": 1, "another": 0, "failed": 1},
    "said": ["move: the page shows an error: KeyError"],
    "cores": 2,
    "load": 0.25,
    "memory": {"peak_bytes": 500_000_000},
}


def test_everybody_is_shown_what_they_asked_for_and_nobody_anything_else() -> None:
    answer = call("bench", "--sessions", 6, "--json")
    assert (answer.code, answer.err) == (0, "")
    found = answer.document
    assert found["seen"] == {"right": 30, "wrong": 0, "another": 0, "failed": 0}, found["said"]
    assert list(found["seconds"]) == ["home", "budget", "move", "compare", "home again"]
    assert all(0 < times["p50"] <= times["p95"] <= times["all"] for times in found["seconds"].values())
    assert 50e6 < found["memory"]["peak_bytes"] < 1.2e9


def test_what_was_found_is_told_with_what_went_wrong() -> None:
    said = list(crowd.words(FOUND))
    assert said[0] == "50 people at once, 2 cores, load 0.2"
    assert "Home, by a link" in said[2]
    assert said[2].endswith("0.50 s  1.00 s  1.25 s")
    assert "98 times what was asked for, 1 times wrong figures, 0 times another's, 1 times nothing" in said[4]
    assert said[5].endswith("500 MB")
    assert said[6].strip() == FOUND["said"][0]  # type: ignore[index]
    assert not any("memory" in line for line in crowd.words({**FOUND, "memory": {"peak_bytes": None}, "load": None}))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--url", "http://127.0.0.1:1/"), "--sessions"),
        (("--sessions", 2, "--url", "http://127.0.0.1:1/?token=secret"), "nobody answers"),
    ],
)
def test_where_nobody_can_go_the_next_step_is_named(asked: tuple[object, ...], said: str) -> None:
    answer = call("bench", *asked)
    assert answer.code == 2
    assert said in answer.err
    assert "secret" not in answer.err
    assert answer.err.count("\n") == 1
