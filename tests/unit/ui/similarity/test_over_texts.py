from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from streamlit.testing.v1 import AppTest


@pytest.mark.parametrize(
    ("change", "changed", "words"),
    [
        ((0.0, (0.0, 0.0)), 0, "no prediction changed, n = 311 texts"),
        ((0.2, (-0.5, 1.0)), 3, "95 % interval −0.5 to 1.0, n = 311 texts"),
    ],
)
def test_where_no_prediction_changed_no_interval_without_width_is_shown(
    change: tuple[float, tuple[float, float]], changed: int, words: str
) -> None:
    def draw(change: tuple[float, tuple[float, float]], changed: int) -> None:
        from types import SimpleNamespace

        from cahp.ui.similarity import over_texts
        from cahp.values import Estimate, HeadMask

        removal = SimpleNamespace(
            change=Estimate(*change, 311, "points"),
            mean_rise=Estimate(0.0, (-0.1, 0.1), 311, "nats"),
            full=range(311),
            changed=changed,
        )
        over_texts._draw_removal(removal, 3, HeadMask.full(6, 12))  # type: ignore[arg-type]

    app = AppTest.from_function(draw, args=(change, changed)).run()
    assert not app.exception
    assert app.caption[0].value == words
