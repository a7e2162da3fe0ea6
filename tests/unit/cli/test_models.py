"""``cahp models`` as its users meet it."""

from __future__ import annotations

from pathlib import Path

from terminal import call, refused

LAYERS, HEADS = 3, 4


def test_models_lists_what_is_built_in_and_looks_at_one(model: Path) -> None:
    assert [one["name"] for one in call("models", "--json").document] == ["minilm-bbc", "minilm-sst5", "minilm"]
    assert "minilm-bbc" in call("models").out
    found = call("models", model, "--json").document
    assert (found["layers"], found["heads"], found["labels"]) == (LAYERS, HEADS, ["bad", "good"])
    assert "3 layers x 4 = 12" in call("models", model).out
    assert "built-in" in refused(call("models", "no-such-model"))
