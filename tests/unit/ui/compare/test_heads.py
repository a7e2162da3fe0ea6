from __future__ import annotations

import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.compare import heads


def test_where_all_keep_the_same_layers_nobody_is_nearest_to_an_end() -> None:
    assert heads._depth_title({"complementary": 1.0, "random": 1.0}, even=0.5) == (
        "All keep heads of mean layer 1.0; an even spread has 0.5"
    )
    assert "gradient nearest the input (0.5)" in heads._depth_title({"complementary": 1.0, "gradient": 0.5}, even=0.5)
