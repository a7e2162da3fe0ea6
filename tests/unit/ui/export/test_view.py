"""The Export page knows from the measurement whether a mask can be cut."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cahp.ui.export.view import View
from cahp.values import HeadMask


@pytest.mark.parametrize(
    ("kept", "document", "expected"),
    [
        ([0], SimpleNamespace(verified=SimpleNamespace(mask_equals_surgery=None)), True),
        ([0], SimpleNamespace(verified=SimpleNamespace(mask_equals_surgery=True)), False),
        ([0], None, False),
        ([0, 2], SimpleNamespace(verified=SimpleNamespace(mask_equals_surgery=None)), False),
    ],
)
def test_a_mask_is_one_only_if_a_layer_is_empty_and_could_not_be_cut(
    kept: list[int], document: Any, expected: bool
) -> None:
    assert View(HeadMask.of(kept, 2, 2), None, document, {}).masked_only is expected
