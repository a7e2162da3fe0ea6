from unittest.mock import Mock

import pytest
from apps import PATIENCE, explorer_of, open_app, rerun, text_of
from streamlit.testing.v1 import AppTest

from cahp.features.stability import measuring
from cahp.features.stability.measuring import STABILITY, Stability, StabilityOptions
from cahp.run.bench import Bench
from cahp.ui.frame.panels import kind_of
from cahp.values import SpaceError


def measured(app: AppTest, button: str) -> AppTest:
    """Press a button and wait for what it measures: the worker may be busy with what tests before asked of it."""
    app.button(key=button).click().run()
    explorer = explorer_of(app)
    job = explorer.work.job(kind_of(STABILITY, StabilityOptions("seed")), explorer.board_state(explorer.recovery.ready))
    assert job is None or job.wait(PATIENCE)
    return rerun(app)


def test_the_page_opens_with_degrees_and_measures_seeds_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(bench: Bench, options: StabilityOptions) -> Stability:
        return Stability(options.vary, bench.card.layers, bench.card.heads, (42, 43), (4, 4), ((0, 1, 2, 3),) * 2)

    app = open_app("stability")
    assert "another degree keeps" in text_of(app, "markdown")
    app.selectbox(key="stability-option-vary").set_value("seed").run()
    refused = SpaceError("12 texts are too few to draw samples; use at least 20")
    monkeypatch.setattr(measuring, "measure_stability", Mock(side_effect=refused))
    measured(app, "stability-tab")
    assert "too few to draw samples" in text_of(app, "error")
    monkeypatch.setattr(measuring, "measure_stability", quick)
    measured(app, "stability-tab-again")
    assert "Stable, another seed keeps nearly the same heads: two choices overlap by 1.00" in text_of(app, "markdown")
    assert "4 of 72 heads are in every choice" in text_of(app, "caption")
