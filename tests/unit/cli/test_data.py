"""``cahp data`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

from terminal import call, refused


def test_data_lists_what_has_a_name_and_says_what_is_in_one(data: Path) -> None:
    assert [one["name"] for one in call("data", "--json").document] == ["bbc-news", "sst5", "mnli"]
    # Nobody needs to install what the hub has.
    assert "(not installed)" not in call("data").out.splitlines()[1]
    found = call("data", data, "--json").document
    assert found["splits"]["train"] == {"examples": 120, "class_counts": {"bad": 60, "good": 60}}
    assert "bad 60, good 60" in call("data", data).out
    assert "no data named" in refused(call("data", "no-such-data"))
