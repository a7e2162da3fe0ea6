"""A causal language model on the pages: its cache of keys and values takes the place of the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

import fakes
from conftest import page_script
from streamlit.testing.v1 import AppTest

from cahp.run.settings import Settings
from cahp.ui.session.explorer import Explorer
from cahp.ui.session.opening import Source
from cahp.ui.session.work import FIGURE, RUN


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[Explorer]:
    settings = Settings(
        model=str(fakes.save_language_model(tmp_path / "model", "causal", "llama")),
        data=str(fakes.write_data(tmp_path / "data", train=40, validation=20, test=5)),
        prompt=fakes.PROMPTS["causal"],
        answers=fakes.ANSWERS,
        budget="6",
        pool_size=8,
        projection="pca",
        latency=False,
        device="cpu",
    )
    made = Explorer("somebody", Source.open(settings))
    assert made.work.start(RUN, made.bench).wait(120)
    yield made
    made.close()


def test_the_cache_is_shown_and_can_be_a_goal(explorer: Explorer) -> None:
    app = AppTest.from_file(page_script("budget"), default_timeout=120)
    app.session_state["cahp_explorer"] = explorer
    app.run()
    assert not app.exception
    explorer.board.set_budget(6)
    assert explorer.start(FIGURE).wait(60)
    app.run()
    assert any("50 % of the KV cache saved" in title.value for title in app.subheader)
    assert not any(button.key == "time-budget" for button in app.button)
    goals = app.radio(key="budget-goal")
    assert "Memory of the KV cache saved of at least (%)" in goals.options
    assert "Time saved of at least (%)" not in goals.options
    goals.set_value("kv-cache").run()
    app.button(key="goal-apply").click().run()
    assert not app.exception
    # 3 layers of 4 groups: 8 of 12 are the most that are at most 70 %.
    assert explorer.mask.count == 8
    assert any(
        "8 heads are the most that reach kv-cache=-30%: 0.67 × the full model's" in one.value for one in app.info
    )
    # The run's own heads are measured.
    explorer.board.set_budget(6)
    app = AppTest.from_file(page_script("export"), default_timeout=120)
    app.session_state["cahp_explorer"] = explorer
    app.run()
    assert not app.exception
    assert [metric.value for metric in app.metric if metric.label == "KV cache per token"] == ["0.50 ×"]
    assert any("192 instead of 384 bytes, in 4-byte numbers" in one.value for one in app.caption)
