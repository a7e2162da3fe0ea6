from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from apps import PATIENCE, explorer_of, has_button, open_app, rerun, text_of
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp.features.stability import page as stability_view
from cahp.features.stability.measuring import Axis, Stability
from cahp.run.bench import Bench
from cahp.values import Progress, SpaceError


def tried(app: AppTest, key: str = "stability") -> AppTest:
    """Start what the page offers and wait for it: the worker may be busy with what tests before asked of it."""
    app.button(key=f"{key}-start").click().run()
    for job in app.session_state[f"{key}-memory"].values():
        assert job.wait(PATIENCE)
    return rerun(app)


@pytest.mark.nightly
def test_the_degrees_are_there_at_once_and_choices_are_evaluated_on_request() -> None:
    app = open_app("stability")
    assert [metric.label for metric in app.metric][:3] == ["Overlap of two choices", "Always kept", "Never kept"]
    assert len(app.get("plotly_chart")) == 3
    # The published rule is compared with its own selection, whatever is on the board.
    explorer_of(app).board.set_budget(40)
    assert "of the 13 heads that the published rule keeps" in text_of(rerun(app), "subheader")
    tried(app, "stability-choices")
    assert " choices cost " in text_of(app, "subheader")
    assert len(app.get("plotly_chart")) == 4


def test_seeds_are_resampled_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int | None]] = []

    def quick(bench: Bench, *, axis: Axis, resamples: int, budget: int | None, progress: Progress) -> Stability:
        asked.append((axis, resamples, budget))
        keep = np.zeros((2, bench.card.layers, bench.card.heads), dtype=np.bool_)
        keep[:, 0, :4] = True
        return Stability(axis, np.array([42, 43]), np.array([4, 4]), keep)

    monkeypatch.setattr(stability_view, "stability", quick)
    app = open_app("stability", state={"stability-axis": "seed", "stability-resamples": 6})
    assert not app.metric
    tried(app)
    assert asked == [("seed", 6, None)]
    assert app.metric[0].value == "1.00"
    assert app.metric[1].value == "4 of 72"
    assert (
        app.subheader[0].value
        == "Stable: another seed keeps nearly the same heads. Their number is stable: the rule stops at 4 clusters."
    )


def test_what_cannot_be_resampled_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Stability:
        raise SpaceError("12 texts are too few for resamples; use at least 20")

    monkeypatch.setattr(stability_view, "stability", refuse)
    app = tried(open_app("stability", state={"stability-axis": "sample"}))
    assert "too few for resamples" in text_of(app, "error")
    assert has_button(app, "stability-again")


@pytest.mark.browser
def test_the_page_shows_a_verdict_and_can_be_cancelled(open_page: Callable[[str], Page]) -> None:
    page = open_page("Stability")
    expect(page.get_by_role("heading", name="another degree keeps")).to_be_visible()
    page.locator(".st-key-stability-axis button").nth(2).click()
    page.locator(".st-key-stability-start button").click()
    page.get_by_role("button", name="Cancel").click()
    # Between two batches; a busy machine takes its time for one.
    expect(page.get_by_text("Stopped.")).to_be_visible(timeout=60_000)
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
