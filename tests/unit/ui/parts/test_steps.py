"""What each step of a recovery brought, in words."""

from __future__ import annotations

import documents
import pytest

pytest.importorskip("streamlit", reason="the explorer's packages are not installed")

from cahp.ui.parts.steps import lines


def test_every_step_says_its_accuracy_its_agreement_and_what_it_changed() -> None:
    assert list(lines(documents.recovery_steps())) == [
        "as pruned: 33.1 % right (29.1 to 37.1), 53.1 % answered as with all heads",
        "refitted: 33.1 % right (29.1 to 37.1), 53.1 % answered as with all heads; not taken, so nothing changed, "
        "in 7 s",
        "distilled: 45.2 % right (41.2 to 49.2), 65.2 % answered as with all heads; +12.1 pp (10.1 to 14.1), in 2 min",
    ]
