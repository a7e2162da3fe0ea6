from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.similarity import head_view
from cahp.values import Estimate


def test_where_no_answer_changed_no_interval_without_width_is_put_forward() -> None:
    nothing, little = Estimate(0.0, (0.0, 0.0), 311, "points"), Estimate(0.2, (-0.5, 1.0), 311, "points")
    assert head_view._sure(nothing, changed=0, n=311) == "no prediction changed, n = 311 texts"
    assert head_view._sure(little, changed=3, n=311) == "95 % interval −0.5 to 1.0, n = 311 texts"
