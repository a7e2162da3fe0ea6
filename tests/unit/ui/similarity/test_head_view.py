from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.similarity import head_view


def test_where_no_answer_changed_no_interval_without_width_is_put_forward() -> None:
    assert head_view._sure((0.0, 0.0), changed=0, n=311) == "no answer changed, n = 311 texts"
    assert head_view._sure((-0.5, 1.0), changed=3, n=311) == "95 % interval −0.5 to 1.0, n = 311 texts"
