"""What ships with the package is drawn at once."""

from pathlib import Path

import pytest
from apps import open_app

PAGES = ("home", "similarity", "budget", "compare", "stability", "export", "learn")


@pytest.mark.parametrize("model", ["minilm-bbc", "smollm2"])
def test_an_empty_cache_offers_what_does_not_ship(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAHP_CACHE", str(tmp_path))
    offers: dict[str, list[str]] = {}
    for name in PAGES:
        app = open_app(name, model=model, data="bbc-news")
        assert not app.exception
        assert not app.error
        labels = [button.label.partition(" (")[0] for button in app.button]
        offers[name] = [label for label in labels if label.startswith("Measure") and not label.endswith("again")]
    # Other texts or seeds are never shipped, nor are all budgets of a language model after its refit.
    assert offers.pop("stability") == ["Measure"]
    assert offers.pop("budget") in ([], ["Measure all budgets"])
    assert not any(offers.values())
    for name, finding in (("abilities", "measurable abilities"), ("neutral", "on neutral text")):
        app = open_app("budget", model=model, data="bbc-news", panel=name)
        drawn = [element.value for element in (*app.warning, *app.markdown)]
        assert any(finding in str(text) for text in drawn), name
