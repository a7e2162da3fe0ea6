from __future__ import annotations

import numpy as np
import pytest
from apps import PATIENCE, explorer_of, has_button, open_app, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.stability import page as stability_view
from cahp.features.stability.measuring import Axis, Stability
from cahp.run.bench import Bench
from cahp.values import Cancelled, Progress, SpaceError


def tried(app: AppTest, key: str = "stability") -> AppTest:
    """Start what the page offers and wait for it: the worker may be busy with what tests before asked of it."""
    app.button(key=key).click().run()
    for kind in (stability_view.RESAMPLE, stability_view.CHOICES):
        job = explorer_of(app).work.job(kind)
        assert job is None or job.wait(PATIENCE)
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
    assert "another degree keeps" in text_of(open_app("stability"), "subheader")
    tried(app)
    assert asked == [("seed", 6, None)]
    assert app.metric[0].value == "1.00"
    assert app.metric[1].value == "4 of 72"
    assert (
        app.subheader[0].value
        == "Stable: another seed keeps nearly the same heads. Their number is stable: the rule stops at 4 clusters."
    )


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [
        (SpaceError("12 texts are too few for resamples; use at least 20"), "error", "too few for resamples"),
        (Cancelled(), "info", "Stopped."),
    ],
)
def test_what_ends_without_a_result_is_said_in_a_sentence(
    end: Exception, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Stability:
        raise end

    monkeypatch.setattr(stability_view, "stability", refuse)
    app = tried(open_app("stability", state={"stability-axis": "sample"}))
    assert words in text_of(app, kind)
    assert has_button(app, "stability-again")
